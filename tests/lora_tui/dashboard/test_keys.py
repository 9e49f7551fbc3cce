"""Every key, on a recorded run: what it shows, and that it is only offered where it does something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eyes import Eyes
from plan_folder import PlanFolder
from textual.widgets import Input

from core.runs.paths import RunPaths
from core.runs.row import Figures, Row, Wer
from core.runs.status import Status
from core.scoring.side_by_side import align, compare
from lora_tui.dashboard.messages import Asked
from lora_tui.dashboard.plots.view import View, move_cursor, pan, zoom
from lora_tui.dashboard.screens.board import BOARD_KEYS
from lora_tui.dashboard.text.filters import parse
from lora_tui.dashboard.text.run_pages import clip_lines

Make = Callable[..., Any]


@pytest.mark.parametrize("opened_by", ["question_mark", "M", "enter", "ctrl+p"])
def test_a_screen_that_is_told_to_close_again_and_again_closes_alone(
    make_run: Make, make_app: Make, eyes: type[Eyes], opened_by: str
) -> None:
    """As when a slow connection hands over many keys at once."""
    make_run("2.1", "0" * 10).train(1000).finish()

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(120, 40)) as pilot:
            await eyes(app, pilot).see("▸ 2.1", "✓ accepted", "✓ PASS")
            board = app.screen
            await pilot.press(opened_by)
            for _ in range(100):
                await pilot.pause(0.05)
                if app.screen is not board:
                    break
            top = app.screen
            assert top is not board
            for _ in range(3):
                top.dismiss(None)
            await eyes(app, pilot).see("▸ 2.1")
            await pilot.press("question_mark")
            await eyes(app, pilot).see("Keys")

    asyncio.run(look())


def test_keys_and_what_they_do_do_not_run_together_in_the_help_of_a_run(
    make_run: Make, make_app: Make, eyes: type[Eyes]
) -> None:
    make_run("2.1", "0" * 10).train(1000).finish()

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(120, 40)) as pilot:
            see = eyes(app, pilot).see
            await see("▸ 2.1", "✓ accepted", "✓ PASS")
            await pilot.press("enter")
            await see("intervals")
            await pilot.press("question_mark")
            await see("Keys", "ctrl+d Page down")

    asyncio.run(look())


def test_help_filter_zoom_pin_and_escape(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run("2.1", "0" * 10).train(1000).finish()
    make_run("3.1", "1" * 10, learning_rate=5e-5).train(1000).finish()

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(120, 40)) as pilot:
            see = eyes(app, pilot).see
            await see("▸ 2.1", "✓ accepted", "✓ PASS")
            await pilot.press("question_mark")
            await see("Keys", "Zoom in", "Filter")
            await pilot.press("G")
            await see("95 % intervals", "Closing the dashboard stops nothing")
            await pilot.press("escape")
            await see("▸ 2.1")

            await pilot.press("slash", *"lr<1e-4")
            await see("▸ 3.1")
            assert "2.1 " not in eyes(app, pilot).text()
            await pilot.press("enter", "escape")
            await see("2.1", "3.1")
            await pilot.press("slash", *"nothing")
            await see("No row matches `nothing`")
            await pilot.press("escape")
            await see("▸ ")
            assert not app.screen.query_one(Input).display

            await pilot.press("g", "plus", "plus")
            await see("zoomed")
            await pilot.press("right", "left", "0")
            assert "zoomed" not in eyes(app, pilot).text()
            await pilot.press("comma")
            await see(" at 500")
            await pilot.press("escape")
            assert " at 500" not in eyes(app, pilot).text()
            await pilot.press("y")
            await see("  log")
            await pilot.press("y", "r")
            await see("loss  at ★ 500", "├─ learning rate ", "1e-4│")
            await pilot.press("r")
            await see("├─ gradient norm ")
            await pilot.press("r", "r", "x")
            await see("min")
            await pilot.press("x", "m")
            await pilot.press("c", "j")
            await see("a 2.1")
            await pilot.press("escape", "escape", "escape")
            assert app.is_running and "a 2.1" not in eyes(app, pilot).text()
            await pilot.press("q")
        assert app.return_code == 0

    asyncio.run(look())


def test_the_pages_of_a_run(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run(title="[bold]x\x1b[31m").train(1000).finish("first\rsecond\n\x1b[31mred\x1b[0m\n")

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(120, 40)) as pilot:
            see = eyes(app, pilot).see
            await see("✓ accepted", "✓ PASS")
            await pilot.press("enter")
            await see("[1 intervals]", "★     500", "domain WER", "35.00", "[bold]x␛[31m", "Convergence:")
            await pilot.press("2")
            await see("identity  0123456789", "learning_rate", "events.jsonl", "-> adapters/step-000500")
            await pilot.press("tab")
            text = await see("[3 log]", "second", "red")
            assert "first" not in text
            await pilot.press("4")
            await see("words fixed", "most fixed first", "base", "tuned", "[too]")
            await pilot.press("o")
            await see("most broken first")
            await pilot.press("d")
            await see("heldout: ")
            await pilot.press("G", "k", "pagedown", "escape")
            await see("▸ 2.1")

    asyncio.run(look())


def test_keys_that_would_do_nothing_are_not_offered(
    make_run: Make, make_app: Make, eyes: type[Eyes], folder: PlanFolder
) -> None:
    make_run().train(1000).finish()
    folder.write()

    async def offered(**options: Any) -> set[str]:
        app = make_app(**options)
        async with app.run_test(size=(120, 40)) as pilot:
            await eyes(app, pilot).see("▸ ", "✓ accepted")
            await pilot.press("G")
            await eyes(app, pilot).see("✓ PASS")
            await pilot.pause(0.2)
            return {active.binding.description for active in app.screen.active_bindings.values() if active.enabled}

    without_plan = asyncio.run(offered())
    assert {"Open", "Filter", "Help", "Quit", "Pin"} <= without_plan
    assert not {"Start", "Stop", "Kill", "Export", "Pan left", "Reset zoom"} & without_plan
    assert {"Start", "Export"} <= asyncio.run(offered(plan=folder.plan))
    assert not {"Start", "Stop", "Kill", "Export"} & asyncio.run(offered(plan=folder.plan, readonly=True))


def test_every_key_of_the_board_says_what_it_does() -> None:
    keys = [key for binding in BOARD_KEYS for key in binding.key.split(",")]  # type: ignore[union-attr]
    assert len(keys) == len({*keys}) + 1  # p holds, or releases what is held
    assert all(binding.description for binding in BOARD_KEYS)  # type: ignore[union-attr]


def test_export_writes_the_run_matrix_and_kill_asks(
    make_run: Make, make_app: Make, eyes: type[Eyes], folder: PlanFolder
) -> None:
    make_run().train(1000).finish()
    folder.write()

    async def look() -> None:
        app = make_app(plan=folder.plan)
        async with app.run_test(size=(120, 40)) as pilot:
            await eyes(app, pilot).see("▸ ", "✓ accepted")
            await pilot.press("e")
            for _ in range(100):
                await pilot.pause(0.05)
                if app.actions._runs.matrix.exists():
                    break
            assert "Run matrix" in app.actions._runs.matrix.read_text()
            app.post_message(Asked("kill_all"))
            await eyes(app, pilot).see("Kill all trainers now?", "y: yes")
            await pilot.press("n")
            await eyes(app, pilot).see("▸ ")

    asyncio.run(look())


ACCEPTED = Figures(word="accepted", learning_rate=1e-4, domain=Wer(now=20.0))
OPEN = Figures(word="undecided", learning_rate=5e-5, domain=Wer(now=30.0))
ROWS = [
    Row("1", "2.1", Status.DONE, title="LoRA", figures=ACCEPTED, run=RunPaths(Path("2.1-a"))),
    Row("2", "2.2#1", Status.TRAINING, figures=OPEN),
    Row("3", "3.1", Status.SKIPPED),
]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ["2.1", "2.2#1", "3.1"]),
        ("id:2", ["2.1", "2.2#1"]),
        ("lr>=1e-4", ["2.1"]),
        ("verdict:pass", ["2.1"]),
        ("verdict:undecided training", ["2.2#1"]),
        ("LORA", ["2.1"]),
        ("wer<25 state:done", ["2.1"]),
        ("nonsense:3", ["2.1", "2.2#1", "3.1"]),
        ("lr>much", ["2.1", "2.2#1", "3.1"]),
    ],
)
def test_filters(text: str, keys: list[str]) -> None:
    passes, problem = parse(text)
    assert [row.key for row in ROWS if passes(row)] == keys
    assert (problem is not None) == (text in ("nonsense:3", "lr>much"))


def test_zooming_stays_inside_the_whole() -> None:
    view = View()
    for _ in range(40):
        view = zoom(view, 1000, 0.5)
    assert view.low is not None and view.high is not None and 0 < view.high - view.low < 1
    for _ in range(60):
        view = zoom(view, 1000, 2.0)
    assert view == View()
    half = pan(zoom(view, 1000, 0.5), 1000, 5)
    assert (half.low, half.high) == (500, 1000)
    assert move_cursor(View(), 1000, 1).cursor == 500
    assert move_cursor(View(cursor=999), 1000, 1).cursor == 1000


def test_words_are_aligned_and_counted() -> None:
    clip = compare("clip", "one two three four", "one too four five", "one two three four")
    assert (clip.fixed, clip.broken, clip.errors) == (2, 0, (3, 0))
    text = ["".join(t for t, _ in line) for line in clip_lines(clip, 60)]
    assert "[too]" in text[2] and "---" in text[2] and "+five" in text[2]
    assert text[1].index("three") == text[3].index("three") and "2 fixed, 0 broken" in text[0]
    assert compare("c", "", "", "").errors == (0, 0)
    assert compare("c", "", "a", "").errors == (1, 0)
    assert compare("c", "a b", "a b", "").broken == 2


def test_alignments_of_any_texts_rebuild_both() -> None:
    for reference, hypothesis in (("a b c", "x a c c"), ("a", ""), ("", "b c"), ("a b a b", "b a b a")):
        slots = align(reference.split(), hypothesis.split())
        words = [slot.word for group in slots for slot in group if slot.kind != "del"]
        assert words == hypothesis.split() and len(slots) == len(reference.split()) + 1


def test_long_clips_are_broken_at_the_width() -> None:
    clip = compare("c", " ".join(["word"] * 50), " ".join(["wort"] * 50), " ".join(["word"] * 50))
    lines = ["".join(t for t, _ in line) for line in clip_lines(clip, 60)]
    assert max(map(len, lines)) <= 61 and sum("[wort]" in line for line in lines) > 3
