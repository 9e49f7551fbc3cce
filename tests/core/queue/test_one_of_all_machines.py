"""A runs folder that machines share has one supervisor: locks of a state folder are seen by one machine only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plan_folder import PlanFolder

from core.errors import RunFolderError
from core.queue import journal
from core.queue.__main__ import supervise
from core.queue.journal import claim
from core.queue.notify import Notifier
from core.queue.rows import queue_rows
from core.system.locks import KernelLock, is_held


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_PROBES_PASS_S", 0.1)


def test_a_supervisor_does_not_work_beside_one_of_another_machine(
    folder: PlanFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write()
    folder.db.submit(folder.submission())
    there = claim(folder.runs.decisions)
    assert there is not None
    assert supervise(folder.runs, folder.executor) == 5
    assert "a supervisor on another machine works on" in capsys.readouterr().err and not folder.decisions("start")
    assert not folder.runs.supervisor_lock.exists(), "faces take who holds it for one that works"
    elsewhere = replace(folder.runs, state=folder.root / "state of another machine")
    assert queue_rows(elsewhere).supervised, "a face on any machine knows that somebody is at work"
    there.close()
    assert not queue_rows(elsewhere).supervised


@pytest.mark.heavy
def test_who_submits_beside_a_supervisor_of_another_machine_is_told_that_nobody_hears_it(folder: PlanFolder) -> None:
    folder.write()
    there = claim(folder.runs.decisions)
    assert there is not None
    with pytest.raises(RunFolderError, match=r"a supervisor on another machine works on .* ask for it there"):
        folder.client.submit(folder.submission())
    there.close()


def test_one_of_this_machine_is_told_as_such(folder: PlanFolder, capsys: pytest.CaptureFixture[str]) -> None:
    here, lock = claim(folder.runs.decisions), KernelLock.acquire(folder.runs.supervisor_lock)
    assert here is not None and lock is not None
    assert supervise(folder.runs, folder.executor) == 4
    assert "another supervisor works on" in capsys.readouterr().err
    here.close()
    lock.release()


def test_while_one_that_has_ended_waits_for_its_notifications_the_next_one_may_begin(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A face that submits in this time finds the lock free, and starts another one."""
    nexts: list[int] = []

    def close(notifier: Notifier) -> None:
        assert not is_held(folder.runs.supervisor_lock)
        monkeypatch.undo()
        nexts.append(supervise(folder.runs, folder.executor))

    monkeypatch.setattr(Notifier, "close", close)
    assert supervise(folder.runs, folder.executor) == 0
    assert nexts == [0]


def test_a_face_that_looks_does_not_keep_a_supervisor_from_its_work(folder: PlanFolder) -> None:
    assert not queue_rows(folder.runs).supervised
    first = claim(folder.runs.decisions)
    assert first is not None and claim(folder.runs.decisions) is None
    first.close()
    again = claim(folder.runs.decisions)
    assert again is not None
    again.close()
