"""What is given to Slurm's commands, and what is made of what they print."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from slurm_kit import FakeSlurm

from core.errors import may_pass
from core.plan.schema import SlurmSettings
from core.queue.slurm import commands
from core.queue.slurm.commands import Job, JobEnd, parse_job, parse_squeue, slurm_environment
from core.queue.slurm.executor import job_outcome
from core.queue.slurm.job import batch_script, comment_of, folder_key, is_job_of, sbatch_options, told_by

SHOWN = (
    "JobId=7 JobName=2.1-0123456789 UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=4294901755 Nice=0 "
    "Account=(null) QOS=(null) JobState=TIMEOUT Reason=TimeLimit Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 "
    "Reboot=0 ExitCode=0:15 RunTime=1-00:01:03 TimeLimit=1-00:00:00 TimeMin=N/A NodeList=n1 BatchHost=n1 NumNodes=1 "
    "Command=(null) WorkDir=/with a space/runs Comment=lora-tui:k:2.1-0123456789:1 StdErr=/x StdIn=/dev/null Power="
)


def test_a_list_of_jobs_is_read_whatever_stands_in_their_comments() -> None:
    jobs = parse_squeue(
        "7|PENDING|2026-11-30T18:30:00|Resources|a-1|lora-tui:k:a-1:0\n"
        "8|RUNNING|2026-11-30T18:00:00|None|b|what|ever\n"
        "9|COMPLETED|N/A|None|c|(null)\n"
        "squeue: warning: something\n"
    )
    assert list(jobs) == ["7", "8", "9"]
    assert jobs["7"].pending and jobs["7"].reason == "Resources" and jobs["7"].start is not None
    assert jobs["8"].comment == "what|ever" and not jobs["8"].reason and not jobs["8"].over
    assert jobs["9"].over and jobs["9"].start is None


@pytest.mark.parametrize("state", ["CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUE_HOLD", "a word of a later Slurm"])
def test_a_job_in_a_state_that_is_no_end_has_not_ended(state: str) -> None:
    assert not Job("1", state).over and not JobEnd(state).over


def test_a_job_as_scontrol_shows_it() -> None:
    end = parse_job(SHOWN)
    assert end == JobEnd("TIMEOUT", 0, 15, 86_463.0, 86_400.0, "n1", "2.1-0123456789", "lora-tui:k:2.1-0123456789:1")
    assert parse_job("slurm_load_jobs error") is None
    unlimited = parse_job(SHOWN.replace("TimeLimit=1-00:00:00", "TimeLimit=UNLIMITED"))
    assert unlimited is not None and unlimited.limit is None


def test_the_comment_is_the_identity_of_a_run_of_one_folder(tmp_path: Path) -> None:
    key, other = folder_key(tmp_path / "runs"), folder_key(tmp_path / "others")
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    assert key == folder_key(tmp_path / "link") and key != other
    assert told_by(comment_of(key, "a-1", 2), key) == ("a-1", 2)
    for foreign in (comment_of(other, "a-1", 2), "(null)", "", "lora-tui:x", comment_of(key, "a-1", 2) + ":3"):
        assert told_by(foreign, key) is None


def test_a_job_whose_comment_was_lost_is_known_by_its_name() -> None:
    key, other = "0123456789ab", "ba9876543210"
    assert is_job_of(comment_of(key, "a-1", 2), "renamed", key, "a-1") and is_job_of("(null)", "a-1", key, "a-1")
    for comment, name in ((comment_of(key, "b-1", 2), "a-1"), (comment_of(other, "a-1", 2), "a-1"), ("(null)", "b-1")):
        assert not is_job_of(comment, name, key, "a-1")


def test_sbatch_is_told_what_the_plan_says_and_the_queue_needs() -> None:
    settings = SlurmSettings(partition="gpu", time="8:00:00", gres="gpu:1", options=("--constraint=a100",))
    options = sbatch_options(settings, Path("/r/100%/a-1"), Path("/r/100%/a-1/log.txt"), 3, "c")
    assert options[:5] == [
        "--partition=gpu",
        "--time=8:00:00",
        "--gres=gpu:1",
        "--cpus-per-task=3",
        "--constraint=a100",
    ]
    assert "--output=/r/100%%/a-1/log.txt" in options, "Slurm would put the job's number for %a"
    assert {"--requeue", "--open-mode=append", "--signal=B:TERM@120", "--comment=c"} <= set(options)
    assert "--account" not in " ".join(options)


def test_the_script_gives_its_process_to_the_trainer_after_the_setup() -> None:
    script = batch_script(["python", "-P", "/runs of mine/a-1"], "module load cuda\nulimit -c 0", {"B": "1", "A": "$x"})
    assert script.splitlines() == [
        "#!/bin/bash",
        "export A='$x'",
        "export B=1",
        "module load cuda",
        "ulimit -c 0",
        "exec python -P '/runs of mine/a-1'",
    ]


def test_what_this_process_is_in_slurm_is_no_option_of_its_jobs() -> None:
    given = {"PATH": "/bin", "SLURM_JOB_ID": "1", "SBATCH_PARTITION": "x", "SLURM_CONF": "/c", "HF_HOME": "/h"}
    assert slurm_environment(given) == {
        "PATH": "/bin", "SLURM_CONF": "/c", "HF_HOME": "/h", "SLURM_TIME_FORMAT": "standard"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("sbatch: error: invalid partition specified: gpus", False),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination", False),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", True),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", True),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", True),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", True),
    ],
)
def test_what_sbatch_refuses_for_good_is_told_from_what_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, passes: bool
) -> None:
    fake = FakeSlurm(tmp_path / "slurm")
    fake.install(monkeypatch)
    fake.say("refuses", said)
    options = ["--comment=c", f"--output={tmp_path}/log.txt", f"--chdir={tmp_path}"]
    with pytest.raises(OSError, match=said.partition("error: ")[2][:20]) as refused:
        commands.sbatch(options, "true", dict(os.environ))
    assert may_pass(refused.value) is passes


def test_without_slurm_the_message_says_where_to_start_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(
        commands.SlurmMissing, match="squeue is not on this machine: start the queue on a login node"
    ) as no:
        commands.squeue()
    assert no.value.errno == errno.ENOENT and not may_pass(no.value)


@pytest.mark.parametrize(
    ("end", "files", "outcome", "told"),
    [
        (JobEnd("PREEMPTED", node="n1"), "stopped", "interrupted", "another job took its place (n1)"),
        (JobEnd("NODE_FAIL", node="n1"), "crashed", "interrupted", "its node failed (n1)"),
        (JobEnd("TIMEOUT", signal=15), "crashed", "crashed", "the time limit of job 7 was reached"),
        (JobEnd("COMPLETED", seconds=400, limit=480), "stopped", "stopped", "the time limit of job 7 came near"),
        (JobEnd("COMPLETED", seconds=40, limit=480), "stopped", "stopped", "asked to stop"),
        (JobEnd("CANCELLED"), "stopped", "cancelled", "job 7 was cancelled, and not by this queue"),
        (JobEnd("OUT_OF_MEMORY"), "crashed", "crashed", "raise queue.slurm.mem"),
        (JobEnd("FAILED", signal=9), "crashed", "crashed", "ended by signal 9"),
        (JobEnd("FAILED", exit_code=127), "crashed", "crashed", "with exit code 127"),
        (None, "crashed", "crashed", "Slurm does not know job 7 any more, and it left no last word"),
    ],
)
def test_what_an_end_in_slurm_comes_to(end: JobEnd | None, files: str, outcome: str, told: str) -> None:
    found, message = job_outcome(end, files, "asked to stop", "7", begun=True)
    assert found == outcome and told in message


def test_a_job_that_slurm_forgot_before_it_started_costs_nothing() -> None:
    assert job_outcome(None, "crashed", "", "7", begun=False)[0] == "interrupted"
