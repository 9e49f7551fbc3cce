"""What is over by itself ends no supervisor: locks, disks that are away, no process to be had, damaged files."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder
from waiting import DEADLINE_S, wait_for

from core.errors import is_disk_full, may_pass
from core.queue import __main__ as entry
from core.queue import execution, journal, pauses, supervisor
from core.queue.__main__ import supervise
from core.queue.executor import LocalExecutor
from core.queue.requests import Target
from core.runs.paths import RunPaths
from core.system import files
from core.system.locks import is_held

ONE = '[[experiment]]\nid = "a"\n'
TWO = ONE + '[[experiment]]\nid = "b"\ntrain.seed = 1\n'


def trains(folder: PlanFolder, row: str) -> bool:
    """Whether the row's FakeTrainer has come to where it waits."""
    names = [run.name for run in folder.runs.runs()]
    return any(name.startswith(f"{row}-") for name in names) and folder.snapshot(row).steps_completed == 10


class AwayExecutor(LocalExecutor):
    """Cannot start anything the first times."""

    refusals = 3

    def start(self, run: RunPaths, *rest: Any, **named: Any) -> Any:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return super().start(run, *rest, **named)


def test_a_queue_file_that_somebody_keeps_locked_is_waited_for(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.queue.requests.BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(entry, "LOOK_S", 0.2)
    folder.write(TWO, queue='until = "all"')
    folder.script(a=["wait", "good"])
    folder.db.submit(folder.submission())

    def face() -> None:
        wait_for(lambda: trains(folder, "a"))
        db = sqlite3.connect(folder.runs.queue_db, isolation_level=None, timeout=DEADLINE_S)
        db.execute("BEGIN EXCLUSIVE")
        os.utime(folder.runs.queue_db)  # as a write would do
        wait_for(lambda: len(folder.decisions("supervisor_started")) > 1 or not is_held(folder.runs.supervisor_lock))
        db.execute("COMMIT")
        db.close()
        wait_for(lambda: folder.decisions("adopt"))
        os.kill(folder.births("a")[0], signal.SIGTERM)

    thread = threading.Thread(target=face)
    thread.start()
    try:
        assert supervise(folder.runs, folder.executor) == 0
    finally:
        thread.join()
    assert folder.decisions("finish")[0].complete and folder.starts() == ["a", "a", "b"]


def test_damaged_pages_behind_a_good_first_one_are_put_aside(folder: PlanFolder) -> None:
    folder.write()
    for steps in range(20, 50):
        with folder.db.closing(folder.db.submit(folder.submission(f"train.steps={steps}")).id, at_once=True):
            pass
    data = folder.runs.queue_db.read_bytes()
    folder.runs.queue_db.write_bytes(data[:4096] + b"\x55" * (len(data) - 4096))
    submission = folder.db.submit(folder.submission())
    assert [queued.id for queued in folder.db.open_submissions()] == [submission.id]
    assert len(list(folder.runs.state.glob("queue.sqlite3.broken-*"))) == 1


def test_pages_that_break_meanwhile_are_put_aside_by_the_next_call(folder: PlanFolder) -> None:
    folder.write()
    db = folder.db
    for steps in range(20, 50):
        with db.closing(db.submit(folder.submission(f"train.steps={steps}")).id, at_once=True):
            pass
    data = folder.runs.queue_db.read_bytes()
    folder.runs.queue_db.write_bytes(data[:4096] + b"\x55" * (len(data) - 4096))
    with pytest.raises(OSError, match="damaged") as told:
        db.submit(folder.submission())
    assert may_pass(told.value)
    db.submit(folder.submission())
    assert len(db.open_submissions()) == 1


def test_what_sqlite_cannot_open_is_what_the_disk_says_of_it(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write()
    folder.db.submit(folder.submission())
    (folder.runs.state / "queue.sqlite3-journal").mkdir()  # the journal cannot be opened, as with no inode left
    with pytest.raises(OSError, match=r"unable to open|disk I/O") as told:
        folder.db.ask("stop", [Target("x")])
    assert may_pass(told.value) and not is_disk_full(told.value)

    def full(**named: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OSError, match="No space") as told:
        folder.db.ask("stop", [Target("x")])
    assert is_disk_full(told.value)


def test_a_trainer_that_cannot_be_started_now_is_started_later(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "ELSEWHERE_S", 0.2)
    folder.write(TWO, queue='until = "all"')
    executor = AwayExecutor(folder.runs, folder.executor._command, grace_s=0.5)
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, executor) == 0
    assert folder.starts() == ["a", "b"]
    waits = [wait.reason for wait in folder.decisions("wait")]
    assert sum("temporarily unavailable" in reason and "tried again" in reason for reason in waits) == 1


def test_data_that_is_away_defers_its_plan_and_no_other(folder: PlanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "ELSEWHERE_S", 0.2)
    folder.write()
    (folder.root / "other.jsonl").write_bytes((folder.root / "train.jsonl").read_bytes())
    away = folder.db.submit(folder.submission("data.train=other.jsonl", "train.seed=7"))
    folder.db.submit(folder.submission())
    real = Path.is_file

    def is_file(path: Path) -> bool:
        if path.name == "other.jsonl" and not folder.decisions("finish"):
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return real(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    assert supervise(folder.runs, folder.executor) == 0
    first, second = folder.decisions("finish")
    assert first.submission != away.id == second.submission and second.complete
    assert len(folder.starts()) == 2
    waits = [wait for wait in folder.decisions("wait") if "cannot be reached" in wait.reason]
    assert [wait.submission for wait in waits] == [away.id], "said once"


def test_data_that_nobody_can_reach_closes_its_plan_and_no_other(folder: PlanFolder) -> None:
    folder.write()
    (folder.root / "other.jsonl").symlink_to("x" * 300)  # stat says neither yes nor no
    bad = folder.db.submit(folder.submission("data.train=other.jsonl"))
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0
    assert folder.starts() == ["a"]
    [finish] = [finish for finish in folder.decisions("finish") if finish.submission == bad.id]
    assert "data.train: cannot be read" in finish.not_run["a"]


def test_told_to_stop_on_a_full_disk_it_stops(folder: PlanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "LOOK_S", 0.5)
    folder.write(TWO, queue='until = "all"')
    folder.script(a=["wait", "good"])
    full, real, refused = threading.Event(), files.append_whole, list[Any]()

    def append(*given: Any) -> None:
        if full.is_set():
            refused.append(given)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*given)

    monkeypatch.setattr(journal, "append_whole", append)
    folder.db.submit(folder.submission())

    def person() -> None:
        wait_for(lambda: trains(folder, "a"))
        full.set()
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: len(refused) > 1)
        full.clear()

    thread = threading.Thread(target=person)
    thread.start()
    assert supervise(folder.runs, folder.executor) == 0
    thread.join()
    assert folder.starts() == ["a"] and not folder.decisions("finish")
    assert folder.decisions("supervisor_ended")[-1].reason == "told to stop"


def test_a_disk_without_room_for_a_run_is_told_once_and_waited_for(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [100_000_000]
    monkeypatch.setattr(pauses, "LOOK_S", 0.05)
    monkeypatch.setattr(pauses, "has_space", lambda path, size: size <= free[0])
    monkeypatch.setattr(execution, "forecast_bytes", lambda settings: 1_000_000_000)
    folder.write()
    folder.db.submit(folder.submission())
    timer = threading.Timer(2, lambda: free.append(free.pop() * 20))
    timer.start()
    assert supervise(folder.runs, folder.executor) == 0
    assert folder.starts() == ["a"]
    assert len(folder.decisions("pause")) == len(folder.decisions("resume")) == 1


def test_a_smaller_plan_goes_on_when_the_one_without_room_is_stopped(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "LOOK_S", 0.05)
    monkeypatch.setattr(pauses, "has_space", lambda path, size: size <= 100_000_000)
    size = {20: 1_000_000_000, 25: 1_000_000}
    monkeypatch.setattr(execution, "forecast_bytes", lambda settings: size[settings.train.steps])
    folder.write()
    large = folder.db.submit(folder.submission())
    small = folder.db.submit(folder.submission("train.steps=25"))

    def person() -> None:
        wait_for(lambda: folder.decisions("pause"))
        folder.db.ask("stop", [Target(large.id)])

    thread = threading.Thread(target=person)
    thread.start()
    assert supervise(folder.runs, folder.executor) == 0
    thread.join()
    assert [finish.submission for finish in folder.decisions("finish")] == [large.id, small.id]
    assert folder.snapshot("a").state == "done" and len(folder.starts()) == 1


def test_a_retry_of_a_row_that_depends_on_another_outlives_the_supervisor(folder: PlanFolder) -> None:
    depends = '[[experiment]]\nid = "c"\nadapter_from = ["a"]\ntrain.seed = 5\n'
    folder.write(ONE + depends + '[[experiment]]\nid = "z"\ntrain.seed = 7\n', queue='until = "all"')
    folder.script(a=["poor"], c=["diverge", "good"], z=["wait", "good"])
    client = folder.client
    submission = client.submit(folder.submission())
    try:
        wait_for(lambda: trains(folder, "z"))
        assert folder.snapshot("c").state == "diverged"
        folder.db.ask("retry", [Target(submission.id, "c")])
        wait_for(lambda: not folder.db.snapshot().requests)
        os.kill(int(folder.runs.supervisor_lock.read_text()), signal.SIGKILL)
        client._child.wait()
        client.ensure_supervisor()
        wait_for(lambda: folder.decisions("adopt"))
        os.kill(folder.births("z")[-1], signal.SIGTERM)
        wait_for(lambda: folder.decisions("finish"))
    finally:
        folder.end_all()
        client._child.wait()
    assert len(folder.births("c")) == 2 and folder.snapshot("c").state == "done"


def test_the_plans_program_hears_of_an_end_that_nobody_saw(folder: PlanFolder) -> None:
    heard = folder.root / "heard"
    program = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())", str(heard)]
    folder.write(queue=f"notify = {json.dumps(program)}")
    folder.script(a=["wait", "good"])
    client = folder.client
    client.submit(folder.submission())
    try:
        wait_for(lambda: trains(folder, "a"))
        os.kill(int(folder.runs.supervisor_lock.read_text()), signal.SIGKILL)
        client._child.wait()
        os.kill(folder.births("a")[0], signal.SIGKILL)
        client.ensure_supervisor()
        wait_for(lambda: folder.decisions("finish"))
        client._child.wait()
    finally:
        folder.end_all()
        client._child.wait()
    told = [json.loads(line) for line in heard.read_text().splitlines()]
    assert [line["outcome"] for line in told if line["event"] == "run_ended"] == ["crashed", "done"]


def test_what_is_queued_while_a_supervisor_that_was_told_to_stop_still_waits_is_worked_on(folder: PlanFolder) -> None:
    folder.write(TWO, queue='until = "all"')
    folder.script(a=["stubborn", "good"])
    client = folder.client
    client.submit(folder.submission())
    try:
        wait_for(lambda: trains(folder, "a"))
        first = client._child
        os.kill(first.pid, signal.SIGTERM)
        wait_for(lambda: folder.decisions("supervisor_stopping"))
        other = folder.client
        other.submit(folder.submission(only=("b",)))
        os.kill(folder.births("a")[0], signal.SIGKILL)
        first.wait()
        wait_for(lambda: len(folder.decisions("finish")) == 2)
        other._child.wait()
    finally:
        folder.end_all()
        client._child.wait()
    assert all(finish.complete for finish in folder.decisions("finish"))
