"""Freeing disk space: what an ended run needs no more. Results, evaluations and the best and last adapters stay."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from core.queue.forecast import bytes_of, files_in
from core.queue.lock import KernelLock
from core.runs.paths import RunPaths, RunsFolder, step_of
from core.runs.snapshot import RunState
from core.runs.store import run_state


@dataclass(frozen=True, slots=True)
class Prunable:
    """What can go from one run folder."""

    run: RunPaths
    paths: tuple[Path, ...]
    size: int
    """Bytes."""


def prunable(run: RunPaths, *, adapters: bool = False) -> Prunable | None:
    """Checkpoints of a run that does not go on, and torn temporary files; None: it goes on, or has nothing.

    `adapters`: those of intervals that are neither the best nor the last, too.
    """
    state = run_state(run)
    if state.active or not (state is RunState.DONE or state.broken):
        return None
    found = [*_entries(run.checkpoints), *(file for file in files_in(run.root) if file.suffix == ".tmp")]
    if adapters and state is RunState.DONE:
        kept = {link.readlink().name for link in (run.best, run.last) if link.is_symlink()}
        found += [path for path in _entries(run.adapters) if step_of(path.name) is not None and path.name not in kept]
    return Prunable(run, tuple(found), sum(map(bytes_of, found))) if found else None


def prune(runs: RunsFolder, wanted: Prunable) -> bool:
    """Delete what of it is still not needed. False: nothing was, for somebody works on the run, or it goes on again."""
    lock = KernelLock.acquire(runs.run_lock(wanted.run.name))
    if lock is None:
        return False
    try:
        # Since it was looked at, a retried run may have come to a checkpoint that it goes on from.
        now = prunable(wanted.run, adapters=True)
        gone = [] if now is None else [path for path in wanted.paths if path in now.paths]
        for path in gone:
            if path.is_dir():
                # The marker goes first: a half-deleted checkpoint must not look whole.
                (path / "complete").unlink(missing_ok=True)
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    finally:
        lock.release()
    return bool(gone)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
