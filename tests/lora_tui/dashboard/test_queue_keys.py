"""The keys that act on the queue, over a real queue file; and over a real supervisor with FakeTrainers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eyes import Eyes
from plan_folder import PlanFolder

from core.queue.journal import Journal, Request, Skip, Start, Submitted
from core.queue.requests import Target
from core.queue.rows import QueueRows, queue_rows
from core.runs.paths import RunPaths
from core.runs.row import Figures, Queued, Row
from core.runs.status import Status
from core.scoring.standing import Stand, Standing
from core.system.locks import KernelLock
from core.system.process import current_process
from lora_tui.dashboard.asks import allowed
from lora_tui.dashboard.reading import queue_state
from lora_tui.dashboard.reading.snapshots import Board
from lora_tui.dashboard.screens.board import ONLY_LOOKS
from lora_tui.dashboard.text.columns import fitting, row_pieces

Make = Callable[..., Any]
THREE = "".join(f'[[experiment]]\nid = "{name}"\ntrain.seed = {i}\n' for i, name in enumerate("abc"))
ALL = 'until = "all"'


def order(folder: PlanFolder) -> list[tuple[str, str]]:
    return [(row.key, row.status.value) for row in queue_rows(folder.runs).rows]


def test_hold_release_move_remove_and_retry(folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.write(THREE, ALL)
    folder.runs.root.mkdir()
    folder.db.submit(folder.submission())

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(160, 40), notifications=True) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a", "queued")
            await seen.press("p")
            await seen.see("held", "held on request")
            await seen.see_on_screen("a is held", "Release")
            assert order(folder)[0] == ("a", "held")
            await seen.press("p")
            await seen.gone("held on request")
            assert order(folder)[0] == ("a", "queued")

            await seen.press("J")
            await seen.see_on_screen("a is started later")
            assert [key for key, _ in order(folder)] == ["b", "a", "c"]
            text = await seen.see("▸ a")
            for _ in range(100):
                rows = [line[2:4].strip() for line in seen.text().splitlines()[2:5]]
                if rows == ["b", "a", "c"]:
                    break
                await pilot.pause(0.05)
            assert rows == ["b", "a", "c"], text
            await seen.press("shift+down", "shift+down")
            await seen.see_on_screen("a is last already")
            await seen.press("K", "K")
            await pilot.pause(0.5)
            await seen.press("K")
            await seen.see_on_screen("a is first already")
            assert [key for key, _ in order(folder)] == ["a", "b", "c"]

            await seen.press("G", "D")
            await seen.see("Remove c from the queue?", "Its files stay")
            await seen.press("escape")
            assert order(folder)[2] == ("c", "queued")
            await seen.press("delete")
            await seen.see("Remove c from the queue?")
            await seen.press("y")
            await seen.see("removed")
            assert order(folder)[2] == ("c", "removed")
            await seen.press("R")
            await seen.see_on_screen("c is back in the queue")
            assert order(folder)[2] == ("c", "queued")

    asyncio.run(look())


def test_nothing_acts_when_read_only(folder: PlanFolder, queue_app: Make, eyes: type[Eyes]) -> None:
    folder.write(THREE, ALL)
    folder.runs.root.mkdir()
    folder.db.submit(folder.submission())

    async def look() -> None:
        app = queue_app(readonly=True)
        async with app.run_test(size=(160, 40), notifications=True) as pilot:
            await eyes(app, pilot).see("▸ a", "queued", "read only")
            for number, key in enumerate(("s", "p", "J", "D", "R", "t", "X", "T", "Z", "u", "a", "e"), 1):
                await pilot.press(key)
                assert [toast.message for toast in app._notifications] == [ONLY_LOOKS] * number, key
            await pilot.pause(0.3)
            assert len(app.screen_stack) == 2 and order(folder) == [("a", "queued"), ("b", "queued"), ("c", "queued")]
            assert not folder.runs.matrix.exists() and not folder.runs.dashboard_memory.exists()

    asyncio.run(look())


def test_start_stop_go_on_kill_and_stop_the_queue(
    folder: PlanFolder, queue_app: Make, eyes: type[Eyes], fake_supervisor: tuple[str, ...]
) -> None:
    folder.write(THREE, ALL)
    folder.script(a=["wait", "wait", "good"], b=["wait"], c=["wait"])

    async def look() -> None:
        app = queue_app(supervisor=fake_supervisor)
        async with app.run_test(size=(160, 40), notifications=True) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a", "not run", "nothing is running")
            await seen.press("s")
            await seen.press("y")
            await seen.see("1 running", "queue at work")
            await seen.press("g", "t")
            await seen.see("Stop a after this step?", "Release goes on", "y: yes")
            await seen.press("enter")  # only y means yes
            await seen.press("t", "y")
            await seen.see("held", "stopped on request")
            for _ in range(200):
                if folder.births("b") if any(r.name.startswith("b-") for r in folder.runs.runs()) else False:
                    break
                await pilot.pause(0.05)
            # The next row started meanwhile.
            await seen.press("j")
            await seen.see("▸ b")
            for _ in range(200):
                if app.board.row(app.screen.table.selected).active:  # type: ignore[attr-defined]
                    break
                await pilot.pause(0.05)
            await seen.press("X")
            await seen.see("Kill the trainer of b now?")
            await seen.press("y")
            await seen.see("killed on request")
            await seen.press("g", "p")
            await seen.see_on_screen("a is released")
            await seen.press("T")
            await seen.see("Stop the queue?")
            await seen.press("y")
            await seen.see("nothing waits", "nothing is running")
            assert folder.db.open_submissions() == []
            rows = {row.key: row for row in app.board.rows}
            assert rows["b"].status == "killed" and "can be resumed" in rows["b"].reason
            await seen.press("q")
        assert app.return_code == 0

    asyncio.run(look())


def test_a_queue_that_paused_says_so_and_goes_on_by_a_key(
    folder: PlanFolder, queue_app: Make, eyes: type[Eyes], fake_supervisor: tuple[str, ...]
) -> None:
    folder.write(THREE, 'until = "all"\npause_after = 1\nretries = 0')
    folder.script(a=["error", "good"], b=["good"], c=["good"])

    async def look() -> None:
        app = queue_app(supervisor=fake_supervisor)
        async with app.run_test(size=(160, 40), notifications=True) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a", "not run")
            await seen.press("s")
            await seen.press("y")
            await seen.see("queue paused", "u lets it go on")
            await seen.press("u")
            await seen.see("✓ accepted")

    asyncio.run(look())


def test_a_failed_run_is_retried_after_its_queue_was_closed(
    folder: PlanFolder, queue_app: Make, eyes: type[Eyes], fake_supervisor: tuple[str, ...]
) -> None:
    folder.write('[[experiment]]\nid = "a"\n', "retries = 0")
    folder.script(a=["error", "good"])

    async def look() -> None:
        app = queue_app(supervisor=fake_supervisor)
        async with app.run_test(size=(160, 40), notifications=True) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a", "not run")
            await seen.press("s")
            await seen.press("y")
            await seen.see("failed", "nothing waits")
            await seen.see_on_screen("Retry")
            await seen.press("R")
            await seen.see("✓ accepted", "done")

    asyncio.run(look())


def test_start_says_which_removed_rows_it_queues_again(folder: PlanFolder, queue_app: Make) -> None:
    folder.write(THREE, ALL)
    folder.runs.root.mkdir()
    log = Journal(folder.runs.decisions)
    log.append(Submitted(submission="s", plan=folder.submission().plan_path))
    log.append(Request(request="remove", submission="s", row="c"))
    assert "is queued with c, removed before" in queue_app(supervisor=("true",)).actions.start()


REJECTED = Figures(word="rejected", standing=Standing(Stand.REJECTED, "the run diverged"))


def test_a_run_that_is_taken_up_again_waits_whatever_became_of_it_before(folder: PlanFolder) -> None:
    folder.write(THREE, ALL)
    folder.runs.root.mkdir()
    folder.db.submit(folder.submission())
    lock = KernelLock.acquire(folder.runs.supervisor_lock)  # as a supervisor does
    assert lock is not None
    submission, log = folder.db.open_submissions()[0], Journal(folder.runs.decisions)
    bare = Row("plan:a", "a", Status.CRASHED, run=folder.runs.run("a", "1"), figures=REJECTED)

    def now() -> Row:
        return queue_rows(folder.runs).row(bare, submission.plan_path)

    waits = now()
    assert (waits.status, waits.reason, waits.goes_on) == ("queued", "crashed before, is started again", True)
    folder.db.ask("hold", [Target(submission.id, "a")], "held on request")
    held = now()
    assert (held.status, held.reason, held.goes_on) == ("held", "held on request", True)
    folder.db.ask("release", [Target(submission.id, "a")])
    log.append(Skip(submission=submission.id, row="a", status="failed", reason="no such file"))
    failed = now()
    assert failed.status == "failed" and not failed.goes_on
    told = [
        "".join(text for text, _ in row_pieces(one, fitting(80), selected=False, pinned="", ascii_only=False))
        for one in (held, failed)
    ]
    assert "▼ off course" in told[0] and "✗ rejected" in told[1]
    lock.release()


def test_a_queue_that_stands_still_says_so_and_is_started_by_its_key(
    folder: PlanFolder, queue_app: Make, eyes: type[Eyes], fake_supervisor: tuple[str, ...]
) -> None:
    folder.write()
    folder.script(a=["wait"])
    folder.runs.root.mkdir()
    folder.db.submit(folder.submission())  # as before the machine was restarted

    async def look() -> None:
        app = queue_app(supervisor=fake_supervisor)
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a", "queued", "nothing is running", "queue stands still")
            await seen.press("s")
            await seen.press("y")
            await seen.see_on_screen("the queue goes on")
            await seen.see("1 running", "queue at work")
            await seen.press("Z", "y")
            await seen.see("nothing is running", "nothing waits")

    asyncio.run(look())


def test_an_edited_row_is_not_the_one_that_is_queued_and_can_be_queued_too(
    folder: PlanFolder, queue_app: Make, eyes: type[Eyes]
) -> None:
    folder.write()
    folder.runs.root.mkdir()
    before = folder.db.submit(folder.submission())

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(160, 40), notifications=True) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a", "queued")
            folder.plan.write_text(folder.plan.read_text().replace("steps = 20", "steps = 40"))
            await seen.see("▸ a", "not run", "–/40", "queued", "–/20")
            await seen.press("s")
            await seen.press("y")
            for _ in range(200):
                if len(folder.db.open_submissions()) == 2:
                    break
                await pilot.pause(0.05)
            await seen.see("▸ a", "–/40", "–/20")
            await seen.gone("not run")
            await seen.press("p")
            await seen.see("held")
            held = {row.queued.submission: row.status.value for row in queue_rows(folder.runs).rows}
            assert held.pop(before.id) == "queued" and list(held.values()) == ["held"]

    asyncio.run(look())


def test_a_queue_whose_files_rest_is_not_read_again_and_again(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings: list[Any] = []

    def counted(*args: Any) -> Any:
        listings.append(args)
        return QueueRows(*args)

    monkeypatch.setattr(queue_state, "QueueRows", counted)
    folder.write()
    folder.runs.root.mkdir()
    submission = folder.db.submit(folder.submission())
    log, process = Journal(folder.runs.decisions), current_process().to_json()
    log.append(Start(submission=submission.id, row="a", run="a-1", process=process))
    for path in (folder.runs.queue_db, folder.runs.decisions):
        os.utime(path, (1, 1))
    queue = queue_state.BoardQueue(folder.runs)
    queue.refresh()
    for _ in range(4):
        queue.row(Row("plan:a", "a", Status.CRASHED, run=folder.runs.run("a", "1")), str(folder.plan))
        queue.refresh()
    assert len(listings) == 2, "its trainer starts: its files say nothing of that"
    monkeypatch.setattr(queue_state, "AGAIN_S", 0.0)
    queue.refresh()
    assert len(listings) == 3
    folder.runs.queue_db.unlink()
    folder.runs.queue_db.mkdir()
    queue.refresh()
    version = queue.version
    for _ in range(4):
        assert "the queue cannot be read" in queue.refresh().last_action
    assert queue.version == version, "no row is made anew for it"


def test_what_does_not_go_on_by_itself_may_be_tried_again() -> None:
    board = Board(where="", plan="p")
    queued = Queued("s", "p")
    for status in (Status.CRASHED, Status.DIVERGED, Status.KILLED, Status.OUT_OF_MEMORY):
        assert allowed("retry", board, Row("plan:a", "a", status, queued=queued)), status
    paused = Row("plan:a", "a", Status.WAITING, queued=queued, run=RunPaths(Path("a-1")))
    assert allowed("retry", board, paused), "which lets a queue go on that paused for its failures"
    for status in (Status.QUEUED, Status.WAITING, Status.DONE, Status.TRAINING):
        assert not allowed("retry", board, Row("plan:a", "a", status, queued=queued)), status
