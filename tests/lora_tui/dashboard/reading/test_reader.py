"""The thread that reads: only what changed is handed over, and nothing in a file stops it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plan_folder import PlanFolder
from waiting import DEADLINE_S, wait_for

from core.runs.paths import RunsFolder
from lora_tui.dashboard.app import Dashboard
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.reading.plan_rows import PlanRows
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.reading.snapshots import Board, Want
from lora_tui.dashboard.reading.source import ReaderThread

Make = Callable[..., Any]


def source(tmp_path: Path, plan: Path | None = None) -> FolderSource:
    runs = RunsFolder(tmp_path / "runs", tmp_path / "runs")
    return FolderSource(runs, PlanRows(plan, runs) if plan is not None else None)


def settled(reading: FolderSource, want: Want) -> Board:
    """The board once nothing new comes."""
    seen = [reading.read(want)]

    def rests() -> bool:
        seen.append(reading.read(want))
        return seen[-1] == seen[-2] and not seen[-1].loading

    wait_for(rests)
    return seen[-1]


def test_a_folder_without_runs_or_plan(tmp_path: Path) -> None:
    board = source(tmp_path).read(Want())
    assert board.rows == () and board.plan is None
    assert not (tmp_path / "runs").exists()


def test_runs_without_a_plan_are_judged_by_the_thresholds_that_they_record(tmp_path: Path, make_run: Make) -> None:
    run = make_run().train(1000).finish()
    board = settled(source(tmp_path), Want(f"run:{run.paths.name}"))
    [row] = board.rows
    assert row.key == "2.1" and row.status == "done" and row.word == "accepted" and row.figures.best_step == 500
    assert board.selected is not None and len(board.selected.heldout) == 5


def test_a_board_that_nothing_happens_on_stays_equal(tmp_path: Path, make_run: Make) -> None:
    make_run().train(1000).finish()
    reading = source(tmp_path)
    board = settled(reading, Want())
    assert all(reading.read(Want()) == board for _ in range(5))


def test_new_steps_are_seen(tmp_path: Path, make_run: Make) -> None:
    run = make_run().train(400)
    reading, want = source(tmp_path), Want(f"run:{run.paths.name}")
    assert settled(reading, want).rows[0].figures.steps == 400
    run.paths.events.unlink()
    fresh = make_run().train(600)
    board = settled(reading, want)
    assert board.rows[0].figures.steps == 600 and fresh.paths.name in board.rows[0].id
    assert board.selected is not None and len(board.selected.snapshot.steps) == 600


def test_files_full_of_rubbish_are_a_row_like_any_other(tmp_path: Path, make_run: Make) -> None:
    run = make_run().train(1000).finish()
    bad = tmp_path / "runs" / "bad-0000000000"
    bad.mkdir()
    (bad / "run.json").write_text('{"settings": [1], "title": ["x"], "gate": {"domain_gain": "much"}, "experiment": 7}')
    (bad / "events.jsonl").write_bytes(os.urandom(5000) + b'\n{"event": "step"}\n')
    (bad / "log.txt").write_bytes(os.urandom(3000))
    (bad / "evals").write_text("not a folder")
    board = settled(source(tmp_path), Want("run:bad-0000000000"))
    assert {row.run.name for row in board.rows if row.run} == {run.paths.name, "bad-0000000000"}


def test_a_thousand_runs_show_at_once(tmp_path: Path) -> None:
    for i in range(1000):
        folder = tmp_path / "runs" / f"x{i}-{i:010d}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text('{"experiment": "x"}')
    assert len(source(tmp_path).read(Want()).rows) == 1000, "the first board has them all"


def test_rows_of_a_plan_say_what_they_wait_for(tmp_path: Path, folder: PlanFolder) -> None:
    folder.write('[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\nafter = ["a"]\nwhen = "stable"\n')
    board = settled(source(tmp_path, folder.plan), Want())
    assert [(row.key, row.status, row.reason) for row in board.rows] == [
        ("a", "not run", ""),
        ("b", "not run", "after a; if stable"),
    ]


def test_a_broken_plan_is_told_and_read_again_when_it_is_mended(tmp_path: Path, folder: PlanFolder) -> None:
    folder.plan.write_text("[nonsense\n")
    reading = source(tmp_path, folder.plan)
    assert "experiments.toml:1" in settled(reading, Want()).problems[0]
    folder.write()
    board = settled(reading, Want())
    assert board.problems == () and [row.key for row in board.rows] == ["a"]


def test_nothing_is_handed_over_until_the_last_board_was_taken() -> None:
    class Counting:
        def __init__(self) -> None:
            self.reads = 0

        pending = False

        def read(self, want: Want) -> Board:
            self.reads += 1
            return Board(where=str(self.reads))

    got: list[Board] = []
    errors: list[Exception] = []
    came = threading.Event()
    counting = Counting()
    thread = ReaderThread(counting, 0.001, lambda board: (got.append(board), came.set())[0], errors.append)
    thread.start()
    assert came.wait(DEADLINE_S)
    wait_for(lambda: counting.reads >= 20)
    assert len(got) == 1
    came.clear()
    thread.taken()
    assert came.wait(DEADLINE_S) and len(got) == 2 and int(got[1].where) >= 20
    thread.stop()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_only_changes_are_handed_over() -> None:
    class Same:
        reads = 0

        pending = False

        def read(self, want: Want) -> Board:
            self.reads += 1
            return Board("here")

    got: list[Board] = []
    errors: list[Exception] = []
    same = Same()
    thread = ReaderThread(same, 0.001, got.append, errors.append)
    thread.start()
    wait_for(lambda: (thread.taken(), same.reads >= 10)[1])
    thread.stop()
    thread.join(DEADLINE_S)
    assert len(got) == 1 and not errors


def test_an_error_while_reading_ends_the_dashboard_instead_of_leaving_it_still() -> None:
    class Broken:
        pending = False

        def read(self, want: Want) -> Board:
            raise ZeroDivisionError("in our code")

    async def look() -> None:
        app = Dashboard(Broken(), Options(refresh_s=0.05), lambda: None)  # type: ignore[arg-type,return-value]
        async with app.run_test() as pilot:
            for _ in range(100):
                if app.failure is not None and app._exit:
                    break
                await pilot.pause(0.05)
            assert isinstance(app.failure, ZeroDivisionError) and app._exit

    asyncio.run(look())


def test_histories_of_gone_runs_are_swept(tmp_path: Path, make_run: Any) -> None:
    run = make_run().train(10)
    runs = RunsFolder(run.paths.root.parent, tmp_path / "state")
    kept, gone = runs.history_cache(run.paths.name), runs.history_cache("gone-0123456789")
    kept.parent.mkdir(parents=True)
    left = gone.with_name(f".{gone.name}.x7f")
    for path in (kept, gone, left):
        path.touch()
    reading = FolderSource(runs, None)
    for _ in range(3):
        reading.read(Want())
    assert kept.exists() and not gone.exists() and not left.exists()
