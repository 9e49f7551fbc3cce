"""What the queue asks of whatever runs its trainers: processes of this machine, or jobs of a cluster.

`core.queue.executor` and `core.queue.slurm.executor` are the two that there are. Both run the same command on the same
run folder; a trainer says all by its files, and nothing rests on being its parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from core.plan.schema import SlurmSettings
from core.runs.paths import RunPaths
from core.system.process import ProcessIdentity


@dataclass(frozen=True, slots=True)
class JobNews:
    """What a cluster says of a trainer's job, where that has changed."""

    state: str
    """In the cluster's word: PENDING, RUNNING, …"""
    reason: str = ""
    """Why it does not run."""
    expected: float | None = None
    """Unix seconds at which it is expected to start."""


class Trainer(Protocol):
    """One trainer that was alive, or was submitted, when this object was made."""

    run: RunPaths
    gpu: str | None
    """UUIDs of the GPUs of this machine that it was given, with commas; None: none."""

    @property
    def identity(self) -> ProcessIdentity | None:
        """Its process, where that is known: None of a job."""

    @property
    def job(self) -> str | None:
        """Number of its job on the cluster; None of a process of this machine."""

    @property
    def attempts_before(self) -> int | None:
        """Attempts in the run folder that are not its own, where it knows; None: by its process."""

    @property
    def pidfd(self) -> int | None:
        """Readable when the process has ended; None where there is none."""

    @property
    def exit_status(self) -> int | None:
        """As `subprocess` gives it; None where that cannot be told."""

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop or killed."""

    def alive(self) -> bool:
        """Whether it lives, or is still to start."""

    def news(self) -> JobNews | None:
        """What the cluster says of its job, if that has changed since the last call."""

    def stop(self) -> None:
        """Ask it, once, to finish its step, save and end; `escalate` goes on from there."""

    def kill(self) -> None:
        """End it now."""

    def hold(self, *, held: bool) -> None:
        """Whether it is to wait, where it has not started yet; what trains goes on."""

    def place(self, place: int) -> None:
        """Its place among the trainers of its submission that have not started yet, from 0."""

    def escalate(self) -> bool:
        """Kill it if its grace is over. False: it was killed and will not die; waiting on makes no sense."""

    def end(self, outcome: str, message: str) -> tuple[str, str]:
        """(outcome, message) of its end; given: what the run's files say of it."""

    def close(self) -> None:
        """After its end: sweep away what it left behind and forget it."""

    def release(self) -> None:
        """Watch it no longer, though it may live on."""


class Executor(Protocol):
    """Starts trainers, and finds them again."""

    def start(self, run: RunPaths, threads: int, gpu: str | None = None, *, attempts: int = 0) -> Trainer | None:
        """A new trainer for the run. `gpu`: UUIDs of this machine, with commas; `attempts`: in the run folder by now.

        None when the run has a trainer already. OSError: it cannot start, or not now.
        """

    def adopt(self, run: RunPaths, identity: ProcessIdentity | None) -> Trainer | None:
        """The living trainer of the run that somebody started; else None. OSError: it cannot be told now."""


class Cluster(Protocol):
    """A cluster whose jobs are trainers."""

    def executor(self, settings: SlurmSettings) -> Executor:
        """Submits with a plan's settings."""

    def full(self, trainers: Sequence[Trainer], most: int) -> str:
        """Why no further job may be submitted; empty: one may. `most`: `queue.slurm.jobs`."""

    def find(self, run: RunPaths, job: str, attempts: int) -> Trainer | None:
        """The job that was recorded as a trainer of the run. `attempts`: in its folder before.

        None: the cluster cannot be asked from this machine.
        """

    def look(self) -> None:
        """Ask the cluster again how its jobs stand, if it is time to."""

    def close(self) -> None:
        """Ask no more; its jobs go on."""
