"""Jobs as trainers: submitted once, found again, and their true state without accounting. Slurm is a FakeSlurm."""

from __future__ import annotations

from pathlib import Path

import pytest
from plan_folder import TRAINER
from slurm_kit import FakeSlurm
from waiting import wait_for

from core.errors import RunFolderError, may_pass
from core.plan.schema import SlurmSettings
from core.queue.executors import JobNews, Trainer
from core.queue.slurm import executor as executor_module
from core.queue.slurm.executor import SlurmCluster
from core.queue.slurm.job import comment_of, folder_key
from core.runs.events import SCHEMA_VERSION, AttemptStarted, Final, Record, encode
from core.runs.paths import RunPaths, RunsFolder
from core.system.files import append_line, write_json
from core.system.process import current_process


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm")
    fake.install(monkeypatch)
    fake.say("waits")
    for name in ("FRESH_S", "FIRST_POLL_S", "SLOWEST_POLL_S", "DEATH_WAIT_S"):
        monkeypatch.setattr(executor_module, name, 0.0)
    return fake


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    run = RunPaths(tmp_path / "runs" / "a-0123456789")
    run.root.mkdir(parents=True)
    return run


def cluster_of(run: RunPaths) -> SlurmCluster:
    """Of a supervisor that comes now."""
    return SlurmCluster(RunsFolder(run.root.parent, run.root.parent.with_name("state")), TRAINER)


def submitted(cluster: SlurmCluster, run: RunPaths, attempts: int = 0) -> Trainer:
    trainer = cluster.executor(SlurmSettings(gres="gpu:1")).start(run, 2, attempts=attempts)
    assert trainer is not None
    return trainer


def look(cluster: SlurmCluster) -> None:
    """One whole squeue."""
    before = cluster.asked_at, cluster.reached
    cluster._poll_at = 0.0
    wait_for(lambda: cluster.look() or (cluster.asked_at, cluster.reached) != before)  # type: ignore[func-returns-value]


def seen(cluster: SlurmCluster, trainer: Trainer) -> None:
    """What a supervisor does at each tick, with a new list of jobs."""
    look(cluster)
    assert trainer.alive() and trainer.escalate()


def say(run: RunPaths, attempt: int, *words: Final) -> None:
    process = current_process().to_json() | {"machine": "another", "boot": "another"}
    for event in (AttemptStarted(SCHEMA_VERSION, process, None, "cpu", "fp32"), *words):
        append_line(run.events, encode(Record(attempt, 1e9, event)))


def test_a_run_is_submitted_once_whoever_asks(slurm: FakeSlurm, run: RunPaths) -> None:
    first = cluster_of(run)
    trainer = submitted(first, run)
    assert trainer.job == "1" and trainer.alive()
    again = cluster_of(run)  # the supervisor was killed before it could record the job
    assert again.executor(SlurmSettings()).start(run, 2) is None
    found = again.executor(SlurmSettings()).adopt(run, None)
    assert found is not None and found.job == "1" and found.attempts_before == 0
    assert len(slurm.jobs) == 1 and len(slurm.calls("sbatch")) == 1


def test_the_job_of_a_run_of_another_folder_is_none_of_its(slurm: FakeSlurm, run: RunPaths, tmp_path: Path) -> None:
    slurm.add(comment_of(folder_key(tmp_path / "others"), run.name, 0))
    slurm.add(comment_of(folder_key(run.root.parent), run.name, 0), state="COMPLETED")
    assert cluster_of(run).executor(SlurmSettings()).adopt(run, None) is None


def test_nothing_is_submitted_while_slurm_cannot_tell_whether_the_run_has_a_job(
    slurm: FakeSlurm, run: RunPaths
) -> None:
    slurm.say("down")
    with pytest.raises(OSError, match="Unable to contact slurm controller") as down:
        cluster_of(run).executor(SlurmSettings()).start(run, 2)
    assert may_pass(down.value) and not slurm.calls("sbatch")


def test_a_submission_that_failed_and_was_taken_all_the_same_is_found(slurm: FakeSlurm, run: RunPaths) -> None:
    slurm.say("refuses", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    slurm.say("takes")
    cluster = cluster_of(run)
    with pytest.raises(OSError, match="Socket timed out") as refused:
        submitted(cluster, run)
    assert may_pass(refused.value)
    found = cluster.executor(SlurmSettings()).adopt(run, None)
    assert found is not None and found.job == "1"


def test_no_job_writes_behind_a_link_that_lies_in_a_run_folder(slurm: FakeSlurm, run: RunPaths) -> None:
    run.log.symlink_to(run.root / "elsewhere")
    with pytest.raises((OSError, RunFolderError)):
        submitted(cluster_of(run), run)
    assert not slurm.calls("sbatch")


def test_a_waiting_job_says_why_and_when(slurm: FakeSlurm, run: RunPaths) -> None:
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    slurm.change("1", reason="Resources", start="2026-11-30T18:30:00")
    look(cluster)
    assert trainer.alive()
    news = trainer.news()
    assert news is not None and (news.state, news.reason) == ("PENDING", "Resources") and news.expected is not None
    slurm.change("1", start="2026-11-30T18:31:00")
    look(cluster)
    assert trainer.alive() and trainer.news() is None, "an estimate that moves by a minute is no news"
    slurm.change("1", state="RUNNING")
    look(cluster)
    assert trainer.alive() and trainer.news() == JobNews("RUNNING")


def test_a_job_that_its_node_loses_goes_on_as_the_same_trainer(slurm: FakeSlurm, run: RunPaths) -> None:
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    say(run, 1, Final("stopped", "asked to stop", 3))  # it saved when it was preempted
    for state in ("RUNNING", "COMPLETING", "PENDING", "RUNNING"):
        slurm.change("1", state=state)
        look(cluster)
        assert trainer.alive()


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
def test_a_job_has_ended_when_its_last_word_can_be_read(slurm: FakeSlurm, run: RunPaths, state: str) -> None:
    """Slurm knows sooner than a shared folder shows."""
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    say(run, 1)
    slurm.change("1", state=state)
    look(cluster)
    look(cluster)
    assert trainer.alive(), "what it wrote last may not be seen here yet"
    append_line(run.events, encode(Record(1, 1e9, Final("stopped", "asked to stop", 3))))
    assert not trainer.alive()


@pytest.mark.parametrize("how", ["killed", "node", "cancelled", "before its first event"])
def test_a_job_that_died_is_not_waited_for_long(slurm: FakeSlurm, run: RunPaths, how: str) -> None:
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    if how != "before its first event":
        say(run, 1)
    state = {"node": "NODE_FAIL", "cancelled": "CANCELLED"}.get(how, "FAILED")
    slurm.change("1", state=state, exit="0:9" if how == "killed" else "1:0")
    look(cluster)
    trainer.alive()
    look(cluster)
    assert not trainer.alive()
    outcome, _ = trainer.end("crashed", "")
    assert outcome == {"node": "interrupted", "cancelled": "cancelled"}.get(how, "crashed")


def test_a_job_that_slurm_has_forgotten_ends_after_a_grace_period(
    slurm: FakeSlurm, run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    say(run, 1)
    slurm.change("1", purged=True)
    look(cluster)
    assert trainer.alive()
    monkeypatch.setattr(executor_module, "WORD_WAIT_S", 0.0)
    look(cluster)
    assert not trainer.alive()
    assert trainer.end("crashed", "") == ("crashed", "Slurm does not know job 1 any more, and it left no last word")


def test_a_number_that_slurm_gave_again_is_another_job(slurm: FakeSlurm, run: RunPaths) -> None:
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    say(run, 1, Final("stopped", "asked to stop", 3))
    slurm.change("1", comment="of somebody else", state="RUNNING", **{"job-name": "b"})
    look(cluster)
    assert not trainer.alive()


def test_while_slurm_does_not_answer_jobs_go_on_and_results_count(slurm: FakeSlurm, run: RunPaths) -> None:
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    slurm.change("1", state="RUNNING")
    look(cluster)
    slurm.say("down")
    look(cluster)
    assert not cluster.reached and trainer.alive()
    write_json(run.result, {"schema": 1, "outcome": "done"})
    assert not trainer.alive()


def test_a_stop_is_a_signal_to_the_trainer_or_the_end_of_a_waiting_job(slurm: FakeSlurm, run: RunPaths) -> None:
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    trainer.stop()
    assert slurm.calls("scancel") == ["--quiet --state=PENDING 1", "--quiet --batch --signal=TERM 1"]
    assert slurm.jobs["1"]["state"] == "CANCELLED"
    look(cluster)
    trainer.alive()
    look(cluster)
    assert not trainer.alive() and trainer.end("crashed", "as its files say") == ("crashed", "as its files say")


def test_a_stop_that_slurm_did_not_hear_is_said_again(slurm: FakeSlurm, run: RunPaths) -> None:
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    slurm.say("down")
    trainer.stop()
    slurm.unsay("down")
    look(cluster)
    assert trainer.alive() and trainer.escalate() and slurm.jobs["1"]["state"] == "CANCELLED"


@pytest.mark.parametrize("job", ["1", "--user=me", "-t PENDING", "2", "٣", ""])
@pytest.mark.parametrize("comment", ["of somebody else", comment_of("0123456789ab", "a-0123456789", 0)])
@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_no_command_is_sent_to_a_job_that_is_not_the_runs(
    slurm: FakeSlurm, run: RunPaths, monkeypatch: pytest.MonkeyPatch, job: str, comment: str, state: str
) -> None:
    """A journal may name any number, and a controller that lost its state begins to count anew."""
    monkeypatch.setattr(executor_module, "WORD_WAIT_S", 0.0)
    slurm.add(comment, state, **({} if comment == "of somebody else" else {"job-name": run.name}))
    cluster = cluster_of(run)
    trainer = cluster.find(run, job, 0)
    assert trainer is not None
    trainer.hold(held=True)
    trainer.place(1)
    trainer.escalate()
    trainer.stop()
    trainer.escalate()
    trainer.kill()
    for _ in range(2):
        look(cluster)
        trainer.escalate()
        alive = trainer.alive()
    assert not alive and slurm.jobs["1"]["state"] == state
    assert not slurm.calls("scancel") and {call.partition(" ")[0] for call in slurm.calls("scontrol")} <= {"show"}
    assert all(call == "show job --oneliner 1" or job == "2" for call in slurm.calls("scontrol"))


def test_a_job_that_has_ended_is_not_cancelled_under_its_number(slurm: FakeSlurm, run: RunPaths) -> None:
    trainer = submitted(cluster_of(run), run)
    slurm.change("1", state="COMPLETED")
    trainer.kill()
    assert not slurm.calls("scancel")


def test_a_run_keeps_its_job_where_the_cluster_drops_comments(slurm: FakeSlurm, run: RunPaths) -> None:
    slurm.say("strips")
    first = cluster_of(run)
    trainers = [submitted(first, run)]
    cluster = cluster_of(run)
    trainers += filter(None, [cluster.find(run, "1", 0)])
    slurm.change("1", state="RUNNING")
    for one, trainer in zip((first, cluster), trainers, strict=True):
        look(one)
        assert trainer.alive() and trainer.news() == JobNews("RUNNING")
    trainers[-1].kill()
    assert len(slurm.calls("scancel")) == 2


def test_a_job_that_only_the_accounts_call_running_ends_after_a_grace_period(
    slurm: FakeSlurm, run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    sacct = slurm.commands / "sacct"
    sacct.write_text(f"#!/bin/sh\necho x >> {slurm.home}/asked\necho 'RUNNING|0:0|60|n1|{run.name}'\n")
    sacct.chmod(0o755)
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    say(run, 1)
    slurm.change("1", purged=True)
    look(cluster)
    assert trainer.alive() and trainer.alive()
    assert (slurm.home / "asked").read_text() == "x\n", "accounts are asked once, not at every look"
    monkeypatch.setattr(executor_module, "WORD_WAIT_S", 0.0)
    look(cluster)
    assert not trainer.alive() and trainer.end("crashed", "")[0] == "crashed"


@pytest.mark.parametrize(("name", "state"), [("a-0123456789", "cancelled"), ("of another", "crashed")])
def test_accounts_tell_the_end_of_the_job_that_has_the_runs_name(
    slurm: FakeSlurm, run: RunPaths, monkeypatch: pytest.MonkeyPatch, name: str, state: str
) -> None:
    monkeypatch.setattr(executor_module, "WORD_WAIT_S", 0.0)
    sacct = slurm.commands / "sacct"
    sacct.write_text(f"#!/bin/sh\necho 'CANCELLED by 1000|0:15|60|n1|{name}'\n")
    sacct.chmod(0o755)
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    say(run, 1)
    slurm.change("1", purged=True)
    for _ in range(2):
        look(cluster)
        alive = trainer.alive()
    assert not alive and trainer.end("crashed", "")[0] == state


def test_a_kill_leaves_no_job(slurm: FakeSlurm, run: RunPaths) -> None:
    trainer = submitted(cluster_of(run), run)
    trainer.kill()
    assert slurm.calls("scancel") == ["--quiet --full --signal=KILL 1", "--quiet 1"]


def test_a_held_job_is_held_in_slurm_and_released_by_the_next_supervisor(slurm: FakeSlurm, run: RunPaths) -> None:
    first = cluster_of(run)
    trainer = submitted(first, run)
    for held, called in ((False, []), (True, ["hold 1"]), (True, ["hold 1"])):
        trainer.hold(held=held)
        seen(first, trainer)
        assert slurm.calls("scontrol") == called
    cluster = cluster_of(run)
    found = cluster.find(run, "1", 0)
    assert found is not None
    found.hold(held=False)  # asked for before Slurm has said anything
    seen(cluster, found)
    assert slurm.calls("scontrol") == ["hold 1", "release 1"] and slurm.jobs["1"]["reason"] == "Priority"


@pytest.mark.parametrize("held", [True, False])
def test_a_hold_that_slurm_did_not_hear_is_said_again(slurm: FakeSlurm, run: RunPaths, *, held: bool) -> None:
    cluster = cluster_of(run)
    submitted(cluster, run)
    slurm.change("1", reason="Priority" if held else "JobHeldUser")
    trainer = cluster.find(run, "1", 0)
    assert trainer is not None
    slurm.say("deaf")
    trainer.hold(held=held)
    trainer.place(1)
    seen(cluster, trainer)
    slurm.unsay("deaf")
    assert trainer.escalate() and len(slurm.calls("scontrol")) == 2, "once for each list of jobs"
    seen(cluster, trainer)
    assert slurm.jobs["1"]["reason"] == ("JobHeldUser" if held else "Priority")
    seen(cluster, trainer)
    assert slurm.calls("scontrol")[2:] == ["hold 1" if held else "release 1", "update JobId=1 Nice=100"]


def test_a_hold_by_somebody_else_and_the_options_of_a_plan_are_left_alone(slurm: FakeSlurm, run: RunPaths) -> None:
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    slurm.change("1", reason="JobHeldUser")
    trainer.hold(held=False)
    trainer.place(0)
    seen(cluster, trainer)
    assert not slurm.calls("scontrol")


def test_held_jobs_do_not_keep_others_from_being_submitted(slurm: FakeSlurm, run: RunPaths) -> None:
    cluster = cluster_of(run)
    trainer = submitted(cluster, run)
    assert cluster.full([trainer], 1)
    trainer.hold(held=True)
    assert not cluster.full([trainer], 1)
    seen(cluster, trainer)
    assert not cluster.full([trainer], 1)
    slurm.change("1", state="RUNNING")
    seen(cluster, trainer)
    assert cluster.full([trainer], 1), "it has started before it could be held"


def test_one_squeue_tells_of_all_jobs_and_comes_less_often_while_nothing_changes(
    slurm: FakeSlurm, run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "FIRST_POLL_S", 2.0)
    monkeypatch.setattr(executor_module, "SLOWEST_POLL_S", 30.0)
    cluster = cluster_of(run)
    key = folder_key(run.root.parent)
    numbers = [slurm.add(comment_of(key, f"a-{n:010}", 0)) for n in range(50)]
    found = [cluster.find(RunPaths(run.root.with_name(f"a-{n:010}")), job, 0) for n, job in enumerate(numbers)]
    trainers = [trainer for trainer in found if trainer is not None]
    intervals = []
    for _ in range(9):
        look(cluster)
        assert all(trainer.alive() for trainer in trainers)
        intervals.append(cluster._interval)
    assert len(slurm.calls("squeue")) == 9
    assert intervals[0] == 2.0 and intervals == sorted(intervals) and intervals[-1] == 30.0
    slurm.change(numbers[0], state="COMPLETED")
    look(cluster)
    assert cluster._interval == 2.0
