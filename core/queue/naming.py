"""Which rows of the queue somebody means, whatever they are called, and which share a run with them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.errors import RunFolderError
from core.plan.schema import RunSettings
from core.queue.rows import target_of
from core.queue.wishes import Target
from core.runs.row import Row, Status


def named(entries: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The entries that `names` mean: row keys, experiments, run folders, identities or submissions.

    RunFolderError names what is not in the queue.
    """
    found: list[Row] = []
    for name in names:
        hits = [entry for entry in entries if name in _names(entry)]
        if not hits:
            known = ", ".join(dict.fromkeys(entry.key for entry in entries)) or "nothing"
            raise RunFolderError(f"{name}: not in the queue, which has {known}; `lora-tui queue list` shows it")
        found += [entry for entry in hits if entry not in found]
    return found


def with_sharers(entries: Sequence[Row], chosen: Sequence[Row]) -> list[Target]:
    """What a wish for the runs of `chosen` must name: rows that share one would else go on with it at once."""
    runs = {entry.run.name for entry in chosen if entry.run is not None}
    makings = {_made_of(entry) for entry in chosen} - {None}
    of_no_run = {_made_of(entry) for entry in chosen if entry.run is None} - {None}

    def shares(entry: Row) -> bool:
        if entry.run is None:
            return _made_of(entry) in makings
        return entry.run.name in runs or _made_of(entry) in of_no_run

    sharers = [entry for entry in entries if entry.status != Status.DONE and shares(entry)]
    return list(dict.fromkeys(target_of(entry) for entry in (*chosen, *sharers)))


def _made_of(entry: Row) -> tuple[Path, RunSettings] | None:
    """What makes rows one run, before their runs are known; None: that depends on the results of others."""
    plan = Path(entry.queued.plan_path)  # its folder: manifests are named from there
    return None if entry.wanted is None or entry.wanted.adapter_from else (plan.parent, entry.wanted.settings)


def _names(entry: Row) -> tuple[str, ...]:
    run = () if entry.run is None else (entry.run.name, entry.run.name.rpartition("-")[2])
    return (entry.key, entry.experiment, entry.queued.submission, *run)
