"""The page of a run's verdict: what an accepted adapter is loaded and heard with, and how it was judged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from eyes import Eyes

from core.runs.row import Row
from core.scoring.evidence import Thresholds
from lora_tui.dashboard.reading.watch import Watch
from lora_tui.dashboard.text.ship_page import ship_lines, ship_text

Make = Callable[..., Any]


def seen(run: Any) -> tuple[Any, Row]:
    watch = Watch(run.paths)
    watch.refresh(Thresholds())
    row = watch.row(Row("x", "2.1"))
    return watch.view(row), row


def test_an_accepted_run_says_how_its_adapter_is_taken_away(make_run: Make) -> None:
    run = make_run().train(1000).finish()
    view, row = seen(run)
    text = ship_text(view, row)
    best, digest = run.paths.best.absolute(), view.judged.evidence.artifact.current_hash
    assert text.startswith("# SHIP 2.1 step 500: ")
    for line in (
        f"# {best}", f"# hash {digest}, step 500", f"model = PeftModel.from_pretrained(base, {json.dumps(str(best))})",
        f"lora-cli merge {run.paths.root} -o merged", f"lora-cli transcribe talk.wav --adapter {best}",
        f"lora-tui verify {run.paths.root}",
    ):  # fmt: skip
        assert line in text.splitlines(), text
    assert text.count("lora-cli evaluate ") == 2 and "# PASS Domain change −5.00 ≤ −1 points" in text
    shown = ["".join(part for part, _ in line) for line in ship_lines(view, row, 100)]
    assert all(len(line) <= 100 for line in shown) and any("95 % interval" in line for line in shown)


@pytest.mark.parametrize("steps", [300, 1000])
def test_what_does_not_ship_has_no_commands(make_run: Make, steps: int) -> None:
    view, row = seen(make_run().train(steps))
    shown = "\n".join("".join(part for part, _ in line) for line in ship_lines(view, row, 100))
    assert "It does not ship: " in shown and "lora-cli" not in ship_text(view, row) and "Stability" in shown


def test_names_from_outside_are_text_in_the_commands(make_run: Make) -> None:
    run = make_run().train(1000).finish()
    config = json.loads(run.paths.config.read_text())
    config["settings"]["model"]["id"] = 'a"); import os; os.system("x\n\x1b[31m'
    run.paths.config.write_text(json.dumps(config))
    view, row = seen(run)
    text = ship_text(view, row)
    assert "\x1b" not in text
    assert not any(line.startswith(("import os", "os.system")) for line in text.splitlines())


def test_its_key_opens_the_page_and_copies_it(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run().train(1000).finish()

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await eyes(app, pilot).see_on_screen("SHIP 2.1", "S Adapter")
            await pilot.press("S")
            await eyes(app, pilot).see_on_screen("[6 verdict]", "SHIP 2.1 step 500", "PeftModel", "y Copy")
            await pilot.press("y")
            await eyes(app, pilot).see_on_screen("on the clipboard")
            assert app.clipboard.startswith("# SHIP 2.1 step 500")

    asyncio.run(look())
