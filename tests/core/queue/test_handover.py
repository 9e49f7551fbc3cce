"""A run that two submissions share, when one of them ends. Real processes with FakeTrainers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.queue.journal import records
from core.queue.requests import Submission, Target
from core.queue.rows import queue_rows
from core.queue.state import QueueState
from core.runs.status import Status
from core.system.locks import is_held

TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'
ALL = 'until = "all"\nretries = 1'


def twice(folder: PlanFolder, *overrides: str) -> tuple[Submission, Submission]:
    """The plan, queued two times: of an edit in its title nothing but the submission is new."""
    first = folder.db.submit(folder.submission())
    folder.plan.write_text(folder.plan.read_text() + 'title = "edited"\n')
    return first, folder.db.submit(folder.submission(*overrides))


def words(folder: PlanFolder, key: str) -> list[str]:
    return [entry.status.value for entry in queue_rows(folder.runs).rows if entry.key == key]


def kill_supervisor(folder: PlanFolder) -> None:
    os.kill(int(folder.runs.supervisor_lock.read_text()), signal.SIGKILL)
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))


def trains(folder: PlanFolder, key: str = "a") -> bool:
    found = [run.name for run in folder.runs.runs()]
    return any(name.startswith(f"{key}-") for name in found) and folder.snapshot(key).steps_completed == 10


@pytest.fixture
def at_work(folder: PlanFolder) -> Iterator[Any]:
    """Ends what the test leaves behind."""
    yield folder
    folder.end_all()


def both_train(folder: PlanFolder, *overrides: str) -> tuple[Submission, Submission]:
    """`a` trains for the first submission, and the second one knows that its row is the same run."""
    found = twice(folder, *overrides)
    folder.client.ensure_supervisor()
    wait_for(lambda: trains(folder) and len(folder.decisions("run")) == 2)
    return found


@pytest.mark.parametrize("kind", ["stop", "kill"])
def test_a_run_goes_on_for_the_submission_that_is_not_ended(at_work: Any, kind: str) -> None:
    folder = at_work
    folder.write()
    folder.script(a=["wait", "good"])
    first, second = twice(folder)
    folder.client.ensure_supervisor()
    wait_for(lambda: trains(folder, "a"))
    wait_for(lambda: words(folder, "a") == ["training", "training"])
    folder.client.ask(kind, first.id)
    wait_for(lambda: folder.decisions("finish"))
    assert [d.submission for d in folder.decisions("finish")] == [first.id]
    wait_for(lambda: words(folder, "a") == ["training"])
    [handed] = folder.decisions("adopt")
    assert (handed.submission, handed.row) == (second.id, "a")
    # A supervisor that comes now knows whose it is, and that nobody asked it to end.
    os.kill(int(folder.runs.supervisor_lock.read_text()), signal.SIGKILL)
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))
    folder.client.ensure_supervisor()
    wait_for(lambda: len(folder.decisions("adopt")) == 2)
    assert [entry.queued.asked for entry in queue_rows(folder.runs).rows] == [""] and words(folder, "a") == ["training"]
    folder.client.ask(kind, second.id)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("a").state is (Status.STOPPED if kind == "stop" else Status.CRASHED)
    assert len(folder.births("a")) == 1


def test_all_submissions_that_are_stopped_together_end_their_common_run(at_work: Any) -> None:
    folder = at_work
    folder.write()
    folder.script(a=["wait", "good"])
    both = twice(folder)
    folder.client.ensure_supervisor()
    wait_for(lambda: trains(folder, "a"))
    folder.db.ask("stop", [Target(submission.id) for submission in both])
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("a").state is Status.STOPPED and len(folder.births("a")) == 1


def test_a_run_is_stopped_with_its_submission_where_the_other_one_holds_or_lacks_the_row(at_work: Any) -> None:
    folder = at_work
    folder.write(TWO, queue=ALL)
    folder.script(a=["wait", "good"])
    first = folder.db.submit(folder.submission())
    folder.db.submit(folder.submission(only=("b",)))
    folder.client.ensure_supervisor()
    wait_for(lambda: trains(folder, "a"))
    folder.client.ask("stop", first.id)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("a").state is Status.STOPPED and len(folder.births("a")) == 1


def test_the_budget_of_one_plan_does_not_stop_a_run_of_another(at_work: Any) -> None:
    folder = at_work
    folder.write()
    folder.script(a=["wait", "good"])
    folder.db.submit(folder.submission("queue.max_hours=1e-9"))
    folder.db.submit(folder.submission())
    folder.client.ensure_supervisor()
    wait_for(lambda: folder.decisions("finish"))
    assert "(queue.max_hours) is used up" in folder.decisions("finish")[0].reason
    wait_for(lambda: words(folder, "a") == ["training"])
    assert not folder.decisions("stop") and len(folder.births("a")) == 1


@pytest.mark.parametrize("kind", ["stop", "kill"])
def test_a_supervisor_that_finds_the_wish_ends_nothing_that_another_submission_wants(at_work: Any, kind: str) -> None:
    folder = at_work
    folder.write()
    folder.script(a=["wait", "good"])
    first, second = both_train(folder)
    kill_supervisor(folder)
    folder.client.ask(kind, first.id)
    wait_for(lambda: folder.decisions("finish"))
    wait_for(lambda: words(folder, "a") == ["training"])
    assert folder.decisions("adopt")[-1].submission == second.id and len(folder.births("a")) == 1


def test_what_was_asked_of_an_earlier_trainer_is_not_asked_of_the_one_that_is_handed_over(at_work: Any) -> None:
    folder = at_work
    folder.write(queue="retries = 0")
    folder.script(a=["wait"])
    first, second = both_train(folder)
    rows = [Target(first.id, "a"), Target(second.id, "a")]
    folder.db.ask("kill", rows, held="for a moment")
    wait_for(lambda: folder.decisions("exit"))
    folder.db.ask("release", rows)
    wait_for(lambda: len(folder.decisions("start")) == 2 and folder.snapshot("a").state is Status.TRAINING)
    folder.client.ask("stop", first.id)
    wait_for(lambda: folder.decisions("finish"))
    wait_for(lambda: len(words(folder, "a")) == 1)
    assert [(entry.status, entry.queued.asked) for entry in queue_rows(folder.runs).rows] == [("training", "")]
    os.kill(folder.births("a")[1], signal.SIGKILL)
    wait_for(lambda: len(folder.decisions("exit")) == 2)
    assert not QueueState(records(folder.runs.decisions)).is_killed(folder.run("a").name), "it died by itself"


def test_what_waits_in_the_submission_that_goes_on_still_says_so(at_work: Any) -> None:
    folder = at_work
    folder.write(TWO, queue=ALL)
    folder.script(a=["wait", "good"], b=["good"])
    first, _ = both_train(folder)
    folder.client.ask("stop", first.id)
    wait_for(lambda: folder.decisions("finish"))
    wait_for(lambda: words(folder, "b") == ["waiting"])


@pytest.mark.parametrize("owner", [True, False])
def test_the_hours_of_the_submission_that_goes_on_are_watched(at_work: Any, owner: bool) -> None:
    folder = at_work
    folder.write()
    folder.script(a=["wait", "good"])
    first, second = both_train(folder, "queue.max_hours=0.0008")
    if owner:
        folder.db.reorder_submissions([second.id, first.id])
        folder.client.ask("stop", first.id)
    wait_for(lambda: second.id in [d.submission for d in folder.decisions("finish")])
    assert folder.snapshot("a").state is (Status.STOPPED if owner else Status.TRAINING)


def test_two_submissions_that_both_want_to_stop_do_not_pass_the_run_to_and_fro(at_work: Any) -> None:
    folder = at_work
    folder.write()
    folder.script(a=["stubborn", "good"])
    folder.db.submit(folder.submission("queue.max_hours=1e-9"))
    folder.db.submit(folder.submission("queue.max_hours=2e-9"))
    folder.client.ensure_supervisor()
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert not folder.decisions("adopt") and folder.snapshot("a").state is not Status.TRAINING


def test_a_trainer_whose_submission_is_lost_belongs_to_the_one_that_has_its_run(at_work: Any) -> None:
    folder = at_work
    folder.write()
    folder.script(a=["wait", "good"])
    folder.db.submit(folder.submission())
    folder.client.ensure_supervisor()
    wait_for(lambda: trains(folder))
    kill_supervisor(folder)
    folder.runs.queue_db.unlink()
    again = folder.client.submit(folder.submission())
    wait_for(lambda: len(folder.decisions("adopt")) == 2)
    folder.client.ask("stop", again.id)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("a").state is Status.STOPPED and len(folder.births("a")) == 1


def test_a_run_whose_turn_has_not_come_in_the_other_submission_is_stopped(at_work: Any) -> None:
    folder = at_work
    folder.write('[[experiment]]\nid = "a"\ntrain.seed = 7\n', queue=ALL)
    folder.script(a=["wait", "good"])
    first = folder.db.submit(folder.submission())
    later = '[[experiment]]\nid = "x"\n[[experiment]]\nid = "a"\ntrain.seed = 7\nafter = ["x"]\nwhen = "not accepted"\n'
    folder.write(later, queue=ALL)
    folder.db.submit(folder.submission())
    folder.client.ensure_supervisor()
    wait_for(lambda: trains(folder) and len(folder.decisions("run")) == 2)
    folder.client.ask("stop", first.id)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("x").state is Status.DONE and folder.snapshot("a").state is Status.STOPPED


def test_a_trainer_that_was_told_to_stop_is_not_handed_over_by_the_next_supervisor(at_work: Any) -> None:
    folder = at_work
    folder.write(queue="retries = 0")
    folder.script(a=["stubborn", "good"])
    first = folder.client.submit(folder.submission())
    wait_for(lambda: trains(folder))
    folder.client.ask("stop", first.id)
    wait_for(lambda: not folder.db.snapshot().requests)  # killed earlier, the trainer was told nothing, and goes on
    assert folder.client.submit(folder.submission()).id != first.id, "that one ends"
    kill_supervisor(folder)
    folder.client.ensure_supervisor()
    wait_for(lambda: folder.snapshot("a").state is Status.DONE and len(folder.decisions("exit")) == 2)
    assert folder.decisions("exit")[0].asked


def test_a_row_that_is_removed_in_the_moment_in_which_it_starts_is_stopped(at_work: Any) -> None:
    folder = at_work
    folder.write(TWO, queue=ALL)
    folder.script(a=["wait", "good"])
    only = folder.client.submit(folder.submission())
    wait_for(lambda: trains(folder))
    folder.db.ask("remove", [Target(only.id, "a")])
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("a").state is Status.STOPPED and folder.snapshot("b").state is Status.DONE
    assert [d.asked for d in folder.decisions("exit")] == [True, False]
