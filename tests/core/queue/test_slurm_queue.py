"""A plan with `queue.executor = "slurm"`, from beginning to end. Slurm is a FakeSlurm, trainers are FakeTrainers."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from plan_folder import SUPERVISOR, TWO, PlanFolder
from slurm_kit import FakeSlurm
from waiting import finish, wait_for

from core.queue import journal
from core.queue.journal import Start
from core.queue.requests import Target
from core.queue.rows import queue_rows
from core.queue.state import QueueState
from core.runs.row import Row
from core.runs.status import Status
from core.system.locks import is_held

SLURM = 'executor = "slurm"\nuntil = "all"\nslurm.jobs = 2'


@pytest.fixture
def slurm(folder: PlanFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    fake = FakeSlurm(tmp_path / "slurm")
    fake.install(monkeypatch)
    folder.write(TWO, queue=SLURM)
    yield fake
    fake.say("waits")
    folder.end_all()


def supervisor(folder: PlanFolder) -> subprocess.Popen[str]:
    command = [*SUPERVISOR, str(folder.runs.root), "--state", str(folder.runs.state)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: is_held(folder.runs.supervisor_lock))
    return process


def row(folder: PlanFolder, key: str) -> Row:
    return next(row for row in queue_rows(folder.runs).rows if row.key == key)


def begun(folder: PlanFolder, key: str) -> bool:
    """Whether a trainer of the row was started."""
    return any(run.name.startswith(f"{key}-") for run in folder.runs.runs()) and bool(folder.births(key))


def jobs(folder: PlanFolder) -> list[str | None]:
    return [start.job for start in folder.decisions("start") if isinstance(start, Start)]


@pytest.mark.heavy
def test_the_rows_of_a_plan_run_as_jobs_two_at_a_time(folder: PlanFolder, slurm: FakeSlurm) -> None:
    folder.write(TWO + '[[experiment]]\nid = "c"\ntrain.seed = 2\n', queue=SLURM)
    folder.script(a=["crash", "good"], b=["paced"])
    assert folder.work()["complete"]
    assert [folder.snapshot(key).state for key in "abc"] == [Status.DONE] * 3
    assert sorted(folder.starts()) == ["a", "a", "b", "c"] and jobs(folder) == ["1", "2", "3", "4"]
    assert [end.outcome for end in folder.decisions("exit") if end.run.startswith("a-")] == ["crashed", "done"]
    assert {job["state"] for job in slurm.jobs.values()} == {"COMPLETED", "FAILED"}
    assert "2 jobs are in Slurm's queue (queue.slurm.jobs = 2)" in [wait.reason for wait in folder.decisions("wait")]


@pytest.mark.heavy
def test_a_supervisor_that_was_killed_between_sbatch_and_its_record_finds_the_job(
    folder: PlanFolder, slurm: FakeSlurm
) -> None:
    folder.script(a=["wait", "good"], b=["wait", "good"])
    folder.db.submit(folder.submission())
    process = supervisor(folder)
    wait_for(lambda: len(jobs(folder)) == 2 and begun(folder, "a") and begun(folder, "b"))
    process.kill()
    finish(process)
    kept = [line for line in folder.runs.decisions.read_bytes().splitlines(keepends=True) if b'"start"' not in line]
    folder.runs.decisions.write_bytes(b"".join(kept))
    process = supervisor(folder)
    wait_for(lambda: {adopted.job for adopted in folder.decisions("adopt")} == {"1", "2"})
    assert len(slurm.jobs) == 2 and len(folder.births("a")) == len(folder.births("b")) == 1
    for key in "ab":
        os.kill(folder.births(key)[0], signal.SIGTERM)
    finish(process)
    assert [folder.snapshot(key).state for key in "ab"] == [Status.DONE] * 2


@pytest.mark.heavy
def test_a_supervisor_that_is_told_to_stop_lets_jobs_go_on(folder: PlanFolder, slurm: FakeSlurm) -> None:
    folder.script(a=["wait", "good"], b=["wait", "good"])
    folder.db.submit(folder.submission())
    process = supervisor(folder)
    wait_for(lambda: len(jobs(folder)) == 2 and begun(folder, "a") and begun(folder, "b"))
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert process.returncode == 0 and {job["state"] for job in slurm.jobs.values()} == {"RUNNING"}
    assert QueueState(journal.records(folder.runs.decisions)).asked_of(folder.run("a").name) is None
    process = supervisor(folder)
    for key in "ab":
        os.kill(folder.births(key)[0], signal.SIGTERM)
    finish(process)
    assert [folder.snapshot(key).state for key in "ab"] == [Status.DONE] * 2
    assert len(slurm.jobs) == 4, "each was stopped once and resumed"


@pytest.mark.heavy
def test_a_job_that_died_unseen_is_not_said_to_start(folder: PlanFolder, slurm: FakeSlurm) -> None:
    folder.script(a=["wait", "good"])
    folder.db.submit(folder.submission(only=("a",)))
    process = supervisor(folder)
    wait_for(lambda: [job.state for job in folder.decisions("job")] == ["RUNNING"] and begun(folder, "a"))
    wait_for(lambda: row(folder, "a").status is Status.TRAINING)
    process.kill()
    finish(process)
    os.kill(folder.births("a")[0], signal.SIGKILL)
    wait_for(lambda: row(folder, "a").status is Status.CRASHED)
    assert "no supervisor is at work" in row(folder, "a").reason
    finish(supervisor(folder))
    assert folder.snapshot("a").state is Status.DONE


@pytest.mark.heavy
@pytest.mark.parametrize("word", ["stop", "kill"])
def test_rows_are_stopped_killed_and_released_as_jobs(folder: PlanFolder, slurm: FakeSlurm, word: str) -> None:
    folder.script(a=["wait", "good"])
    submission = folder.db.submit(folder.submission(only=("a",)))
    process = supervisor(folder)
    wait_for(lambda: begun(folder, "a") and row(folder, "a").status is Status.TRAINING)
    assert row(folder, "a").reason.startswith("as Slurm job 1")
    folder.db.ask(word, [Target(submission.id, "a")], held="on request")
    wait_for(lambda: row(folder, "a").status is Status.HELD)
    folder.db.ask("release", [Target(submission.id, "a")])
    finish(process)
    assert folder.snapshot("a").state is Status.DONE and len(slurm.jobs) == 2


@pytest.mark.heavy
def test_a_job_that_waits_is_held_moved_and_removed_in_slurm(folder: PlanFolder, slurm: FakeSlurm) -> None:
    slurm.say("waits")
    submission = folder.db.submit(folder.submission())
    process = supervisor(folder)
    wait_for(lambda: row(folder, "b").reason.startswith("Slurm job 2 waits: Priority"))
    folder.db.ask("hold", [Target(submission.id, "a")], held="on request")
    wait_for(lambda: slurm.jobs["1"]["reason"] == "JobHeldUser")
    folder.db.ask("release", [Target(submission.id, "a")])
    wait_for(lambda: slurm.jobs["1"]["reason"] == "Priority")
    folder.db.reorder(submission.id, ["b", "a"])
    wait_for(lambda: "update JobId=1 Nice=100" in slurm.calls("scontrol"))
    folder.db.ask("remove", [Target(submission.id, key) for key in "ab"])
    finish(process)
    assert {job["state"] for job in slurm.jobs.values()} == {"CANCELLED"}


@pytest.mark.heavy
def test_a_job_is_released_though_nobody_was_at_work_when_that_was_asked(folder: PlanFolder, slurm: FakeSlurm) -> None:
    slurm.say("waits")
    submission = folder.db.submit(folder.submission())
    process = supervisor(folder)
    wait_for(lambda: row(folder, "b").reason.startswith("Slurm job 2 waits: Priority"))
    folder.db.ask("hold", [Target(submission.id, "a")], held="on request")
    wait_for(lambda: slurm.jobs["1"]["reason"] == "JobHeldUser")
    process.send_signal(signal.SIGTERM)
    finish(process)
    folder.db.ask("release", [Target(submission.id, "a")])
    process = supervisor(folder)
    wait_for(lambda: slurm.jobs["1"]["reason"] == "Priority")
    folder.db.ask("remove", [Target(submission.id, key) for key in "ab"])
    finish(process)


@pytest.mark.heavy
def test_what_sbatch_refuses_for_good_is_said_of_its_row(folder: PlanFolder, slurm: FakeSlurm) -> None:
    slurm.say("refuses", "sbatch: error: invalid partition specified: gpus")
    finished = folder.work()
    assert "cannot start" in str(finished["not_run"]["a"]) and "invalid partition specified" in finished["not_run"]["a"]


@pytest.mark.heavy
def test_a_job_that_somebody_cancelled_is_submitted_again_only_by_retry(folder: PlanFolder, slurm: FakeSlurm) -> None:
    folder.script(a=["wait", "good"])
    submission = folder.db.submit(folder.submission())
    process = supervisor(folder)
    wait_for(lambda: begun(folder, "a"))
    subprocess.run([slurm.commands / "scancel", "1"], check=True)
    wait_for(lambda: [end.outcome for end in folder.decisions("exit") if end.run.startswith("a-")] == ["cancelled"])
    finish(process)
    assert len(folder.births("a")) == 1
    finished = folder.decisions("finish")[-1]
    assert finished.submission == submission.id
    folder.db.submit(folder.submission(only=("a",)), retry=["a"])
    finish(supervisor(folder))
    assert folder.snapshot("a").state is Status.DONE and len(folder.births("a")) == 2
