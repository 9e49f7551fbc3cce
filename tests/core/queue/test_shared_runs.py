"""Two submissions whose rows are one run: it is started once, and ends for both. Real processes with FakeTrainers."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.queue.__main__ import supervise
from core.queue.commands import named, with_sharers
from core.queue.requests import Submission, Target
from core.queue.rows import queue_rows
from core.runs.row import Row
from core.runs.status import Status
from core.system.locks import is_held

TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'
ALL = 'until = "all"\nretries = 1'
HEARING = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"


def twice(folder: PlanFolder, *only: str) -> tuple[Submission, Submission]:
    """The plan, queued two times: of an edit in its title nothing but the submission is new."""
    first = folder.db.submit(folder.submission(only=only))
    folder.plan.write_text(folder.plan.read_text() + 'title = "edited"\n')
    return first, folder.db.submit(folder.submission(only=only))


def words(folder: PlanFolder, key: str) -> list[str]:
    return [entry.status.value for entry in queue_rows(folder.runs).rows if entry.key == key]


@pytest.fixture
def at_work(folder: PlanFolder) -> Iterator[Any]:
    """`a` has ended as the test's script says, `b` trains, and both submissions are open."""
    yield folder
    folder.end_all()


def trains(folder: PlanFolder, key: str) -> bool:
    found = [run.name for run in folder.runs.runs()]
    return any(name.startswith(f"{key}-") for name in found) and folder.snapshot(key).steps_completed == 10


@pytest.mark.parametrize(("how", "births"), [("error", 1), ("crash", 2), ("diverge", 1)])
def test_how_often_a_run_is_tried_is_counted_once_for_both(folder: PlanFolder, how: str, births: int) -> None:
    folder.write(TWO, queue=ALL)
    folder.script(a=[how] * births + ["good"])
    twice(folder, "a")
    assert supervise(folder.runs, folder.executor) == 0
    assert len(folder.births("a")) == births
    assert all("a" in d.not_run for d in folder.decisions("finish"))


def test_the_programs_of_both_plans_hear_of_the_end(folder: PlanFolder) -> None:
    heard = folder.root / "heard"
    folder.write(queue=f"notify = {json.dumps([sys.executable, '-c', HEARING, str(heard)])}")
    both = twice(folder)
    assert supervise(folder.runs, folder.executor) == 0
    told = [json.loads(line) for line in heard.read_text().splitlines()]
    ended = [line["submission"] for line in told if line["event"] == "run_ended"]
    assert sorted(ended) == sorted(submission.id for submission in both) and len(folder.births("a")) == 1


def test_both_rows_have_the_same_word_and_a_new_supervisor_counts_as_the_old_one(at_work: Any) -> None:
    folder = at_work
    folder.write(TWO, queue=ALL)
    folder.script(a=["error", "good"], b=["wait", "good"])
    twice(folder)
    client = folder.client
    client.ensure_supervisor()
    wait_for(lambda: trains(folder, "b"))
    assert words(folder, "a") == ["failed", "failed"]
    wait_for(lambda: words(folder, "b") == ["training", "training"])
    os.kill(int(folder.runs.supervisor_lock.read_text()), signal.SIGKILL)
    client._child.wait()
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))
    client.ensure_supervisor()
    wait_for(lambda: folder.decisions("adopt"))
    assert words(folder, "a") == ["failed", "failed"]
    os.kill(folder.births("b")[0], signal.SIGTERM)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert len(folder.births("a")) == 1 and folder.snapshot("b").state is Status.DONE


def test_a_trainer_that_has_said_nothing_yet_is_starting_for_both(at_work: Any) -> None:
    folder = at_work
    folder.write()
    folder.script(a=["slow"])
    twice(folder)
    folder.client.ensure_supervisor()
    wait_for(folder.starts)
    wait_for(lambda: words(folder, "a") == ["starting", "starting"])


def test_retry_tries_the_run_once_more_and_not_once_for_each(at_work: Any) -> None:
    folder = at_work
    folder.write(TWO, queue=ALL)
    folder.script(a=["diverge", "diverge", "good"], b=["wait", "good"])
    twice(folder)
    folder.client.ensure_supervisor()
    wait_for(lambda: trains(folder, "b"))
    entries = queue_rows(folder.runs).rows
    targets = with_sharers(entries, entries[:1])
    assert [target.row for target in targets] == ["a", "a"]
    folder.db.ask("retry", targets)
    wait_for(lambda: not folder.db.snapshot().requests)
    assert words(folder, "a") == ["waiting", "waiting"]
    os.kill(folder.births("b")[0], signal.SIGTERM)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert len(folder.births("a")) == 2


def test_rows_that_are_one_run_are_known_before_it_has_a_folder(folder: PlanFolder) -> None:
    folder.write(TWO)
    first = folder.db.submit(folder.submission())
    other = folder.root / "other.toml"
    other.write_text(folder.plan.read_text().replace('id = "a"', 'id = "same"'))
    second = folder.db.submit(Submission.create(other, other.read_text()))
    elsewhere = folder.root / "elsewhere"
    elsewhere.mkdir()
    folder.db.submit(Submission.create(elsewhere / "plan.toml", other.read_text()))
    entries = queue_rows(folder.runs).rows
    chosen = [entry for entry in named(entries, ["a"]) if entry.queued.submission == first.id]
    assert with_sharers(entries, chosen) == [Target(first.id, "a"), Target(second.id, "same")]


def test_a_row_that_is_removed_from_one_submission_is_told_as_the_other_has_it(folder: PlanFolder) -> None:
    folder.write()
    first, second = twice(folder)

    def found() -> Row:
        return queue_rows(folder.runs).row(Row("plan:a", "a"), str(folder.plan))

    folder.db.ask("remove", [Target(first.id, "a")])
    assert found().queued.submission == second.id and found().status == "queued"
    folder.db.ask("hold", [Target(second.id, "a")], "held on request")
    assert (found().status, found().reason) == ("held", "held on request")
    folder.db.ask("remove", [Target(second.id, "a")])
    assert found().status == "removed"
