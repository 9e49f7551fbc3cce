"""Freeing disk space: what an ended run needs no more. Results, evaluations and the best and last adapters stay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.errors import RunFolderError
from core.runs.folder import delete, files, linked_adapter, names, size
from core.runs.paths import RunPaths, RunsFolder, adapter_step
from core.runs.status import Status
from core.runs.store import run_state
from core.system.locks import KernelLock


@dataclass(frozen=True, slots=True)
class Prunable:
    """What can go from one run folder."""

    run: RunPaths
    paths: tuple[Path, ...]
    size: int
    """Bytes."""


def prunable(run: RunPaths, *, adapters: bool = False) -> Prunable | None:
    """Checkpoints of a run that does not go on, and torn temporary files; None: it goes on, or has nothing.

    `adapters`: those that are neither the best nor the last, too, also where the best is made of them.
    """
    state = run_state(run)
    if state.active or not (state is Status.DONE or state.broken):
        return None
    found = [run.checkpoints / name for name in names(run.root, run.checkpoints)]
    found += [file for file, _ in files(run.root) if file.suffix == ".tmp" and run.checkpoints not in file.parents]
    if adapters and state is Status.DONE:
        found += _other_adapters(run)
    return Prunable(run, tuple(found), sum(size(run.root, path) for path in found)) if found else None


def _other_adapters(run: RunPaths) -> list[Path]:
    """Adapters that no link leads to; none while a link is missing or does not tell which one it means."""
    try:
        kept = {linked_adapter(run, link) for link in (run.best, run.last)}
    except RunFolderError:
        return []
    if None in kept:
        return []
    found = [name for name in names(run.root, run.adapters) if adapter_step(name) is not None]
    return [run.adapters / name for name in found if name not in kept]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of it."""

    freed: int
    """Bytes."""
    left: tuple[str, ...]
    """What could not be deleted, each with its reason."""


def prune(runs: RunsFolder, wanted: Prunable) -> Pruned | None:
    """Delete what of it is still not needed. None: nothing is, for somebody works on the run, or it goes on again."""
    lock = KernelLock.acquire(runs.run_lock(wanted.run.name))
    if lock is None:
        return None
    try:
        # Since it was looked at, a retried run may have come to a checkpoint that it goes on from.
        now = prunable(wanted.run, adapters=True)
        gone = [] if now is None else [path for path in wanted.paths if path in now.paths]
        freed, left = 0, []
        for path in gone:
            before = size(wanted.run.root, path)
            try:
                delete(wanted.run.root, path)
            except OSError as error:
                left.append(f"{path}: cannot be deleted: {error.strerror or error}")
            freed += before - size(wanted.run.root, path)
    finally:
        lock.release()
    return Pruned(freed, tuple(left)) if gone else None
