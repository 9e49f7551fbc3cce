"""What the queue keeps on disk: wishes, locks, and where they may lie."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.queue.requests import QueueDb, Submission, Target
from core.system.locks import KernelLock, is_held


def submission(text: str = "a") -> Submission:
    return Submission.create(Path("plan.toml"), text, ["train.steps=1"], ["2.1"])


def test_the_same_work_is_queued_once(tmp_path: Path) -> None:
    db = QueueDb(tmp_path / "state" / "queue.sqlite3")
    first, other = submission(), submission("b")
    assert db.submit(first) == first
    assert db.submit(submission()) == first
    db.submit(other)
    assert db.open_submissions() == [first, other]
    with db.closing(first.id, at_once=True):
        pass
    assert db.open_submissions() == [other]
    assert db.submit(again := submission()) == again


def test_wishes_are_void_with_their_submission(tmp_path: Path) -> None:
    db = QueueDb(tmp_path / "queue.sqlite3")
    queued = db.submit(submission())
    db.ask("stop", [Target(queued.id)])
    db.ask("kill", [Target(db.submit(submission("b")).id)])
    assert [w.request for w in db.snapshot().requests.values()] == ["stop", "kill"]
    with db.closing(queued.id, at_once=True):
        pass
    [(number, left)] = db.snapshot().requests.items()
    assert left.request == "kill"
    db.close_request(number)
    assert not db.snapshot().requests


def test_a_submission_is_not_closed_over_what_was_asked_in_that_moment(tmp_path: Path) -> None:
    db = QueueDb(tmp_path / "queue.sqlite3")
    name = db.submit(Submission.create(tmp_path / "plan.toml", "")).id
    assert db.ask("retry", [Target(name, "a")]) == []
    with db.closing(name) as closed:
        assert not closed
    assert [submission.id for submission in db.open_submissions()] == [name]
    for number in db.snapshot().requests:
        db.close_request(number)
    db.ask("stop", [Target(name)])
    with db.closing(name) as closed:
        assert closed, "a stop asks for nothing more than to be closed"
    assert not db.open_submissions() and not db.snapshot().requests
    assert db.ask("retry", [Target(name, "a")]) == [Target(name, "a")], "that came too late"
    assert not db.snapshot().requests
    again = db.submit(Submission.create(tmp_path / "plan.toml", "")).id
    db.ask("stop", [Target(again)])
    assert db.ask("retry", [Target(again, "a")]) == [Target(again, "a")], "nothing more is started there"


def test_nobody_submits_while_the_supervisor_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.queue.requests.BUSY_TIMEOUT_S", 0.01)
    db = QueueDb(tmp_path / "queue.sqlite3")
    with db.leaving() as nothing_open:
        assert nothing_open
        with pytest.raises(OSError, match="locked"):
            db.submit(submission())
    db.submit(submission())
    with db.leaving() as nothing_open:
        assert not nothing_open


def test_a_broken_queue_file_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite3"
    path.write_bytes(b"nonsense" * 1000)
    assert QueueDb(path).open_submissions() == []
    assert len(list(tmp_path.glob("queue.sqlite3.broken-*"))) == 1


def test_a_lock_is_as_alive_as_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "x.lock"
    assert not is_held(path)
    lock = KernelLock.acquire(path)
    assert lock is not None and is_held(path)
    assert KernelLock.acquire(path) is None
    child = subprocess.Popen(["sleep", "30"], pass_fds=(lock.descriptor,))
    lock.release()
    assert is_held(path)
    child.kill()
    child.wait()
    assert not is_held(path)
    assert KernelLock.acquire(path) is not None


def test_core_queue_imports_no_training() -> None:
    script = "import sys, core.queue.__main__; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == 0
