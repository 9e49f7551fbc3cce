"""The word for rows whose trainers are jobs of a cluster, on nodes of which nobody here sees a process."""

from __future__ import annotations

import time

import pytest
from queue_scene import Scene

from core.plan.schema import GateSettings
from core.queue.journal import records
from core.queue.run_status import RunStatusCache
from core.queue.state import QueueState
from core.runs.events import SCHEMA_VERSION, AttemptStarted, Record, encode
from core.runs.status import Status
from core.system.files import append_line

ANOTHER = {"machine": "another", "boot": "another"}


def test_a_job_that_waits_in_slurm_says_why_and_when(scene: Scene) -> None:
    begin(scene)
    assert (scene.entry().status, scene.entry().reason) == (Status.WAITING, "Slurm job 12 waits")
    job = {"run": scene.run.name, "job": "12", "state": "PENDING"}
    scene.say("job", **job, reason="Resources", expected=1.8e9)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(1.8e9))
    assert scene.entry().reason == f"Slurm job 12 waits: Resources, expected to start {when}"
    scene.say("job", **(job | {"state": "RUNNING"}))
    assert (scene.entry().status, scene.entry().reason) == (Status.STARTING, "as Slurm job 12")


def test_a_job_that_is_queued_again_waits_whatever_its_attempt_said_last(scene: Scene) -> None:
    begin(scene)
    scene.process = scene.process | ANOTHER
    scene.train("crash")
    scene.say("job", run=scene.run.name, job="12", state="PENDING", reason="BeginTime", attempts=1)
    assert scene.entry().status is Status.WAITING
    scene.process = scene.process | ANOTHER
    append_line(scene.run.events, encode(Record(2, time.time(), begun_elsewhere(scene))))
    assert scene.entry().status is Status.STARTING, "it has started again, though no supervisor has said so"


@pytest.mark.parametrize("outcome", ["crashed", "interrupted", "cancelled"])
def test_a_job_that_ended_without_a_word_is_not_at_work_for_ten_minutes(scene: Scene, outcome: str) -> None:
    begin(scene)
    scene.process = scene.process | ANOTHER
    append_line(scene.run.events, encode(Record(1, time.time(), begun_elsewhere(scene))))
    assert scene.entry().status is Status.STARTING
    scene.say("exit", run=scene.run.name, outcome=outcome, asked=False, message="", status=None, attempts=1)
    assert scene.entry().status is (Status.CRASHED if outcome == "cancelled" else Status.QUEUED)
    assert scene.would_start() is (outcome != "cancelled")


def test_a_run_whose_folder_was_deleted_after_its_job_had_ended_trains_again(scene: Scene) -> None:
    begin(scene)
    for attempt in (1, 2, 3):
        append_line(scene.run.events, encode(Record(attempt, time.time(), begun_elsewhere(scene))))
    ended = {"outcome": "cancelled", "asked": False, "message": "", "status": None}
    scene.say("exit", run=scene.run.name, **ended, attempts=3)
    assert scene.entry().status is Status.CRASHED
    scene.run.events.unlink()
    scene.wish("retry")
    begin(scene)
    scene.say("job", run=scene.run.name, job="12", state="RUNNING")
    append_line(scene.run.events, encode(Record(1, time.time(), begun_elsewhere(scene))))
    assert scene.entry().status is Status.STARTING
    dead = QueueState(records(scene.folder.runs.decisions)).dead_attempts
    assert RunStatusCache(GateSettings(), dead).at(scene.run).outcome == "running"


def begun_elsewhere(scene: Scene) -> AttemptStarted:
    return AttemptStarted(SCHEMA_VERSION, scene.process | ANOTHER, None, "cpu", "fp32")


def begin(scene: Scene) -> None:
    """The run's trainer is submitted."""
    scene.start()
    scene.say("start", row="a", run=scene.run.name, reason="first", job="12", process=None, inputs={})
