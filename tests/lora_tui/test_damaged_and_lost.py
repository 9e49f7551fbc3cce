"""What is said of a run whose result was damaged after its end, and of one whose folder goes while it trains."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder
from queue_face import Queue
from waiting import wait_for

from core.manifests.hashing import HashCache
from core.queue.execution import PlanExecution
from core.queue.report import report
from core.runs.paths import RunPaths
from core.runs.row import Outcome
from core.runs.status import Status
from core.runs.store import read_run, state_and_reason
from core.system.process import identity_of

Capture = pytest.CaptureFixture[str]


def emptied(result: Path) -> None:
    result.write_bytes(b"")


def gone(result: Path) -> None:
    result.unlink()


def torn(result: Path) -> None:
    result.write_bytes(result.read_bytes()[:20])


def of_another_type(result: Path) -> None:
    result.write_text(json.dumps(json.loads(result.read_text()) | {"steps_completed": "many"}))


DAMAGES = {
    emptied: "is empty",
    gone: "is gone",
    torn: "cannot be read (not JSON)",
    of_another_type: "cannot be read (steps",
}


def reported(folder: PlanFolder) -> Any:
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    [row] = report(execution, {})
    return row


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_finished_run_with_a_damaged_result(queue: Queue, damage: Callable[[Path], None], capsys: Capture) -> None:
    folder = queue.folder
    folder.write()
    queue("add", str(folder.plan))
    wait_for(lambda: folder.decisions("supervisor_ended"))
    run = folder.run("a")
    wait_for(lambda: identity_of(folder.births("a")[-1]) is None)
    damage(run.result)
    word, why = state_and_reason(run)
    assert word is Status.DAMAGED and f"result.json {DAMAGES[damage]}" in why and "queue retry" in why
    [listed] = queue.json("list", "--all")["rows"]
    assert (listed["state"], listed["reason"]) == ("damaged", why)
    row = reported(folder)
    assert (row.status, row.reason, row.outcome, row.failed) == ("damaged", why, Outcome.UNDECIDED, False)

    # The plan, submitted again, does not train it again by itself; somebody has to ask.
    queue("add", str(folder.plan))
    wait_for(lambda: len(folder.decisions("supervisor_ended")) == 2)
    assert len(folder.births("a")) == 1 and reported(folder).outcome is Outcome.UNDECIDED
    queue("retry", "a")
    wait_for(lambda: len(folder.decisions("supervisor_ended")) == 3)
    assert len(folder.births("a")) == 2 and reported(folder).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("goes", ["deleted", "moved"])
def test_a_run_folder_that_goes_while_it_trains(queue: Queue, goes: str) -> None:
    folder = queue.folder
    folder.write('[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n', queue='until = "all"')
    folder.script(a=["wait"], b=["wait"])
    queue("add", str(folder.plan))
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    run, [pid] = folder.run("a"), folder.births("a")
    if goes == "moved":
        run.root.rename(folder.root / "kept")
    while run.root.exists():  # its trainer still writes
        shutil.rmtree(run.root, ignore_errors=True)

    if identity_of(pid) is not None:  # a real trainer notices by itself
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: folder.decisions("exit"))
    [end] = folder.decisions("exit")
    assert end.outcome == "lost" and f"its folder {run.root} was {goes}" in end.message
    wait_for(lambda: len(folder.starts()) == 2)
    assert not run.root.exists(), "it is not begun anew"
    [listed] = [row for row in queue.json("list")["rows"] if row["row"] == "a"]
    assert listed["state"] == "failed" and f"was {goes}" in listed["reason"] and "queue retry" in listed["reason"]
    if goes == "moved":
        assert read_run(RunPaths(folder.root / "kept")).final is not None
