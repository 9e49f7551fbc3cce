"""Adding an experiment in a form, the plan's problems, what is remembered, and the mouse over the plots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from eyes import Eyes
from plan_folder import PlanFolder
from textual.events import Key
from textual.widgets import Input

from lora_tui.dashboard.memory import Memory, read_memory, write_memory
from lora_tui.dashboard.plots.board_plots import Plots, PlotView

Make = Callable[..., Any]
PLAN = '[[experiment]]\nid = "a"\n\n# a comment that stays\n[[history]]\nid = "old"\n'


def field(app: Any, key: str) -> Input:
    return next(one for one in app.screen.query(Input) if one.name == key)


def test_an_experiment_is_added_as_an_edited_copy(folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.write(PLAN)
    folder.runs.root.mkdir()
    before = folder.plan.read_text()

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a")
            await pilot.press("a")
            await seen.see_on_screen("new experiment", "a copy of a", "a-2", "train.learning_rate", "is added")
            await pilot.press("down", "up")
            field(app, "train.steps").value = "none"
            await seen.see_on_screen("wrong:", "train.steps")
            await pilot.press("ctrl+s")
            await seen.see_on_screen("mend what is said below")
            assert folder.plan.read_text() == before
            field(app, "train.steps").value = "40"
            await seen.see_on_screen("train.steps = 40")
            await pilot.press("ctrl+s")
            await seen.see("a-2")
            await seen.see_on_screen("a-2 is in experiments.toml")
        assert "# a comment that stays" in folder.plan.read_text() and "train.steps = 40" in folder.plan.read_text()

    asyncio.run(look())


def test_the_arrows_go_through_all_fields_where_not_all_of_them_fit(
    folder: PlanFolder, queue_app: Make, eyes: type[Eyes]
) -> None:
    folder.write(PLAN)
    folder.runs.root.mkdir()

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(80, 24)) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a")
            await pilot.press("a")
            await seen.see_on_screen("new experiment")
            names = [one.name for one in app.screen.query(Input)]
            await pilot.press(*["down"] * (len(names) - 1))
            await seen.see_on_screen(f"{names[-1]}: ")
            assert app.focused.name == names[-1]
            await pilot.press("up")
            assert app.focused.name == names[-2]

    asyncio.run(look())


def test_keys_that_come_in_one_breath_are_taken_in_their_order(
    folder: PlanFolder, queue_app: Make, eyes: type[Eyes]
) -> None:
    folder.write(PLAN)
    folder.runs.root.mkdir()

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(120, 40)) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a")
            await pilot.press("a")
            await seen.see_on_screen("new experiment", "a-2")
            for key, character in (("ctrl+u", "\x15"), ("x", "x"), ("y", "y"), ("backspace", "\x7f"), ("z", "z")):
                app.post_message(Key(key, character))
            await seen.see_on_screen('id = "xz"')
            assert field(app, "id").value == "xz"

    asyncio.run(look())


def test_a_plan_that_changed_meanwhile_is_left_alone_and_escape_writes_nothing(
    folder: PlanFolder, queue_app: Make, eyes: type[Eyes]
) -> None:
    folder.write(PLAN)
    folder.runs.root.mkdir()

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a")
            await pilot.press("a")
            await seen.see_on_screen("new experiment")
            await pilot.press("escape")
            await seen.see("▸ a")
            await pilot.press("a")
            await seen.see_on_screen("new experiment")
            folder.plan.write_text(folder.plan.read_text() + "# edited by hand\n")
            await pilot.press("ctrl+s")
            await seen.see_on_screen("meanwhile")
            assert folder.plan.read_text().endswith("# edited by hand\n") and "a-2" not in folder.plan.read_text()

    asyncio.run(look())


def test_adding_and_queueing_in_one(folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.write(PLAN)
    folder.runs.root.mkdir()

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await eyes(app, pilot).see("▸ a")
            await pilot.press("a")
            await eyes(app, pilot).see_on_screen("new experiment")
            field(app, "adapter.rank").value = "4"
            await pilot.press("ctrl+r")
            await eyes(app, pilot).see("a-2", "queued")
            [submission] = folder.db.open_submissions()
            assert "adapter.rank = 4" in submission.plan_text

    asyncio.run(look())


def test_the_problems_of_a_plan_have_a_page(folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.plan.write_text("[train]\nstepz = 3\nlearning_rate = 'fast'\n")

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(100, 30)) as pilot:
            seen = eyes(app, pilot)
            await seen.see("The plan cannot be read", "plan is broken (P)")
            await pilot.press("P")
            await seen.see("experiments.toml:2", "stepz: unknown key", "experiments.toml:3", "problems of")
            folder.write(PLAN)
            await seen.see("The plan has no problems any more.")
            await pilot.press("escape")
            await seen.see("▸ a")

    asyncio.run(look())


def test_theme_layout_filter_and_looks_are_remembered(folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.write('[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n')
    folder.runs.state.mkdir()

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a")
            await pilot.press("ctrl+t")
            await seen.see_on_screen("theme: lora-light")
            await pilot.press("z")
            await seen.see_on_screen("layout: plots")
            await pilot.press("slash", *"id:b", "enter")
            await seen.see("▸ b")
        found = read_memory(folder.runs.dashboard_memory)
        assert (found.theme, found.emphasis, found.filter) == ("lora-light", "plots", "id:b")
        app = queue_app()
        async with app.run_test(size=(120, 40)) as pilot:
            text = await eyes(app, pilot).see("▸ b")
            assert (
                "  a " not in text.partition("ends ")[0]
                and app.theme == "lora-light"
                and app.screen.query_one(Input).value == "id:b"
            )
            await pilot.press("escape")
            await eyes(app, pilot).see("  a ")

    asyncio.run(look())


@pytest.mark.parametrize(
    "bytes_",
    [b"", b"\xff\xfe{", b"[1, 2]", b'{"theme": 3, "filter": ["x"], "emphasis": "huge", "smoothing": true}',
     b'{"filter": "\\u001b]52;c;x\\u0007"}', b"{" * 5000],
)  # fmt: skip
def test_a_broken_memory_never_blocks(bytes_: bytes, folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.write(PLAN)
    folder.runs.state.mkdir()
    folder.runs.dashboard_memory.write_bytes(bytes_)
    assert read_memory(folder.runs.dashboard_memory) == Memory()

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(80, 24)) as pilot:
            await eyes(app, pilot).see("▸ a")

    asyncio.run(look())


def test_memory_survives_a_round_trip_and_needs_its_folder(tmp_path: Any) -> None:
    kept = Memory(theme="lora-light", filter="id:2", smoothing=100, log_y=True, sort="gain", descending=True)
    write_memory(tmp_path / "none" / "dashboard.json", kept)
    assert not (tmp_path / "none").exists()
    write_memory(tmp_path / "dashboard.json", kept)
    assert read_memory(tmp_path / "dashboard.json") == kept


def test_the_mouse_zooms_pans_points_and_resets(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run().train(1000).finish()

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(120, 40)) as pilot:
            seen = eyes(app, pilot)
            await seen.see("✓ accepted", "✓ PASS")
            plots, plot = app.screen.query_one(Plots), app.screen.query_one("#loss", PlotView)
            await pilot.click("#loss", offset=(plot.size.width // 2 + 2, 5))
            await seen.see(" at 4")
            assert plots.view.cursor == pytest.approx(440, abs=60)
            for _ in range(3):
                plot.post_message(scroll(plot, 30))
            await seen.see("zoomed")
            low, high = plots.view.low, plots.view.high
            assert low is not None and high is not None and high - low == pytest.approx(512, abs=1)
            under = low + (high - low) * (30 - 7) / (plot.size.width - 8)
            assert under == pytest.approx(1000 * (30 - 7) / (plot.size.width - 8), abs=2)
            await pilot.mouse_down("#loss", offset=(20, 5))
            await pilot.hover("#loss", offset=(25, 5))
            await pilot.mouse_up("#loss", offset=(25, 5))
            assert plots.view.low is not None and plots.view.low < low
            await pilot.click("#loss", offset=(20, 5), times=2)
            assert plots.view.low is None and plots.view.cursor is None

    asyncio.run(look())


def scroll(plot: PlotView, x: int) -> Any:
    from textual.events import MouseScrollUp

    return MouseScrollUp(plot, x, 5, 0, 0, 0, False, False, False)
