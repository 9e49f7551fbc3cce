"""What a plan's `[queue.slurm]` is told before anything is submitted. Slurm is a FakeSlurm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plan_folder import PlanFolder
from slurm_kit import FakeSlurm

from core.plan.read import parse_plan
from core.queue.slurm import checks
from core.queue.slurm.checks import check_cluster
from lora_tui.__main__ import main

SLURM = 'executor = "slurm"\nslurm.partition = "gpus"'


@pytest.fixture
def slurm(folder: PlanFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm")
    fake.install(monkeypatch)
    folder.write(queue=SLURM)
    return fake


def of(folder: PlanFolder) -> checks.ClusterCheck:
    return check_cluster(parse_plan(folder.plan.read_text(), str(folder.plan)), folder.runs)


def lora_tui(folder: PlanFolder, *arguments: str) -> int:
    folders = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    return int(main([arguments[0], *arguments[1:], *folders]))


def test_sbatch_itself_is_asked_and_takes_no_job(folder: PlanFolder, slurm: FakeSlurm) -> None:
    assert not of(folder).problems and not of(folder).missing
    [first, _] = slurm.calls("sbatch")
    assert first.startswith("--test-only --partition=gpus") and not slurm.jobs


def test_a_plan_for_this_machine_asks_nobody(folder: PlanFolder, slurm: FakeSlurm) -> None:
    folder.write()
    assert of(folder) == checks.ClusterCheck() and not slurm.calls("sbatch")


def test_a_partition_that_is_not_there_is_a_problem_of_the_plan(
    folder: PlanFolder, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.say("refuses", "sbatch: error: invalid partition specified: gpus\n")
    assert lora_tui(folder, "plan", str(folder.plan)) == 4
    assert "would refuse its jobs (sbatch: invalid partition specified: gpus)" in capsys.readouterr().err
    assert lora_tui(folder, "queue", "add", str(folder.plan)) == 4
    assert "invalid partition specified: gpus" in capsys.readouterr().err and not folder.runs.queue_db.exists()


def test_a_controller_that_is_away_is_no_problem_of_the_plan(folder: PlanFolder, slurm: FakeSlurm) -> None:
    slurm.say("down")
    found = of(folder)
    assert not found.problems and "cannot be checked now: " in found.warnings[-1]


def test_without_sbatch_a_plan_is_right_and_cannot_be_started(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write(queue=SLURM)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert lora_tui(folder, "plan", str(folder.plan), "--json") == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert any("start the queue on a login node of the cluster" in warning for warning in warnings)
    assert lora_tui(folder, "queue", "add", str(folder.plan)) == 4
    assert "sbatch is not on this machine" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "warned"), [("ext4", True), ("tmpfs", True), ("nfs4", False), ("lustre", False)])
def test_a_folder_on_a_disk_of_one_machine_is_warned_of(
    folder: PlanFolder, slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, warned: bool
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / overlay rw 0 0\nserver:/x {tmp_path} {kind} rw 0 0\n/dev/b /other xfs rw 0 0\n")
    monkeypatch.setattr(checks, "_MOUNTS", mounts)
    found = [warning for warning in of(folder).warnings if warning.startswith("--runs ")]
    assert bool(found) is warned
