"""Trainers of other machines and containers on a shared runs folder: nobody here can look at their processes."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.manifests.hashing import HashCache
from core.plan.next_action import Start
from core.plan.schema import GateSettings
from core.queue import slots as slots_module
from core.queue import supervisor
from core.queue.__main__ import supervise
from core.queue.execution import PlanExecution
from core.queue.gpu.choice import GIB, Devices, Gpu
from core.queue.journal import Exit, Journal, records
from core.queue.journal import Start as StartRecord
from core.queue.run_status import RunStatusCache
from core.queue.slots import Slots
from core.queue.slurm.executor import SlurmCluster
from core.queue.state import QueueState
from core.queue.work import write_run
from core.runs import snapshot as snapshot_module
from core.runs.events import SCHEMA_VERSION, AttemptStarted, CheckpointSaved, Event, Final, Phase, Record, Step, encode
from core.runs.paths import RunPaths
from core.system.files import append_line
from core.system.process import current_process

TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'
MACHINE = {"machine": "another", "boot": "another"}
CONTAINER = {"pid_namespace": "pid:[1]"}
STOPPED = (CheckpointSaved(3), Final("stopped", "asked to stop", 3))


def foreign(run: RunPaths, attempt: int, *more: Event, where: dict[str, str] = MACHINE) -> None:
    """An attempt of a trainer that is not here."""
    begun = AttemptStarted(SCHEMA_VERSION, current_process().to_json() | where, None, "cpu", "fp32")
    say(run, attempt, begun, Phase("training"), Step(3, 1.0, 1e-4, 1.0, 100, 60.0, 0.001), *more)


def say(run: RunPaths, attempt: int, *events: Event) -> None:
    for event in events:
        append_line(run.events, encode(Record(attempt, time.time(), event)))


def begun(folder: PlanFolder, run: RunPaths, where: dict[str, str]) -> None:
    """What a supervisor that is gone, or is not here, said of the start of the run's trainer."""
    process = current_process().to_json() | where
    Journal(folder.runs.decisions).append(StartRecord(submission="one", row="a", run=run.name, process=process))


def slots_of(folder: PlanFolder, cluster: SlurmCluster | None = None) -> Slots:
    """Of a supervisor that comes now."""
    state = QueueState(records(folder.runs.decisions))
    log = Journal(folder.runs.decisions, on_append=state.apply)
    return Slots(folder.runs, folder.executor, log, state, Devices, cluster)


def test_a_job_of_a_cluster_that_is_not_seen_here_is_not_waited_for_for_ever(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    folder.write()
    _, run = made(folder, "a")
    Journal(folder.runs.decisions).append(StartRecord(submission="one", row="a", run=run.name, job="1"))
    slots = slots_of(folder, SlurmCluster(folder.runs))
    assert slots.adopt_all() == [] and not slots, "it may have started a moment ago"
    monkeypatch.setattr(slots_module, "LOST_S", 0.0)
    [end] = slots_of(folder, SlurmCluster(folder.runs)).adopt_all()
    assert end.run == run.name and not QueueState(records(folder.runs.decisions)).trainers


def made(folder: PlanFolder, key: str) -> tuple[PlanExecution, RunPaths]:
    """The run folder of a row, as a queue makes it before any trainer starts there."""
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    assigned = execution.assigned[key]
    run = execution.folder(assigned)
    write_run(run, assigned.row, assigned.resolved, execution.plan)
    return execution, run


@pytest.mark.parametrize("where", [MACHINE, CONTAINER])
def test_a_run_that_another_machine_goes_on_with_is_not_started_here(folder: PlanFolder, where: dict[str, str]) -> None:
    folder.write()
    execution, run = made(folder, "a")
    assigned = execution.assigned["a"]
    foreign(run, 1, *STOPPED)
    slots = slots_of(folder)
    start = execution.next_action(())
    assert isinstance(start, Start)
    foreign(run, 2, where=where)
    assert not slots.launch(assigned, run, "one", start)
    assert not folder.births("a") and not folder.decisions("start")


def test_a_stopped_run_is_looked_at_again_when_somebody_works_there(folder: PlanFolder) -> None:
    folder.write()
    _, run = made(folder, "a")
    foreign(run, 1, *STOPPED)
    looks = RunStatusCache(GateSettings())
    assert looks.at(run).outcome == "stopped"
    foreign(run, 2)
    assert looks.at(run).outcome == "running"
    say(run, 2, Final("diverged", "no number", 4))
    assert looks.at(run).outcome == "diverged" and looks.at(run).attempts == 2


def test_a_run_that_another_machine_leaves_is_taken_up_while_a_trainer_works_here(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "ELSEWHERE_S", 0.2)
    monkeypatch.setattr(tempfile, "tempdir", str(folder.root))  # with the locks of GPUs
    two = Devices(tuple(Gpu(f"GPU-{n}", f"GPU {n}", n, "", 80 * GIB, 79 * GIB) for n in range(2)))
    folder.write(TWO, queue='until = "all"')
    folder.script(a=["wait", "good"])
    _, run = made(folder, "b")
    foreign(run, 1)
    folder.db.submit(folder.submission())

    def other_machine() -> None:
        wait_for(lambda: len(folder.runs.runs()) == 2 and folder.snapshot("a").steps_completed == 10)
        say(run, 1, *STOPPED)
        wait_for(lambda: folder.births("b"))
        os.kill(folder.births("a")[0], signal.SIGTERM)

    thread = threading.Thread(target=other_machine)
    thread.start()
    assert supervise(folder.runs, folder.executor, lambda: two) == 0
    thread.join()
    assert folder.starts() == ["a", "b", "a"], "b did not wait for a"
    assert len(folder.decisions("wait")) < 6, "what it waits for is said once"


@pytest.mark.parametrize("where", [MACHINE, CONTAINER])
@pytest.mark.parametrize("has_events", [True, False])
def test_a_trainer_that_nobody_here_can_look_at_has_ended_when_its_events_say_so(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch, where: dict[str, str], *, has_events: bool
) -> None:
    monkeypatch.setattr(slots_module, "UNSEEN_LOOK_S", 0.0)
    folder.write()
    execution, run = made(folder, "a")
    begun(folder, run, where)
    if has_events:
        foreign(run, 1, where=where)
    slots = slots_of(folder)
    assert slots.adopt_all() == [] and slots.ended() == []
    start = execution.next_action(())
    if isinstance(start, Start):  # it has said nothing yet, but the decisions speak of it
        assert not slots.launch(execution.assigned["a"], run, "one", start)
        foreign(run, 1, where=where)
    say(run, 1, *STOPPED)
    [end] = slots.ended()
    assert end.outcome == "stopped" and slots.ended() == []
    assert [one.outcome for one in folder.decisions("exit")] == ["stopped"]


def test_of_another_machine_that_fell_silent_nobody_says_that_this_one_was_restarted(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write()
    _, run = made(folder, "a")
    begun(folder, run, MACHINE)
    foreign(run, 1)
    monkeypatch.setattr(snapshot_module, "LOST_S", -1.0)
    [end] = slots_of(folder).adopt_all()
    assert end.message == "it was on another machine, and has given no sign of life for 10 min"


def test_an_end_that_the_supervisor_of_the_other_machine_has_told_is_not_told_again(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots_module, "UNSEEN_LOOK_S", 0.0)
    folder.write()
    _, run = made(folder, "a")
    begun(folder, run, MACHINE)
    foreign(run, 1)
    slots = slots_of(folder)
    slots.adopt_all()
    say(run, 1, *STOPPED)
    Journal(folder.runs.decisions).append(Exit(submission="one", run=run.name, outcome="stopped", asked=True))
    assert slots.ended() == [] and len(folder.decisions("exit")) == 1
