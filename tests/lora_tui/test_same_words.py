"""Board, `status`, `queue list` and the run matrix say the same word, over real supervisors and FakeTrainers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.errors import ExitCode
from core.manifests.hashing import HashCache
from core.queue.execution import PlanExecution
from core.queue.journal import Journal, Wait
from core.queue.report import report
from core.queue.requests import Submission, Target
from core.system.locks import KernelLock, is_held
from lora_tui.__main__ import main
from lora_tui.dashboard.reading.plan_rows import PlanRows
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.reading.snapshots import Want
from lora_tui.reports import csv_table, json_document, markdown
from lora_tui.reports.report import assemble

pytestmark = pytest.mark.heavy  # eight trainers, one after the other
AT_WORK = "a supervisor and a trainer are at work"
GONE = "both were killed"
FREE = "another supervisor is at work, the slot is free"
WORDS = {
    # row: (while AT_WORK, GONE, FREE)
    "done": ("done", "done", "done"),
    "used_up": ("crashed", "crashed", "crashed"),
    "works": ("training", "crashed", "crashed"),
    "after_crash": ("waiting", "crashed", "queued"),
    "after_stop": ("waiting", "stopped", "queued"),
    "after_kill": ("waiting", "killed", "queued"),
    "held": ("held", "held", "held"),
    "removed": ("removed", "removed", "removed"),
    "fresh": ("waiting", "queued", "queued"),
    "killed": ("killed", "killed", "killed"),
    "stopped": ("stopped", "stopped", "stopped"),
}
PLAN = "".join(f'[[experiment]]\nid = "{key}"\ntrain.seed = {seed}\n' for seed, key in enumerate(WORDS))
QUEUED = [key for key in WORDS if key not in ("killed", "stopped")]


@pytest.fixture
def scene(folder: PlanFolder) -> Iterator[Any]:
    """Runs that ended in every way, and a second submission that wants most of them."""
    folder.write(PLAN, 'until = "all"\nretries = 0\npause_after = 0')
    waits = ("works", "after_stop", "after_kill", "killed", "stopped")
    folder.script(used_up=["crash"], after_crash=["crash", "wait"], **{key: ["wait"] for key in waits})
    clients = []

    def submit(*only: str) -> Submission:
        clients.append(folder.client)
        return clients[-1].submit(folder.submission(only=only))  # type: ignore[no-any-return]

    assert folder.work(only=("done", "after_crash"))["complete"]
    for key in ("after_stop", "after_kill", "stopped", "killed"):
        submission = submit(key)
        wait_for(lambda key=key: trains(folder, key))
        folder.client.ask("kill" if "kill" in key else "stop", submission.id)
        wait_for(lambda: not is_held(folder.runs.supervisor_lock) and not folder.db.open_submissions())
    last = folder.db.submit(folder.submission(only=tuple(QUEUED)))
    folder.db.ask("hold", [Target(last.id, "held")], "held on request")
    folder.db.ask("remove", [Target(last.id, "removed")])
    submit(*QUEUED)
    wait_for(lambda: trains(folder, "works") and folder.decisions("wait"))
    yield folder
    pids = [pid for run in folder.runs.runs() for pid in folder.births(run.name.rpartition("-")[0])]
    for pid in [*pids, int(folder.runs.supervisor_lock.read_text() or 0)]:
        if pid and pid != os.getpid():
            kill(pid)
    for client in clients:
        client._child is None or client._child.wait()


def trains(folder: PlanFolder, key: str) -> bool:
    return any(run.name.startswith(f"{key}-") for run in folder.runs.runs()) and (
        folder.snapshot(key).steps_completed == 10
    )


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_every_face_says_the_same_word(scene: Any, capsys: pytest.CaptureFixture[str]) -> None:
    source = FolderSource(scene.runs, PlanRows(scene.plan, scene.runs))

    def look(column: int) -> dict[str, str]:
        expected = {key: words[column] for key, words in WORDS.items()}
        reasons: dict[str, str] = {}
        found = faces(scene, source, capsys, reasons)
        for face, words in found.items():
            assert words == expected, f"{face}: {(AT_WORK, GONE, FREE)[column]}"
        return reasons

    reasons = look(0)
    assert "not resumed again (queue.retries = 0)" in reasons["used_up"]
    for key, word in (("after_crash", "crashed"), ("after_stop", "stopped"), ("after_kill", "killed")):
        assert "the trainer of another run has the CPU" in reasons[key]
        assert f"{word} before" in reasons[key] and "is started again" in reasons[key]
    assert "its trainer was killed or died without a word" in reasons["after_crash"], "how it crashed is not lost"
    kill(int(scene.runs.supervisor_lock.read_text()))
    wait_for(lambda: not is_held(scene.runs.supervisor_lock))
    [trainer] = scene.births("works")
    kill(trainer)
    wait_for(lambda: not scene.snapshot("works").state.active)
    reasons = look(1)
    for key in ("works", "after_crash", "after_stop", "after_kill"):
        assert reasons[key].endswith("no supervisor is at work to start it again") == (key != "works"), reasons
    lock = KernelLock.acquire(scene.runs.supervisor_lock)
    assert lock is not None
    [submission] = scene.db.open_submissions()
    Journal(scene.runs.decisions).append(Wait(submission=submission.id))
    reasons = look(2)
    assert reasons["after_kill"] == "killed before, is started again"
    lock.release()


def faces(
    folder: PlanFolder, source: FolderSource, capsys: pytest.CaptureFixture[str], reasons: dict[str, str]
) -> dict[str, dict[str, str]]:
    """Face → row → its word, settled."""
    where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]

    def said(*command: str) -> list[dict[str, Any]]:
        capsys.readouterr()
        assert main([*command, *where]) == 0
        return list(json.loads(capsys.readouterr().out)["rows"])

    board: dict[str, str] = {}

    def settled() -> bool:
        before, rows = dict(board), source.read(Want()).rows
        board.clear()
        board.update({row.key: row.status.value for row in rows})
        return before == board and "…" not in board.values()

    wait_for(settled)
    source.read(Want())
    wait_for(settled)
    listed = said("queue", "list", "--all", "--json")
    reasons |= {row["experiment"]: row["reason"] for row in listed}
    document = matrix(folder)
    return {
        "queue list": {row["experiment"]: row["state"] for row in listed},
        "status": {row["key"]: row["state"] for row in said("status", str(folder.plan), "--json")},
        "board": board,
        "run matrix": {row["experiment"]: row["status"] for row in json.loads(document)["rows"]},
    }


def matrix(folder: PlanFolder) -> str:
    """The run matrix as JSON; the other formats have the same words."""
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    found = assemble(execution, report(execution, {}), ExitCode.ACCEPTED, details=False)
    table = csv_table.render(found)
    text = markdown.render(found, short=True)
    for row in found.rows:
        assert row.line.status in table, row.line
        assert row.line.status == "done" or row.line.status.replace("_", " ") in text, row.line
    return json_document.render(found)
