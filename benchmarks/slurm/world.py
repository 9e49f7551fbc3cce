"""One runs folder on the test cluster under fire: what its files, its processes and Slurm say of it meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks.kill_matrix.world import Failed, World, command_lines, phase_of
from benchmarks.slurm.cluster import NODES, SlurmTestCluster
from core.queue import SUPERVISOR_COMMAND
from core.queue.commands import Commands, Selection
from core.queue.rows import queue_rows
from core.queue.slurm.commands import Job, parse_squeue, squeue_command
from core.queue.slurm.job import folder_key, told_by
from core.runs.row import Row
from core.runs.store import read_run, state_and_reason

TESTS = Path(__file__).parents[2] / "tests"
FAKE_SUPERVISOR = TESTS / "core" / "queue" / "fake_supervisor.py"
FAKE_COMMAND = TESTS / "lora_tui" / "fake_command.py"
TRAINS = {False: b"core.training", True: b"fake_trainer.py"}
"""In the command line of a trainer."""
FAKE_STEPS = {
    "starting": 0, "training": 60, "evaluating": 210, "checkpointing": 300, "saving": 400, "finishing": 480
}  # fmt: skip
OPTIONS = (
    "--set", "queue.executor=slurm", "--set", "queue.slurm.gres=gpu:1", "--set", "queue.slurm.save_seconds=30"
)  # fmt: skip
_KILLING_SBATCH = """#!/bin/sh
# The supervisor that called is dead before it can read the job's number.
{sbatch} "$@" >/dev/null || exit 1
case "$*" in *--test-only*) exit 0;; esac
if rm {armed} 2>/dev/null; then kill -9 $PPID; exit 1; fi
exec {squeue} --noheader --me --format=%i --sort=-i --name={name} | head -n 1
"""


class SlurmWorld(World):
    """`World` with jobs in place of local trainers. One run, `k`."""

    def __init__(self, folder: Path, plan: Path, cluster: SlurmTestCluster, *, fake: bool) -> None:
        """`fake`: trainers only write what trainers write."""
        self.cluster, self.fake = cluster, fake
        self.most_jobs = 0
        self.bin = folder / "bin"
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        super().__init__(folder, plan, {**cluster.environment, "PATH": path})
        self.key = folder_key(self.runs.root)

    def begin(self) -> subprocess.Popen[bytes]:
        """A headless face on the plan, whose trainers are jobs."""
        return begin(self, *OPTIONS, fake=self.fake)

    def retry(self) -> None:
        """`lora-tui queue retry k`; the supervisor that it starts is of the kind that the face starts."""
        command = (sys.executable, str(FAKE_SUPERVISOR)) if self.fake else SUPERVISOR_COMMAND
        Commands(self.runs, command).retry(Selection(["k"]))

    def jobs(self) -> list[Job]:
        """Of this folder, the oldest first; none while the controller does not answer."""
        listed = self.cluster.run(*squeue_command(), check=False).stdout
        mine = [job for job in parse_squeue(listed).values() if told_by(job.comment, self.key) is not None]
        return sorted(mine, key=lambda job: int(job.id))

    def the_job(self) -> str:
        """The number of the job that has not ended."""
        return str(self.until("a job", lambda: [job.id for job in self.jobs() if not job.over])[-1])

    def trainers(self) -> list[int]:
        """Pids of the trainers of this folder; what they have forked does not count."""
        needle = str(self.runs.root).encode()
        named = {
            p for p, words in command_lines() if TRAINS[self.fake] in b" ".join(words) and needle in b" ".join(words)
        }
        return [pid for pid in named if _parent(pid) not in named]

    def trainer(self) -> int | None:
        """The trainer that lives."""
        return next(iter(self.trainers()), None)

    def node(self) -> str:
        """The node on which the job runs."""
        nodes = self.cluster.run("squeue", "--noheader", "--format=%N", f"--jobs={self.the_job()}").stdout.split()
        return nodes[0] if nodes else ""

    def phase(self) -> tuple[str, int]:
        """(phase, step) of the newest attempt, whichever job began it."""
        run = self.run()
        return ("", 0) if run is None else phase_of(run, 0)

    def listed(self, row: str = "k") -> dict[str, str]:
        """What every face says of the row."""
        queue = queue_rows(self.runs)
        found = next((entry for entry in queue.rows if entry.key == row), None)
        run = self.run()
        if found is None and run is not None:
            state, why = state_and_reason(run)
            found = queue.row(Row("bench", row, state, why, run=run), str(self.plan))
        return {"state": "", "reason": ""} if found is None else {"state": str(found.status), "reason": found.reason}

    def reach(self, phase: str, after_step: int = 0) -> None:
        """Until a trainer lives and is in the phase, beyond a step. FakeTrainers come to steps instead of phases."""
        if self.fake:
            step = FAKE_STEPS[phase]
            self.until(f"step {step}", lambda: self.trainers() and self.steps() >= step, 240, 0.05)
            return
        self.until(
            f"{phase} beyond step {after_step}",
            lambda: self.trainers() and self.phase()[0] == phase and (self.phase()[1] >= after_step or not after_step),
            240,
            0.01,
        )

    def steps(self) -> int:
        """Steps that were done."""
        run = self.run()
        return 0 if run is None else read_run(run).steps_completed

    def kill_node(self, node: str) -> None:
        """What a loss of power does: slurmd, the job's shepherd and the trainer die at once."""
        self.cluster.kill(f"slurmd-{node}")
        job = self.the_job()
        for pid, words in command_lines():
            if words[0].startswith(b"slurmstepd") and f"[{job}." in words[0].decode(errors="replace"):
                self.kill(pid)
        for pid in self.trainers():
            for child in psutil.Process(pid).children(recursive=True):
                self.kill(child.pid)
            self.kill(pid)

    def arm_sbatch(self) -> None:
        """The next sbatch kills the supervisor that called it, once Slurm has taken the job."""
        self.bin.mkdir(exist_ok=True)
        names = {name: _real(name, self.bin) for name in ("sbatch", "squeue")}
        (self.bin / "armed").touch()
        command = self.bin / "sbatch"
        name = "$(echo \"$*\" | sed 's/.*--job-name=\\([^ ]*\\).*/\\1/')"
        command.write_text(_KILLING_SBATCH.format(**names, armed=self.bin / "armed", name=name))
        command.chmod(0o755)

    def armed(self) -> bool:
        """Whether no supervisor has called sbatch since."""
        return (self.bin / "armed").exists()

    def close(self) -> None:
        """End the face and the supervisor, and cancel what is left of the jobs."""
        for face in self.faces:
            face.kill()
        if (pid := self.supervisor()) is not None:
            self.kill(pid)
        with contextlib.suppress(Exception):
            for job in self.jobs():
                if not job.over:
                    self.cluster.run("scancel", "--full", "--signal=KILL", job.id, check=False)
                    self.cluster.run("scancel", job.id, check=False)
        super().close()

    def _count(self) -> None:
        """How many trainers live, and how many jobs have not ended, at the same time: one of each."""
        while not self._over.wait(0.3):
            self.most_trainers = max(self.most_trainers, len(self.trainers()))
            if hasattr(self, "key"):
                with contextlib.suppress(subprocess.SubprocessError):
                    self.most_jobs = max(self.most_jobs, sum(not job.over for job in self.jobs()))


def begin(world: World, *options: str, fake: bool) -> subprocess.Popen[bytes]:
    """A headless face. `fake`: with FakeTrainers."""
    if not fake:
        return world.face(*options)
    command = [sys.executable, str(FAKE_COMMAND), "--headless", str(world.plan), "--runs", str(world.runs.root)]
    with (world.folder / "face.log").open("ab") as log:
        face = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=world.folder,
            env=world.environment,
            start_new_session=True,
        )
    world.faces.append(face)
    return face


def wait_up(cluster: SlurmTestCluster) -> None:
    """Start what was killed of the cluster, and let its nodes take jobs again."""
    if "slurmctld" not in cluster.daemons:
        cluster.start_slurmctld()
    for node in NODES:
        if f"slurmd-{node}" not in cluster.daemons:
            cluster.start_slurmd(node)
    for node in NODES:
        cluster.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)


def pause(pid: int, seconds: float) -> None:
    """Stop a process for so long."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _real(name: str, but: Path) -> str:
    for folder in os.environ["PATH"].split(os.pathsep):
        if Path(folder) != but and os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise Failed(f"there is no {name}")


def _parent(pid: int) -> int:
    try:
        return int(psutil.Process(pid).ppid())
    except psutil.Error:
        return 0
