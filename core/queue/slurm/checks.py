"""What can be told of a plan's `[queue.slurm]` before anything is submitted: by sbatch itself, and by the disks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.errors import may_pass
from core.plan.schema import Plan
from core.queue.slurm import commands
from core.queue.slurm.job import sbatch_options
from core.runs.paths import RunsFolder
from core.system.files import read_bytes

_LOCAL = frozenset(("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "vfat", "xfs", "zfs"))
"""File systems that one machine has to itself, as a rule."""
_MOUNTS = Path("/proc/self/mounts")


@dataclass(frozen=True, slots=True)
class ClusterCheck:
    """Sentences for people."""

    missing: str = ""
    """Why nothing can be submitted from this machine; empty: it can."""
    problems: tuple[str, ...] = ()
    """Why sbatch would refuse the jobs, wherever they are submitted."""
    warnings: tuple[str, ...] = ()


def check_cluster(plan: Plan, runs: RunsFolder) -> ClusterCheck:
    """Of a plan whose trainers are to be jobs; nothing for another one. Submits nothing."""
    if plan.queue.executor != "slurm":
        return ClusterCheck()
    warnings = tuple(filter(None, (_not_shared(runs.root, "--runs"), _not_shared(runs.state, "--state"))))
    if not commands.installed():
        missing = (
            'queue.executor = "slurm": sbatch is not on this machine: start the queue on a login node of the cluster, '
            'or set queue.executor = "local"'
        )
        return ClusterCheck(missing, warnings=warnings)
    threads = plan.defaults.train.threads
    options = sbatch_options(plan.queue.slurm, Path("/"), Path("/dev/null"), threads, "lora-tui:check")
    try:
        commands.try_sbatch(options, "#!/bin/bash\n")
    except OSError as error:
        said = error.strerror or str(error)
        if may_pass(error):
            return ClusterCheck(warnings=(*warnings, f"queue.slurm cannot be checked now: {said}"))
        return ClusterCheck(problems=(f"queue.slurm: Slurm would refuse its jobs ({said}): change what it names",))
    return ClusterCheck(warnings=warnings)


def _not_shared(folder: Path, option: str) -> str:
    """A sentence where a folder lies on a disk that other machines hardly see; empty: it may well be shared."""
    kind = _file_system(folder)
    if kind not in _LOCAL:
        return ""
    return (
        f"{option} {folder}: lies on {kind}, which as a rule one machine has to itself: jobs need a folder that all "
        "nodes see at this path"
    )


def _file_system(folder: Path) -> str:
    """The type of the file system that the folder is, or would be, on; empty: it cannot be told."""
    try:
        mounts = [line.split() for line in read_bytes(_MOUNTS).decode(errors="replace").splitlines()]
    except OSError:
        return ""
    real, best = folder.resolve(), ("", "")
    for fields in mounts:
        # Blanks in a mount point are written as octal numbers; such a one is passed over.
        if len(fields) > 2 and real.is_relative_to(fields[1]) and len(fields[1]) >= len(best[0]):
            best = fields[1], fields[2]
    return best[1]
