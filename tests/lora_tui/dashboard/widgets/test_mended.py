"""What the footer holds on to."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

from eyes import Eyes

Make = Callable[..., Any]


def test_keys_that_left_the_footer_are_not_kept(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run().train(1000).finish()

    async def look() -> None:
        from textual.widgets._footer import FooterKey

        app = make_app()
        async with app.run_test(size=(120, 40)) as pilot:
            await eyes(app, pilot).see("✓ accepted")
            for _ in range(15):
                await pilot.press("plus")
                await pilot.press("0")
            gc.collect()
            keys = [key for key in gc.get_objects() if isinstance(key, FooterKey)]
            shown = [key for key in keys if key.is_attached]
            assert shown and len(keys) <= 3 * len(shown)

    asyncio.run(look())


def test_the_palettes_key_takes_no_other_keys_place(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run().train(1000).finish()

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(120, 40)) as pilot:
            seen = eyes(app, pilot)
            await seen.see_on_screen("✓ accepted", "q Quit", "^p palette")
            await pilot.resize_terminal(62, 40)
            await seen.gone("^p palette")
            await seen.see_on_screen("q Quit")
            await pilot.resize_terminal(120, 40)
            await seen.see_on_screen("^p palette")

    asyncio.run(look())
