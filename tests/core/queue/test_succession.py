"""What stops a supervisor or its trainers, and what the next supervisor makes of it: real processes, FakeTrainers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from plan_folder import PlanFolder
from queue_scene import Scene
from waiting import wait_for

from core.queue import executor, supervisor, work
from core.queue.__main__ import supervise
from core.queue.requests import QueueDb, Target
from core.queue.rows import queue_rows
from core.queue.supervisor import Supervisor
from core.runs.paths import RunPaths
from core.runs.status import Status
from core.system.locks import is_held

TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'


@pytest.fixture
def started(folder: PlanFolder) -> Iterator[Callable[[], Any]]:
    """Submit to a supervisor process; whatever lives at the end of the test is killed."""
    client = folder.client

    def start() -> Any:
        return client.submit(folder.submission())

    yield start
    pids = [pid for run in folder.runs.runs() for pid in folder.births(run.name.rpartition("-")[0])]
    if is_held(folder.runs.supervisor_lock):
        pids.append(supervisor_pid(folder))
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if client._child is not None:
        client._child.wait()


def supervisor_pid(folder: PlanFolder) -> int:
    return int(folder.runs.supervisor_lock.read_text())


def test_sigterm_stops_the_trainer_cleanly_and_the_next_supervisor_goes_on(folder: PlanFolder, started: Any) -> None:
    folder.write()
    folder.script(a=["wait", "good"])
    submission = started()
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    os.kill(supervisor_pid(folder), signal.SIGTERM)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("a").state is Status.STOPPED
    [end] = folder.decisions("exit")
    assert end.asked and end.outcome == "stopped" and end.status == 0
    assert folder.db.open_submissions() == [submission]
    assert supervise(folder.runs, folder.executor) == 0
    assert folder.snapshot("a").state is Status.DONE


def test_a_stop_wish_ends_the_submission(folder: PlanFolder, started: Any) -> None:
    folder.write(TWO)
    folder.script(a=["wait"])
    submission = started()
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    folder.client.ask("stop", submission.id)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    [finish] = folder.decisions("finish")
    assert not finish.complete and finish.reason == "stopped on request"
    assert folder.starts() == ["a"] and folder.snapshot("a").state is Status.STOPPED


def test_a_trainer_that_will_not_stop_is_killed_after_its_grace(folder: PlanFolder, started: Any) -> None:
    folder.write()
    folder.script(a=["stubborn"])
    started()
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    os.kill(supervisor_pid(folder), signal.SIGTERM)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    [end] = folder.decisions("exit")
    assert end.status == -signal.SIGKILL and end.asked


def test_the_death_of_the_supervisor_leaves_the_trainer_and_a_new_one_adopts_it(
    folder: PlanFolder, started: Any
) -> None:
    folder.write()
    folder.script(a=["wait", "good"])
    started()
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    os.kill(supervisor_pid(folder), signal.SIGKILL)
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))
    assert folder.snapshot("a").state.active
    client = folder.client
    client.ensure_supervisor()
    wait_for(lambda: folder.decisions("adopt"))
    [pid] = folder.births("a")
    [adopted] = folder.decisions("adopt")
    assert adopted.process["pid"] == pid
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    client._child.wait()
    assert len(folder.births("a")) == 2 and folder.snapshot("a").state is Status.DONE


def test_a_trainer_that_nobody_told_of_is_adopted_and_keeps_its_slot(folder: PlanFolder, started: Any) -> None:
    """The supervisor died between the start and the line about it; or a person started the trainer."""
    folder.write(TWO, queue='until = "all"')
    folder.script(a=["wait"], b=["good"])
    submission = started()
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    os.kill(supervisor_pid(folder), signal.SIGKILL)
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))
    lines = folder.runs.decisions.read_bytes().splitlines(keepends=True)
    folder.runs.decisions.write_bytes(b"".join(line for line in lines if b'"decision": "start"' not in line))
    client = folder.client
    client.ensure_supervisor()
    wait_for(lambda: folder.decisions("adopt"))
    wait_for(lambda: folder.decisions("wait"))
    folder.looked_at_again(submission.id, "b")
    assert folder.starts() == [], "the slot is taken"
    [listed] = [entry for entry in queue_rows(folder.runs).rows if entry.key == "a"]
    assert listed.status == "training"
    [pid] = folder.births("a")
    os.kill(pid, signal.SIGTERM)
    wait_for(folder.starts)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    client._child.wait()
    assert folder.decisions("exit")[0].run == folder.run("a").name


def test_a_wish_whose_supervisor_died_in_the_middle_is_obeyed_by_the_next(folder: PlanFolder, started: Any) -> None:
    folder.write()
    folder.script(a=["wait", "wait"])
    started()
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    os.kill(supervisor_pid(folder), signal.SIGKILL)
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))
    [submission] = folder.db.open_submissions()
    folder.db.ask("stop", [Target(submission.id)])
    if (pid := os.fork()) == 0:
        Supervisor._obey = QueueDb.close_request = lambda *_: os._exit(9)  # type: ignore[assignment, method-assign]
        supervise(folder.runs, folder.executor)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert [wish.request for wish in folder.db.snapshot().requests.values()] == ["stop"]
    assert supervise(folder.runs, folder.executor) == 0
    assert folder.snapshot("a").state is Status.STOPPED
    assert len(folder.births("a")) == 1


@pytest.mark.parametrize("how", ["obeyed", "not heard", "for the plan's sake", "nobody asked"])
def test_an_end_that_was_asked_for_costs_no_restart_though_the_supervisor_died_before_it(
    unattended: Scene, how: str
) -> None:
    unattended.attempt("crash")  # uses up `retries = 1`
    unattended.start()
    unattended.train("stop")
    folder, asked = unattended.folder, how != "nobody asked"
    if how == "obeyed":
        unattended.wish("stop")
    elif how == "not heard":
        folder.db.ask("stop", [Target(unattended.submission.id, "a")])
    elif how == "for the plan's sake":
        unattended.say("stop", row="a", run=unattended.run.name, reason="the budget of 1 hours is used up")
    before = len(folder.starts())
    assert supervise(folder.runs, folder.executor) == 0
    assert folder.decisions("exit")[1].asked == asked
    assert len(folder.starts()) - before == asked, "it is resumed"


def test_who_adopts_a_trainer_that_was_asked_to_stop_sees_to_its_end(folder: PlanFolder, started: Any) -> None:
    folder.write(queue="retries = 0")
    folder.script(a=["stubborn", "good"])
    submission = started()
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    folder.db.ask("stop", [Target(submission.id, "a")])
    wait_for(lambda: folder.decisions("wish") and not folder.db.snapshot().requests)
    os.kill(supervisor_pid(folder), signal.SIGKILL)  # before the grace of its trainer is over
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))
    assert supervise(folder.runs, folder.executor) == 0
    assert [(d.outcome, d.asked) for d in folder.decisions("exit")] == [
        ("crashed", True),
        ("done", False),
    ]


def test_what_a_supervisor_that_was_told_to_stop_asked_for_is_known_after_its_death(
    folder: PlanFolder, started: Any
) -> None:
    folder.write(queue="retries = 0")
    folder.script(a=["stubborn", "good"])
    started()
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    os.kill(supervisor_pid(folder), signal.SIGTERM)
    wait_for(lambda: folder.decisions("supervisor_stopping"))
    os.kill(supervisor_pid(folder), signal.SIGKILL)  # as by a service manager whose patience is over
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))
    assert supervise(folder.runs, folder.executor) == 0
    assert [(d.outcome, d.asked) for d in folder.decisions("exit")] == [
        ("crashed", True),
        ("done", False),
    ]


def test_a_trainer_that_somebody_starts_in_the_last_moment_is_told_by_its_own_last_word(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write()
    folder.script(a=["wait", "good"])
    write = work.write_run

    def and_start(run: RunPaths, *others: Any) -> None:
        write(run, *others)
        if not folder.births("a"):
            by_hand = folder.executor.start(run, 1)
            wait_for(lambda: folder.snapshot("a").steps_completed == 10)
            threading.Timer(1, by_hand.stop).start()

    monkeypatch.setattr(work, "write_run", and_start)
    assert folder.work()["complete"]
    assert [d.kind for d in folder.decisions("start", "adopt")] == ["adopt", "start"]
    assert [d.outcome for d in folder.decisions("exit")] == ["stopped", "done"]


def test_a_trainer_that_has_said_nothing_yet_is_seen_as_starting(folder: PlanFolder, started: Any) -> None:
    folder.write()
    folder.script(a=["slow", "good"])
    started()
    wait_for(folder.starts)
    [entry] = queue_rows(folder.runs).rows
    assert (entry.status, entry.reason) == ("starting", "")
    wait_for(lambda: folder.births("a"))
    os.kill(folder.births("a")[0], signal.SIGKILL)
    wait_for(lambda: folder.decisions("finish"))


def test_a_trainer_that_died_with_its_supervisor_is_resumed(folder: PlanFolder, started: Any) -> None:
    folder.write()
    folder.script(a=["wait", "good"])
    started()
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    os.kill(supervisor_pid(folder), signal.SIGKILL)
    os.kill(folder.births("a")[0], signal.SIGKILL)
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))
    assert supervise(folder.runs, folder.executor) == 0
    assert [d.outcome for d in folder.decisions("exit")] == ["crashed", "done"]


def test_a_submission_that_was_said_to_be_finished_goes_on_where_somebody_asked_for_more_before_it_was_closed(
    folder: PlanFolder,
) -> None:
    folder.write(TWO, queue='until = "all"\nretries = 0')
    folder.script(a=["error", "good"], b=["error", "good"])
    submission = folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0
    # As if it had been killed right after it wrote the last line, and somebody had asked before anybody came.
    with folder.db.transaction() as db:
        db.execute("UPDATE submissions SET open = 1")
    assert folder.db.ask("retry", [Target(submission.id, "a")]) == []
    assert supervise(folder.runs, folder.executor) == 0
    assert folder.snapshot("a").state is Status.DONE and folder.snapshot("b").state is Status.FAILED
    assert not folder.db.open_submissions() and len(folder.decisions("finish")) == 2
    with folder.db.transaction() as db:
        db.execute("UPDATE submissions SET open = 1")
    assert supervise(folder.runs, folder.executor) == 0
    assert not folder.db.open_submissions() and len(folder.decisions("finish")) == 2, "nothing more was asked for"


def test_a_trainer_that_cannot_be_killed_is_given_up_once_and_keeps_its_slot_until_it_is_dead(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "KILL_WAIT_S", 0.1)
    monkeypatch.setattr(supervisor, "TICK_S", 0.1)
    monkeypatch.setattr(supervisor, "GPU_LOOK_S", 0.1)
    monkeypatch.setattr(executor.LocalTrainer, "_signal", lambda trainer, number: None)  # as in uninterruptible sleep
    monkeypatch.setattr(executor.LocalTrainer, "_sweep", lambda trainer: None)
    folder.write(TWO, queue='until = "all"')
    folder.script(a=["wait", "good"])
    submission = folder.db.submit(folder.submission())
    seen: list[Any] = []

    def person() -> None:
        wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
        folder.db.ask("kill", [Target(submission.id, "a")], "killed on request")
        wait_for(lambda: folder.decisions("exit"))
        folder.looked_at_again(submission.id, "b")
        seen.extend([folder.starts(), [end.outcome for end in folder.decisions("exit")]])
        seen.append([wait.reason for wait in folder.decisions("wait")][-1])
        folder.db.ask("release", [Target(submission.id, "a")])
        os.kill(folder.births("a")[0], signal.SIGKILL)

    thread = threading.Thread(target=person)
    thread.start()
    assert supervise(folder.runs, folder.executor) == 0
    thread.join()
    assert seen[:2] == [["a"], ["unkillable"]] and not folder.decisions("adopt")
    assert seen[2] == f"the CPU is taken by {folder.run('a').name} (killed, but stuck in the kernel)"
    assert sorted(folder.starts()) == ["a", "a", "b"]
    assert [end.outcome for end in folder.decisions("exit")] == ["unkillable", "done", "done"]
