"""A row whose trainer would die of its settings is not started, and the others are."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.manifests.hashing import HashCache
from core.queue.__main__ import supervise
from core.queue.execution import PlanExecution
from core.queue.report import report
from core.queue.requests import Target
from core.queue.rows import queue_rows
from core.runs.matrix import verdict_word
from core.runs.row import Outcome

PLAN = '[[experiment]]\nid = "a"\ntrain.batch_seconds = 0.05\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'


def test_it_is_closed_with_the_trainers_own_sentence(folder: PlanFolder) -> None:
    folder.write(PLAN, queue='until = "all"')
    finish = folder.work()
    assert folder.starts() == ["b"]
    [skip] = folder.decisions("skip")
    assert skip.row == "a" and skip.status == "failed"
    assert "3 training clips in 20 micro-batches" in skip.reason
    assert "micro-batches" in finish["not_run"]["a"]


def test_another_supervisor_starts_it_only_when_it_is_asked_for(folder: PlanFolder) -> None:
    plan = '[[experiment]]\nid = "a"\ndata.train = "new.jsonl"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'
    folder.write(plan, queue='until = "all"')
    submission = folder.db.submit(folder.submission())
    folder.db.ask("hold", [Target(submission.id, "b")], "held on request")

    def stopped_when_it_waits() -> None:
        wait_for(lambda: folder.decisions("wait"))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stopped_when_it_waits)
    thread.start()
    assert supervise(folder.runs, folder.executor) == 0
    thread.join()
    assert [(one.row, one.status) for one in folder.decisions("skip")] == [("a", "failed")]

    (folder.root / "new.jsonl").write_text((folder.root / "train.jsonl").read_text())
    assert [row.status.value for row in queue_rows(folder.runs).rows] == ["failed", "held"]
    folder.db.ask("release", [Target(submission.id, "b")])
    assert supervise(folder.runs, folder.executor) == 0
    assert folder.starts() == ["b"], "the row is what the faces called it all the time"
    assert folder.work()["complete"] and folder.starts() == ["b", "a"], "another submission is new work"


def test_a_run_that_has_begun_is_judged_whatever_can_be_told_now(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(queue='until = "all"')
    folder.work()
    monkeypatch.setattr("core.queue.execution.unfit", lambda settings: ["cannot start"])
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    assert execution.unfit(execution.rows) == []
    [row] = report(execution, {})
    assert row.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("behaviour", ["error", "oom"])
def test_a_run_that_broke_down_failed_and_is_not_called_rejected(folder: PlanFolder, behaviour: str) -> None:
    folder.write(queue="retries = 0")
    folder.script(a=[behaviour])
    folder.work()
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    [row] = report(execution, {})
    assert row.verdict is not None and row.verdict.word == "failed"
    assert row.failed and row.outcome is Outcome.REJECTED, "for the exit code it is as before"
    assert verdict_word(row).startswith("failed") and "rejected" not in verdict_word(row)
    assert "the fake trainer was told to" in row.note, "why it failed, and no WER"


def test_a_run_that_diverged_is_rejected(folder: PlanFolder) -> None:
    folder.write()
    folder.script(a=["diverge"])
    folder.work()
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    [row] = report(execution, {})
    assert row.verdict is not None and row.verdict.word == "rejected"
