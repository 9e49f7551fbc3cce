"""What sbatch is given for a trainer: options, script, and the comment by which its job is found again. Pure."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.plan.schema import SlurmSettings

_NAME = "lora-tui"


def comment_of(key: str, run: str, attempts: int) -> str:
    """The run's identity among all jobs of this user. `attempts`: in its folder when the job was submitted."""
    return f"{_NAME}:{key}:{run}:{attempts}"


def told_by(comment: str, key: str) -> tuple[str, int] | None:
    """(run, attempts) of a job's comment; None: it is no trainer of the runs folder with this key."""
    parts = comment.split(":")
    if len(parts) != 4 or parts[:2] != [_NAME, key] or not parts[3].isdigit():
        return None
    return parts[2], int(parts[3])


def is_job_of(comment: str, name: str, key: str, run: str) -> bool:
    """Whether a job with the recorded number is the run's: a controller that lost its state begins to count anew.

    By its comment; by its name where the cluster has put another comment there, or none.
    """
    told = told_by(comment, key)
    if told is not None:
        return told[0] == run
    return name == run and not comment.startswith(f"{_NAME}:")


def folder_key(root: Path) -> str:
    """Of a runs folder by its real path, which is the same on all nodes: two of them may hold runs of one name."""
    return hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def sbatch_options(settings: SlurmSettings, run: Path, log: Path, threads: int, comment: str) -> list[str]:
    """In the order in which sbatch reads them: the plan's further options come before what the queue needs."""
    named = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "time": settings.time,
        "gres": settings.gres,
        "cpus-per-task": str(settings.cpus or threads),
        "mem": settings.mem,
    }
    return [
        *(f"--{name}={value}" for name, value in named.items() if value is not None),
        *settings.options,
        "--nodes=1",
        "--ntasks=1",
        f"--job-name={run.name}",
        f"--comment={comment}",
        f"--chdir={run}",
        f"--output={_plain(log)}",
        "--open-mode=append",
        "--requeue",  # of a node that failed, or by a job that comes before it
        f"--signal=B:TERM@{settings.save_seconds}",
    ]


def batch_script(command: Sequence[str], setup: str | None, variables: Mapping[str, str]) -> str:
    """The trainer takes the place of the shell, so that the signals which Slurm sends to the script are its own."""
    lines = ["#!/bin/bash", *(f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items()))]
    return "\n".join([*lines, *([setup] if setup else []), f"exec {shlex.join(command)}"]) + "\n"


def _plain(path: Path) -> str:
    """A file name in which Slurm replaces nothing."""
    return str(path).replace("%", "%%")
