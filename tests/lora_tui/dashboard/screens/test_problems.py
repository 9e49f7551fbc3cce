"""The screen with the plan's problems: all of them, whole, at any width."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from eyes import Eyes
from plan_folder import PlanFolder
from rich.cells import cell_len

CHINESE = "这个实验的学习率比上一个小一半所以它收敛得更慢"


@pytest.mark.parametrize("width", [40, 80])
def test_a_chinese_problem_is_whole(
    folder: PlanFolder, queue_app: Callable[..., Any], eyes: type[Eyes], width: int
) -> None:
    folder.write(f'[[experiment]]\nid = "a"\ntrain.schedule = "{CHINESE}"\n')
    folder.runs.root.mkdir()

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(width, 24)) as pilot:
            seen = eyes(app, pilot)
            await seen.see("schedule")
            await pilot.press("P")
            await seen.see("problems of")
            await pilot.pause()
            lines = seen.text().splitlines()
            assert CHINESE in "".join("".join(lines).split())
            assert max(map(cell_len, lines)) <= width

    asyncio.run(look())
