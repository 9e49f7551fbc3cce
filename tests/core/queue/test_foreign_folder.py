"""A runs folder that came from elsewhere: nothing in it is obeyed, and nothing that it names is touched."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.errors import RunFolderError
from core.manifests.hashing import HashCache
from core.queue.__main__ import main, supervise
from core.queue.execution import PlanExecution
from core.queue.requests import QueueDb, Target
from core.queue.rows import queue_rows
from core.queue.work import write_run
from core.runs.events import SCHEMA_VERSION, AttemptStarted, Phase, Record, encode
from core.runs.state_folder import STATE_VARIABLE, runs_folder
from core.system.files import append_line
from core.system.process import identity_of

NOTIFY = 'notify = ["{python}", "-c", "open({told!r}, \'w\')"]'


def test_a_queue_that_came_with_a_runs_folder_is_not_obeyed(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = folder.root / "told"
    folder.write(queue=NOTIFY.format(python=sys.executable, told=str(told)))
    root: Path = folder.runs.root
    root.mkdir()
    brought = QueueDb(root / "queue.sqlite3")
    brought.submit(folder.submission())
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder.root / "home"))
    assert queue_rows(runs_folder(root)).submissions == ()
    assert main([str(root)]) == 0, "there is nothing to do"
    assert not told.exists() and runs_folder(root).runs() == []
    assert len(brought.open_submissions()) == 1, "it is left as it is"


def test_decisions_that_came_with_a_runs_folder_start_nothing(folder: PlanFolder) -> None:
    told = folder.root / "told"
    folder.write(queue=NOTIFY.format(python=sys.executable, told=str(told)))
    folder.runs.root.mkdir()
    lines = [
        {"decision": "submitted", "submission": "one", "plan": str(folder.plan), "overrides": [], "only": []},
        {"decision": "start", "submission": "one", "row": "a", "run": "a-0123456789", "attempts_before": 0},
        {"decision": "wish", "wish": "retry", "submission": "one", "row": "a"},
    ]
    for line in lines:
        append_line(folder.runs.decisions, json.dumps({"schema": 1, "time": 1e9, **line}))
    assert supervise(folder.runs, folder.executor) == 0
    assert not told.exists() and folder.runs.runs() == [], "nothing was started"


@pytest.mark.parametrize("wish", ["kill", "stop"])
def test_a_process_that_events_name_is_neither_stopped_nor_killed(folder: PlanFolder, wish: str) -> None:
    """The run folder is a copy, say, and what it names is the trainer of the original, or any other process."""
    folder.write()
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    assigned = execution.assigned["a"]
    run = execution.folder(assigned)
    write_run(run, assigned.row, assigned.resolved, execution.plan)
    victim = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        named = identity_of(victim.pid)
        assert named is not None
        for event in (AttemptStarted(SCHEMA_VERSION, named.to_json(), None, "cpu", "fp32"), Phase("training")):
            append_line(run.events, encode(Record(1, time.time(), event)))
        submission = folder.db.submit(folder.submission())
        folder.db.ask(wish, [Target(submission.id, "a")], held="on request")
        folder.client.ensure_supervisor()
        wait_for(lambda: folder.decisions("wait") and not folder.db.snapshot().requests)
        folder.db.ask(wish, [Target(submission.id)])
        wait_for(lambda: folder.decisions("supervisor_ended"))
        assert victim.poll() is None and not folder.births("a"), "what writes events is left to work"
    finally:
        victim.kill()
        victim.wait()
        folder.end_all()


def test_no_supervisor_starts_beside_one_of_an_older_version(folder: PlanFolder) -> None:
    folder.write()
    folder.runs.root.mkdir()
    with folder.runs.older_supervisor_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunFolderError, match="older version of lora-tui is at work"):
            folder.client.submit(folder.submission())
    folder.client.submit(folder.submission())
    wait_for(lambda: folder.decisions("supervisor_ended"))


def test_a_fifo_in_place_of_an_older_lock_holds_nothing_up(folder: PlanFolder) -> None:
    folder.write()
    folder.runs.root.mkdir()
    os.mkfifo(folder.runs.older_supervisor_lock)
    folder.client.submit(folder.submission())
    wait_for(lambda: folder.decisions("supervisor_ended"))


def test_hashes_that_came_with_a_runs_folder_vouch_for_nothing(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where older versions kept them, nor where run.json says."""
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder.root / "home"))
    folder.write()
    wait_for(lambda: all(time.time() - file.stat().st_ctime > 0.2 for file in folder.root.rglob("*") if file.is_file()))
    runs = runs_folder(folder.runs.root)

    def identity() -> str:
        execution = PlanExecution(folder.submission(), runs, HashCache(runs.hash_cache))
        execution.assign_all()
        return execution.assigned["a"].identity

    true = identity()
    genuine = runs.hash_cache.read_text()
    forged = genuine.replace(json.loads(genuine)["files"][str(folder.root / "domain.wav")][-1], "f" * 64)
    assert forged != genuine
    for state in (folder.runs.root, folder.root / "named"):
        (state / "cache").mkdir(parents=True)
        (state / "cache" / "hashes.json").write_text(forged)
    run = folder.runs.root / f"a-{true}"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"identity": true, "state_folder": str(folder.root / "named")}))
    runs.hash_cache.unlink()
    assert identity() == true
    runs.hash_cache.write_text(forged)
    assert identity() != true, "such a forgery would be believed where the user's own cache lies"
