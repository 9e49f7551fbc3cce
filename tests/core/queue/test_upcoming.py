"""What is started next, in words; beside it stands what the supervisor itself would do."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from plan_folder import PlanFolder

from core.manifests.hashing import HashCache
from core.plan.next_action import Start as StartAction
from core.queue.execution import PlanExecution
from core.queue.journal import Journal, Start, Submitted, Wait
from core.queue.requests import Submission, Target
from core.queue.rows import queue_rows
from core.queue.upcoming import upcoming
from core.system.locks import KernelLock
from core.system.process import current_process

PLAN = """
[[experiment]]
id = "a"
[[experiment]]
id = "b"
title = "attention and MLP"
train.seed = 1
after = ["a"]
when = "not accepted"
[[experiment]]
id = "c"
train.seed = 2
"""


class Night:
    """A queue with a supervisor at work, whose files say what has happened."""

    def __init__(self, folder: PlanFolder) -> None:
        self.folder = folder
        folder.runs.root.mkdir()
        folder.runs.supervisor_lock.parent.mkdir(parents=True, exist_ok=True)
        self.log = Journal(folder.runs.decisions)
        self.lock: KernelLock | None = None

    def begin(self, experiments: str, queue: str = "", *overrides: str) -> Submission:
        self.folder.write(experiments, queue)
        submission = self.folder.db.submit(self.folder.submission(*overrides))
        self.log.append(Submitted(submission=submission.id, plan=str(self.folder.plan), overrides=list(overrides)))
        self.lock = KernelLock.acquire(self.folder.runs.supervisor_lock)
        assert self.lock is not None
        return submission

    def execution(self) -> PlanExecution:
        execution = PlanExecution(self.folder.submission(), self.folder.runs, HashCache(self.folder.runs.hash_cache))
        execution.assign_all()
        return execution

    def start(self, submission: Submission, row: str) -> None:
        execution = self.execution()
        run = execution.folder(execution.assigned[row])
        run.root.mkdir()
        config = {"schema": 1, "experiment": row, "identity": run.name.rpartition("-")[2], "settings": {}}
        run.config.write_text(json.dumps(config | {"hashes": {}, "gate": {}}))
        process = current_process().to_json()
        self.log.append(Start(submission=submission.id, row=row, run=run.name, reason="first", process=process))

    def next(self) -> str:
        return upcoming(queue_rows(self.folder.runs), self.execution())


@pytest.fixture
def night(folder: PlanFolder) -> Iterator[Night]:
    night = Night(folder)
    yield night
    if night.lock is not None:
        night.lock.release()


def test_a_plan_that_nobody_has_queued(night: Night) -> None:
    night.folder.write(PLAN)
    assert night.next() == "a, when the plan is queued"
    action = night.execution().next_action(())
    assert isinstance(action, StartAction) and action.row.key == "a"
    assert upcoming(None, night.execution()) == night.next()
    assert upcoming(None, None) == ""


def test_a_row_that_depends_on_what_runs_has_its_turn_when_that_has_ended(night: Night) -> None:
    submission = night.begin(PLAN, 'until = "all"')
    assert night.next() == "a"
    night.start(submission, "a")
    night.log.append(Wait(submission=submission.id, reason="the trainer of another run has the CPU"))
    assert night.next() == "b attention and MLP, after a, if not accepted, else c"
    night.folder.db.ask("hold", [Target(submission.id, "c")], "held on request")
    assert night.next() == "b attention and MLP, after a, if not accepted"
    night.folder.db.ask("hold", [Target(submission.id, "b")], "held on request")
    assert night.next() == "nothing: b and c are held until released"


def test_the_first_accepted_run_ends_the_plan(night: Night) -> None:
    submission = night.begin(PLAN, 'until = "accepted"')
    night.start(submission, "a")
    assert night.next() == "b attention and MLP, after a, if it is not accepted", "its condition is said once"


def test_a_long_condition_is_named_and_so_is_the_row_that_comes_without_it(night: Night) -> None:
    submission = night.begin(PLAN.replace("not accepted", "(stable and falling) or guardrail_broken"))
    night.start(submission, "a")
    assert night.next() == "b attention and MLP, after a, if it is not accepted and its condition holds, else c"


def test_of_several_runs_at_work_nobody_knows_which_ends_first(night: Night) -> None:
    submission = night.begin(PLAN + '[[experiment]]\nid = "d"\ntrain.seed = 3\n', 'until = "accepted"')
    night.start(submission, "a")
    night.start(submission, "c")
    assert night.next() == "d, after a or c, if none is accepted, but b where a ends first"


def test_why_a_row_does_not_start_though_a_trainer_could(night: Night) -> None:
    submission = night.begin('[[experiment]]\nid = "a"\n')
    night.log.append(Wait(submission=submission.id, reason="GPU 0 has 3 GB free, 8 are asked for"))
    assert night.next() == "a, GPU 0 has 3 GB free, 8 are asked for"
    assert night.lock is not None
    night.lock.release()
    night.lock = None
    assert night.next() == "a, when a supervisor is at work"


def test_the_last_row_of_the_queue_runs(night: Night) -> None:
    submission = night.begin('[[experiment]]\nid = "a"\n')
    night.start(submission, "a")
    assert night.next() == "nothing: a is the last of the queue"


def test_the_place_that_somebody_gave_a_row_counts(night: Night) -> None:
    submission = night.begin('[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n')
    night.folder.db.reorder(submission.id, ["b", "a"])
    assert night.next() == "b"


def test_a_search_goes_on_when_the_plan_is_used_up(night: Night) -> None:
    submission = night.begin('[[experiment]]\nid = "a"\n[search]\nadapter.rank = [8, 16, 32]\n', 'then = "search"')
    night.start(submission, "a")
    said = night.next()
    assert said.endswith(", after a, if it is not accepted") and not said.startswith("a")


def test_another_plan_of_the_queue_comes_when_one_has_nothing_left(night: Night) -> None:
    first = night.begin('[[experiment]]\nid = "a"\n')
    night.start(first, "a")
    night.folder.write('[[experiment]]\nid = "z"\ntrain.seed = 9\n')
    night.folder.db.submit(night.folder.submission())
    assert night.next().startswith("z")
