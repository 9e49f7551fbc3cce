"""The shipped plan on a real Slurm cluster of two nodes on this machine. `make test-cluster`; skipped without Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from plan_folder import SUPERVISOR, TWO, PlanFolder
from waiting import finish, wait_for

from benchmarks.kill_matrix.compare import differences, fingerprint
from benchmarks.kill_matrix.material import clips
from benchmarks.slurm.cluster import SlurmTestCluster, missing
from core.queue.journal import Start, records
from core.queue.rows import queue_rows
from core.runs.paths import RunsFolder
from core.runs.status import Status

pytestmark = [pytest.mark.heavy, pytest.mark.long]
ROOT = Path(__file__).parents[2]
SHORT = ("train.steps=4", "train.eval_every=4", "train.threads=1", "train.epochs=1", "queue.until=all")
ROWS = ("2.1", "2.1-lora")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmTestCluster]:
    if why := missing():
        pytest.skip(f"no Slurm cluster: {why}")
    with SlurmTestCluster(tmp_path_factory.mktemp("slurm") / "cluster") as made:
        yield made


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    clips(folder)
    return folder


def gate(speech: Path, home: Path, *settings: str) -> tuple[int, RunsFolder]:
    """The shipped plan's first rows with shortened steps on little speech: the gate's exit code, and where they ran."""
    sets = [f"data.{name}={speech}/{name}.jsonl" for name in ("train", "replay", "domain", "heldout")]
    command = [sys.executable, "-m", "lora_tui", "--headless", "--gate", str(ROOT / "experiments.toml")]
    command += ["--runs", str(home / "runs"), "--state", str(home / "state")]
    command += [word for row in ROWS for word in ("--only", row)]
    command += [word for value in (*SHORT, *sets, *settings) for word in ("--set", value)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, 1, 6), done.stderr
    return done.returncode, RunsFolder(home / "runs", home / "state")


def test_the_shipped_plan_comes_to_the_same_as_on_one_machine(
    cluster: SlurmTestCluster, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, here = gate(speech, tmp_path / "here")
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    again, there = gate(
        speech, tmp_path / "there", "queue.executor=slurm", "queue.slurm.gres=gpu:1", "queue.slurm.jobs=2"
    )
    assert code == again
    assert [run.name for run in here.runs()] == [run.name for run in there.runs()] and len(here.runs()) == len(ROWS)
    for one, other in zip(here.runs(), there.runs(), strict=True):
        assert not differences(fingerprint(one), fingerprint(other)), "adapters, scores, verdict: byte for byte"
    jobs = [one.job for one in records(there.decisions) if isinstance(one, Start)]
    assert len(jobs) == len(ROWS) and all(jobs)
    nodes = {words["Comment"]: words["BatchHost"] for words in map(shown, jobs_shown(cluster, jobs))}
    assert set(nodes.values()) == {"n1", "n2"}, "two trainers at a time, each on the GPU of a node"


def jobs_shown(cluster: SlurmTestCluster, jobs: list[str | None]) -> list[str]:
    return [cluster.run("scontrol", "show", "job", "--oneliner", str(job)).stdout for job in jobs]


def shown(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def words(folder: PlanFolder) -> list[Status]:
    return [row.status for row in queue_rows(folder.runs).rows]


def test_a_crash_is_resumed_and_slurms_reason_is_told(
    cluster: SlurmTestCluster, folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    # one of three rows has to wait for a GPU
    folder.write(
        TWO + '[[experiment]]\nid = "c"\ntrain.seed = 2\n',
        queue='executor = "slurm"\nuntil = "all"\nslurm.gres = "gpu:1"\nslurm.time = "10"',
    )
    folder.script(a=["wait", "good"], b=["wait", "good"], c=["good"])
    folder.db.submit(folder.submission())
    process = subprocess.Popen(
        [*SUPERVISOR, str(folder.runs.root), "--state", str(folder.runs.state)], stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: words(folder) == [Status.TRAINING, Status.TRAINING, Status.WAITING])
        wait_for(lambda: "waits: Resources" in queue_rows(folder.runs).rows[2].reason)
        os.kill(folder.births("a")[0], signal.SIGKILL)
        os.kill(folder.births("b")[0], signal.SIGTERM)
        finish(process)
    finally:
        folder.end_all()
    assert [folder.snapshot(key).state for key in "abc"] == [Status.DONE] * 3
    assert [len(folder.births(key)) for key in "abc"] == [2, 2, 1]
