"""Which rows of the queue somebody means, whatever they are called, and which share a run with them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.errors import RunFolderError
from core.plan.schema import RunSettings
from core.queue.entries import Entry
from core.queue.wishes import Target
from core.runs.snapshot import RunState


def named(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """The entries that `names` mean: row keys, experiments, run folders, identities or submissions.

    RunFolderError names what is not in the queue.
    """
    found: list[Entry] = []
    for name in names:
        hits = [entry for entry in entries if name in _names(entry)]
        if not hits:
            known = ", ".join(dict.fromkeys(entry.row.key for entry in entries)) or "nothing"
            raise RunFolderError(f"{name}: not in the queue, which has {known}; `lora-tui queue list` shows it")
        found += [entry for entry in hits if entry not in found]
    return found


def with_sharers(entries: Sequence[Entry], chosen: Sequence[Entry]) -> list[Target]:
    """What a wish for the runs of `chosen` must name: rows that share one would else go on with it at once."""
    runs = {entry.run.name for entry in chosen if entry.run is not None}
    makings = {_made_of(entry) for entry in chosen} - {None}
    of_no_run = {_made_of(entry) for entry in chosen if entry.run is None} - {None}

    def shares(entry: Entry) -> bool:
        if entry.run is None:
            return _made_of(entry) in makings
        return entry.run.name in runs or _made_of(entry) in of_no_run

    sharers = [entry for entry in entries if entry.state != RunState.DONE and shares(entry)]
    return list(dict.fromkeys(entry.target for entry in (*chosen, *sharers)))


def _made_of(entry: Entry) -> tuple[Path, RunSettings] | None:
    """What makes rows one run, before their runs are known; None: that depends on the results of others."""
    plan = Path(entry.submission.plan_path)  # its folder: manifests are named from there
    return None if entry.row.adapter_from else (plan.parent, entry.row.settings)


def _names(entry: Entry) -> tuple[str, ...]:
    run = () if entry.run is None else (entry.run.name, entry.run.name.rpartition("-")[2])
    return (entry.row.key, entry.row.experiment, entry.submission.id, *run)
