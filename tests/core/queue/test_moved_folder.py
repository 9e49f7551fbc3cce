"""A runs folder that is moved, deleted or replaced while its runs train: nothing goes on at the old path."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.queue.journal import records
from core.runs.paths import RunsFolder
from core.runs.status import Status
from core.runs.store import read_run
from core.system.locks import is_held
from core.system.process import identity_of


@pytest.fixture
def at_work(folder: PlanFolder) -> Iterator[int]:
    """The pid of a trainer in the middle of its run."""
    folder.write()
    folder.script(a=["wait"])
    folder.client.submit(folder.submission())
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    [pid] = folder.births("a")
    yield pid
    folder.end_all()


def ended(folder: PlanFolder, pid: int) -> bool:
    return identity_of(pid) is None and not is_held(folder.runs.supervisor_lock)


@pytest.mark.parametrize("again", [False, True])
def test_a_moved_folder_is_left_where_it_is_and_goes_on_there(folder: PlanFolder, at_work: int, again: bool) -> None:
    there = RunsFolder(folder.root / "there", folder.root / "state of there")
    folder.runs.root.rename(there.root)
    if again:
        folder.runs.root.mkdir()
    wait_for(lambda: ended(folder, at_work))
    assert list(folder.runs.root.iterdir() if again else folder.root.glob("runs")) == [], "nothing is made there"
    [run] = there.runs()
    snapshot = read_run(run)
    assert snapshot.state is Status.STOPPED and snapshot.checkpoints == (5, 10)
    kinds = [decision.kind for decision in records(there.decisions)]
    assert kinds[-3:] == ["supervisor_stopping", "exit", "supervisor_ended"]
    [told] = [d for d in records(there.decisions) if d.kind == "supervisor_ended"]
    assert told.reason == f"its folder {folder.runs.root} was moved to {there.root}"
    assert "was moved to" in folder.runs.supervisor_log.read_text()

    (there.state).mkdir()
    (there.state / "fake.json").write_text("{}")
    folder.runs = there
    folder.client.submit(folder.submission())
    wait_for(lambda: read_run(run).state is Status.DONE)
    assert len(folder.births("a")) == 2 and read_run(run).attempts[-1].resumed_from == 10


def deleted(root: Path) -> None:
    while root.exists():  # its trainer still writes
        shutil.rmtree(root, ignore_errors=True)


def replaced(root: Path) -> None:
    root.rename(root.with_name("there"))
    root.symlink_to("elsewhere")
    root.with_name("elsewhere").mkdir()


@pytest.mark.parametrize("change", [deleted, replaced])
def test_what_is_gone_is_not_made_again(folder: PlanFolder, at_work: int, change: Callable[[Path], None]) -> None:
    change(folder.runs.root)
    wait_for(lambda: ended(folder, at_work))
    left = list(folder.runs.root.iterdir()) if folder.runs.root.exists() else []
    assert left == [] and "its folder" in folder.runs.supervisor_log.read_text()
