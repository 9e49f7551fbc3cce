"""The run matrix on the screen: what stands in it, sorting, filtering, keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from eyes import Eyes
from plan_folder import PlanFolder
from recorded import RecordedRun

from core.manifests.hashing import HashCache
from core.queue.execution import PlanExecution
from core.runs.row import Figures, Row, Wer
from core.runs.status import Status
from lora_tui.dashboard.reading.plan_rows import PlanRows
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.reading.snapshots import Want
from lora_tui.dashboard.screens.matrix import matrix_of, sort_rows

Make = Callable[..., Any]
GOOD = Figures(
    word="accepted", domain=Wer(baseline=22.5, now=20.0, change=-2.5), heldout=Wer(change=0.1),
    criteria=(("convergence", "PASS"),), note="no reason",
    settings={"train": {"learning_rate": 1e-4, "steps": 10}, "adapter": {"method": "dora"}},
)  # fmt: skip
BAD = Figures(
    word="rejected", domain=Wer(change=-0.5),
    settings={"train": {"learning_rate": 5e-5, "steps": 10}, "adapter": {"method": "lora"}},
)  # fmt: skip
ROWS = [
    Row("h", "exp_1", Status.HISTORY, "unstable", title="before", planned=False),
    Row("1", "2.1", Status.DONE, figures=GOOD),
    Row("2", "2.2", Status.FAILED, "no memory\x1b[31m", figures=BAD),
    Row("3", "3.1", Status.SKIPPED, "2.1: not stable"),
]


def column(matrix: Any, heading: str) -> list[str]:
    return [cells[matrix.headings.index(heading)].text for _, cells in matrix.rows]


def test_the_settings_that_differ_are_columns_and_nothing_is_left_out() -> None:
    matrix = matrix_of(ROWS)
    assert "learning_rate" in matrix.headings and "method" in matrix.headings and "train.steps" not in matrix.headings
    assert column(matrix, "learning_rate") == ["–", "0.0001", "5e-05", "–"]
    assert column(matrix, "where it stands") == [
        "earlier result: unstable",
        "done",
        "failed: no memory␛[31m",
        "skipped: 2.1: not stable",
    ]
    assert column(matrix, "state") == ["history", "done", "failed", "skipped"]
    assert column(matrix, "convergence")[1] == "✓ PASS" and "−2.50" in column(matrix, "domain change")


def test_settings_that_are_called_like_another_column_have_one_of_their_own() -> None:
    rows = [
        Row(str(n), "2.1", figures=Figures(settings={"train": {"steps": n}, "data": {"heldout": f"{n}.jsonl"}}))
        for n in (10, 20)
    ]
    matrix = matrix_of(rows)
    assert len(set(matrix.headings)) == len(matrix.headings)
    assert column(matrix, "train.steps") == ["10", "20"]
    assert column(matrix, "data.heldout") == ["10.jsonl", "20.jsonl"]


def test_sorting_puts_what_is_unknown_last_both_ways() -> None:
    matrix = matrix_of(ROWS)
    assert column(sort_rows(matrix, "domain change", descending=False), "domain change") == ["−2.50", "−0.50", "–", "–"]
    assert column(sort_rows(matrix, "domain change", descending=True), "domain change") == ["−0.50", "−2.50", "–", "–"]
    assert column(sort_rows(matrix, "learning_rate", descending=False), "learning_rate")[0] == "5e-05"
    assert sort_rows(matrix, "no such", descending=True) == matrix


def test_keys_of_the_matrix(make_run: Make, make_app: Make, eyes: type[Eyes]) -> None:
    make_run("2.1", "0" * 10).train(1000).finish()
    make_run("3.1", "1" * 10, learning_rate=5e-5, title="[bold]slow").train(300)

    async def look() -> None:
        app = make_app()
        async with app.run_test(size=(160, 40)) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ 3.1", "✓ accepted")
            await pilot.press("M")
            await seen.see_on_screen("run matrix", "2 of 2 rows", "3.1 [bold]slow", "−5.00", "convergence")
            # The column of the gain, by the keys.
            await pilot.press("l", "l", "l", "o")
            await seen.see_on_screen("by domain change", "domain change ▲")
            await pilot.press("o")
            await seen.see_on_screen("by domain change, falling", "domain change ▼")
            await pilot.press("O")
            await seen.see_on_screen("in the plan's order")
            await pilot.press("slash", *"lr<1e-4")
            await seen.see_on_screen("1 of 2 rows")
            await pilot.press("enter", "escape")
            await seen.see_on_screen("2 of 2 rows")
            await pilot.press("G", "j", "k", "g")
            await pilot.press("enter")
            await seen.see("▸ 2.1")
            await pilot.press("M", "escape")
            await seen.see("▸ 2.1")

    asyncio.run(look())


def test_the_headings_sort_by_mouse_and_it_is_remembered(folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.write('[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n[[history]]\nid = "old"\n')
    folder.runs.state.mkdir()

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(160, 40)) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a")
            await pilot.press("M")
            await seen.see_on_screen("3 of 3 rows", "history", "seed")
            await pilot.click("MatrixTable", offset=(3, 0))
            await seen.see_on_screen("by experiment")
        app = queue_app()
        async with app.run_test(size=(160, 40)) as pilot:
            await eyes(app, pilot).see("▸ a")
            await pilot.press("M")
            await eyes(app, pilot).see_on_screen("by experiment")

    asyncio.run(look())


def test_a_run_of_the_plan_is_told_apart_by_what_the_plan_says(folder: PlanFolder) -> None:
    """Its run.json has absolute paths and what was left open: such columns pushed those that differ off the screen."""
    folder.write('[[experiment]]\nid = "a"\nsweep."train.learning_rate" = [1e-5, 2e-5]\n')
    folder.runs.root.mkdir()
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    resolved = execution.assigned["a#1"].resolved
    planned = {"settings": asdict(resolved.settings), "hashes": resolved.hashes, "lines": resolved.lines}
    RecordedRun(folder.runs.root, "a", resolved.identity, planned=planned).train(300)
    source = FolderSource(folder.runs, PlanRows(folder.plan, folder.runs), caches=False)
    board = source.read(Want())
    while source.pending or board.loading or board.rows[0].verdict is None:
        board = source.read(Want())
    headings = matrix_of(board.rows).headings
    assert "learning_rate" in headings
    assert not {"data.domain", "target_modules", "rank_pattern", "model.id"} & set(headings), headings
