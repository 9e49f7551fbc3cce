"""Search, seeds, two plans and an edited plan through the supervisor: real processes with FakeTrainers."""

from __future__ import annotations

import json
import os
import signal

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.manifests.hashing import HashCache
from core.queue.__main__ import supervise
from core.queue.execution import PlanExecution
from core.queue.report import report
from core.queue.requests import Submission
from core.queue.rows import queue_rows
from core.runs.matrix import verdict_word
from core.runs.paths import RunPaths
from core.runs.row import Outcome, Row

ONE = '[[experiment]]\nid = "a"\nadapter.rank = 4\n'
TWO = ONE + '[[experiment]]\nid = "b"\ntrain.seed = 10\nadapter.rank = 4\n'
SEARCH = "[search]\nadapter.rank = [8, 16, 32, 64]\n"


def reports(folder: PlanFolder) -> tuple[PlanExecution, dict[str, Row]]:
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    return execution, {item.key: item for item in report(execution, {})}


def with_gate(folder: PlanFolder, experiments: str, gate: str = "", queue: str = "") -> None:
    folder.write(experiments, queue)
    folder.plan.write_text(folder.plan.read_text().replace("[gate]\n", f"[gate]\n{gate}\n"))


def test_the_queue_draws_rows_until_one_is_accepted(folder: PlanFolder) -> None:
    folder.write(SEARCH + TWO, queue='then = "search"')
    folder.script(**{"a": ["poor"], "b": ["poor"], "search": ["poor"], "search@rank64": ["good"]})
    finish = folder.work()
    drawn = folder.starts()[2:]
    assert folder.starts()[:2] == ["a", "b"] and drawn and finish["reason"] == f"{drawn[-1]} was accepted"
    assert "the plan is used up" in folder.decisions("start")[2].reason
    _, found = reports(folder)
    assert list(found) == ["a", "b", *drawn] and found[drawn[-1]].outcome is Outcome.ACCEPTED
    assert "rank=64" in found[drawn[-1]].settings
    # Again, and from another face: the same draws, and nothing is run twice.
    again = folder.work()
    assert folder.starts() == ["a", "b", *drawn] and again["reason"] == finish["reason"]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_draws_survive_the_supervisor(folder: PlanFolder, sampler: str) -> None:
    folder.write(
        SEARCH.replace("[search]\n", f'[search]\nsampler = "{sampler}"\n') + ONE, queue='then = "search"\nmax_runs = 3'
    )
    folder.script(a=["poor"], search=["wait", "good"])
    client = folder.client
    submission = client.submit(folder.submission())
    try:
        wait_for(lambda: any(row.startswith("search") for row in folder.starts()))
        run = RunPaths(folder.runs.root / folder.decisions("start")[-1].run)
        wait_for((run.root / "births.txt").exists)
        os.kill(int(folder.runs.supervisor_lock.read_text()), signal.SIGKILL)
        client._child.wait()
        client.ensure_supervisor()
        wait_for(lambda: folder.decisions("adopt"))
        [first] = [entry for entry in queue_rows(folder.runs).rows if (entry.wanted and entry.wanted.drawn)]
        assert first.run is not None and first.run.name == run.name and first.active
        os.kill(int((run.root / "births.txt").read_text().split()[0]), signal.SIGTERM)
        wait_for(lambda: [d for d in folder.decisions("finish") if d.submission == submission.id])
        assert folder.decisions("finish")[-1].reason == f"{first.key} was accepted"
        assert len(folder.runs.runs()) == 2
    finally:
        client._child.kill()
        client._child.wait()


def test_an_accepted_run_is_repeated_and_needs_all_seeds(folder: PlanFolder) -> None:
    with_gate(folder, TWO, "confirm_seeds = 2")
    folder.script(**{"a@seed2": ["poor"], "b": ["good"]})
    finish = folder.work()
    assert folder.starts() == ["a", "a@seed1", "a@seed2", "b", "b@seed11", "b@seed12"]
    assert finish["complete"] and finish["reason"] == "b was accepted"
    _, found = reports(folder)
    assert found["a"].outcome is Outcome.REJECTED and found["b"].outcome is Outcome.ACCEPTED
    words = {key: verdict_word(item) for key, item in found.items()}
    assert words["a"] == "accepted, seeds 1/2" and words["b"] == "accepted, seeds 2/2"
    seeds = {run.name: json.loads(run.config.read_text())["settings"]["train"]["seed"] for run in folder.runs.runs()}
    assert sorted(seeds.values()) == [0, 1, 2, 10, 11, 12]


def test_repeats_that_are_still_to_come_leave_the_row_undecided(folder: PlanFolder) -> None:
    with_gate(folder, ONE, "confirm_seeds = 1", queue="max_runs = 1")
    finish = folder.work()
    assert folder.starts() == ["a"] and "queue.max_runs" in finish["reason"]
    _, found = reports(folder)
    assert found["a"].outcome is Outcome.UNDECIDED and found["a"].seeds == (0, 1)
    assert found["a@seed1"].outcome is Outcome.PENDING


def test_two_plans_feed_one_supervisor_and_share_runs(folder: PlanFolder) -> None:
    folder.write(TWO, queue='until = "all"')
    first = folder.submission()
    other = folder.root / "other.toml"
    other.write_text(
        folder.plan.read_text().replace('id = "b"', 'id = "c"').replace("train.seed = 10", "train.seed = 20")
    )
    second = Submission.create(other, other.read_text())
    folder.db.submit(first)
    folder.db.submit(second)
    assert supervise(folder.runs, folder.executor) == 0
    assert [(d.submission, d.row) for d in folder.decisions("start")] == [
        (first.id, "a"),
        (first.id, "b"),
        (second.id, "c"),
    ]
    # Row a of the second plan is the run that the first one made.
    named = {(d.submission, d.row): d.run for d in folder.decisions("run")}
    assert named[first.id, "a"] == named[second.id, "a"]
    assert {d.submission: d.complete for d in folder.decisions("finish")} == {
        first.id: True,
        second.id: True,
    }


def test_a_plan_that_is_edited_while_the_queue_runs(folder: PlanFolder) -> None:
    three = TWO + '[[experiment]]\nid = "c"\ntrain.seed = 30\n'
    folder.write(three, queue='until = "all"')
    folder.script(b=["wait", "good"])
    client = folder.client
    first = client.submit(folder.submission())
    wait_for(lambda: "b" in folder.starts() and folder.snapshot("b").steps_completed == 10)
    done = folder.run("a")
    before = {path: path.stat().st_mtime_ns for path in done.root.glob("**/*")}
    # c changes, d is new, and a stays: submitted again while the first submission works.
    folder.plan.write_text(
        folder.plan.read_text().replace("train.seed = 30", "train.seed = 31")
        + '[[experiment]]\nid = "d"\ntrain.seed = 40\n'
    )
    second = client.submit(folder.submission())
    assert second.id != first.id
    os.kill(folder.births("b")[0], signal.SIGTERM)
    wait_for(lambda: len(folder.decisions("finish")) == 2)
    client._child.wait()
    assert before == {path: path.stat().st_mtime_ns for path in done.root.glob("**/*")}
    assert len(folder.births("a")) == 1 and len(folder.births("b")) == 2
    # What was submitted is worked on as it was; the edited row is another run beside it.
    started = [(d.submission, d.row) for d in folder.decisions("start")]
    assert started == [
        (first.id, "a"),
        (first.id, "b"),
        (first.id, "b"),
        (first.id, "c"),
        (second.id, "c"),
        (second.id, "d"),
    ]
    seeds = sorted(
        json.loads(run.config.read_text())["settings"]["train"]["seed"]
        for run in folder.runs.runs()
        if run.name.startswith("c-")
    )
    assert seeds == [30, 31]


def test_conditions_are_kept_with_their_inputs_in_three_values(folder: PlanFolder) -> None:
    rows = ONE + (
        '[[experiment]]\nid = "b"\ntrain.seed = 2\nafter = "a"\n'
        'when = "seconds_per_step < 9 and domain_gain > 1 and not falling"\n'
        '[[experiment]]\nid = "c"\ntrain.seed = 3\nafter = "d"\nwhen = "d:accepted or d:domain_wer > 1"\n'
        '[[experiment]]\nid = "d"\ntrain.seed = 4\n'
    )
    folder.write(rows, queue='until = "all"')
    folder.script(d=["diverge"])
    folder.work()
    [start] = [d for d in folder.decisions("start") if d.row == "b"]
    assert start.inputs == {"a:seconds_per_step": 0.001, "a:domain_gain": 10.0, "a:falling": False}
    [skip] = folder.decisions("skip")
    assert skip.row == "c" and skip.inputs == {"d:accepted": False, "d:domain_wer": None}
    assert "cannot be decided" in skip.reason and "d:domain_wer = unknown" in skip.reason
