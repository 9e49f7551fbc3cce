"""Which run folders there are, and the figures of those that ended: a folder of a thousand is on the screen at once.

What is kept may be deleted. An entry holds as long as the files that its figures came from (inode, size, time of
change), the thresholds and the program are the same. Importable in a moment: the first board is drawn from it, before
the libraries that read runs are imported.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from core.runs.paths import RunPaths, RunsFolder
from core.runs.row import Figures, Outcome, Row, Wer, shown_settings
from core.runs.status import Status
from core.scoring.standing import Stand, Standing
from core.scoring.units import Unit
from core.system.files import read_json, write_text
from lora_tui.dashboard.reading.snapshots import Board

_EACH_S = 30.0
"""It is listed again so long after the last time, whatever happens."""
_YOUNG_S = 3.0
"""So long after it changed it is listed in every round: run.json comes a moment after its folder."""


class Listing:
    """The run folders of a runs folder, by name."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._names: Sequence[str] = ()
        self._paths: dict[str, RunPaths] = {}
        self._listed, self._changed = float("-inf"), -1

    def names(self) -> Sequence[str]:
        """All names, sorted; the same object as long as they are the same."""
        try:
            changed = self._runs.root.stat().st_mtime_ns
        except OSError:
            changed = 0
        young = time.time() - changed / 1e9 < _YOUNG_S
        if changed != self._changed or young or time.monotonic() - self._listed > _EACH_S:
            self._paths = {run.name: run for run in self._runs.runs()}
            names = tuple(self._paths)
            self._names = self._names if names == self._names else names
            self._listed, self._changed = time.monotonic(), changed
        return self._names

    def run(self, name: str) -> RunPaths:
        """The run folder of this name."""
        return self._paths[name]


Stamps = tuple[tuple[int, int, int] | None, ...]
_YOUNG_NS = 2_000_000_000
"""A file that is younger may change within the same tick of the clock: its figures are kept later."""
RECORDED = "recorded"
"""Judged by the thresholds that stand in the run's own run.json, which is among the stamps."""
EVENTS = 1
"""Place of the events in the stamps."""


def _files(paths: RunPaths) -> tuple[str, ...]:
    """The files that a row's figures come from."""
    files = (
        paths.config, paths.events, paths.result, paths.tuned("domain"), paths.tuned("heldout"), paths.best,
        paths.data_health, paths.position,
    )  # fmt: skip
    return tuple(map(str, files))


_NAMES = _files(RunPaths(Path()))
"""In the folder: to join texts takes a tenth of the time that paths take, which counts in a folder of a thousand."""


def stamps_of(paths: RunPaths) -> Stamps:
    """Of the files that a row's figures come from; None for one that is not there."""
    root = str(paths.root)
    return tuple([stamp_of(f"{root}/{name}") for name in _NAMES])


def stamp_of(path: str) -> tuple[int, int, int] | None:
    """(inode, size, time of change) of one file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - thousands of times
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)


class RowIndex:
    """One file for a runs folder. For the reader thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, name: str) -> bool:
        return name in self._runs

    @cached_property
    def _program(self) -> str:
        return _program()

    @cached_property
    def _runs(self) -> dict[str, dict[str, Any]]:
        """The kept figures, read when they are asked for first."""
        document, _ = read_json(self._path)
        same = document is not None and document.get("program") == self._program
        found = document.get("runs") if document is not None and same else None
        return found if isinstance(found, dict) else {}

    def find(self, name: str, stamps: Stamps, judged_by: str) -> Row | None:
        """The figures of the run in this folder, with its experiment as key, if they hold."""
        entry = self._runs.get(name)
        try:
            if entry is None or entry["by"] != judged_by or entry["stamps"] != _listed(stamps):
                return None
            return _row(entry["key"], entry["row"])
        except (KeyError, TypeError, ValueError):
            return None

    def keep(self, name: str, stamps: Stamps, judged_by: str, row: Row) -> None:
        """Keep the figures of a run that ended."""
        kept: dict[str, Any] = {"title": row.title, "status": row.status, "reason": row.reason}
        kept |= {"outcome": row.outcome, "figures": asdict(row.figures)}
        self._runs[name] = {"by": judged_by, "stamps": _listed(stamps), "key": row.key, "row": kept}
        self._changed = True

    def save(self, names: Collection[str]) -> None:
        """Write what holds of these runs, if anything is new. Never raises: it is a convenience."""
        if not self._changed:
            return
        old = time.time_ns() - _YOUNG_NS
        kept = {name: entry for name, entry in self._runs.items() if name in names and _newest(entry) < old}
        self._changed = any(name not in kept for name in self._runs if name in names)
        try:
            write_text(self._path, json.dumps({"program": self._program, "runs": kept}))
        except (OSError, TypeError, ValueError):
            self._changed = False


def with_figures(row: Row, kept: Row) -> Row:
    """`row` with the figures that were kept of its run. Pure."""
    figures = kept.figures
    return replace(
        row,
        title=row.title or kept.title,
        status=kept.status,
        reason=kept.reason,
        outcome=kept.outcome,
        figures=replace(figures, settings=shown_settings(row, figures.settings)),
    )


def _row(key: object, kept: Mapping[str, Any]) -> Row:
    figures = dict(kept["figures"])
    figures |= {name: Wer(**figures[name]) for name in ("domain", "heldout")}
    stands = figures.get("standing")
    figures["standing"] = None if stands is None else Standing(**stands | {"word": Stand(stands["word"])})
    figures["unit"] = None if figures.get("unit") is None else Unit(figures["unit"])
    figures["criteria"] = tuple((str(name), str(state)) for name, state in figures["criteria"])
    return Row(
        "",
        str(key),
        Status(kept["status"]),
        str(kept["reason"]),
        title=str(kept["title"]),
        outcome=Outcome(kept["outcome"]),
        figures=Figures(**figures),
    )


def _listed(stamps: Stamps) -> list[list[int] | None]:
    return [None if stamp is None else list(stamp) for stamp in stamps]


def _newest(entry: Mapping[str, Any]) -> int:
    return max((stamp[2] for stamp in entry["stamps"] if stamp is not None), default=0)


def _program() -> str:
    """Changes with the code that reads, judges and words: another verdict must not be hidden by an old one."""
    home = str(Path(__file__).parents[3])
    seen = []
    for room in ("core/scoring", "core/runs", "lora_tui/dashboard"):
        for folder, _, files in os.walk(f"{home}/{room}"):
            for name in files:
                if name.endswith(".py"):
                    status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - as above
                    seen.append((folder.removeprefix(home), name, status.st_size, status.st_mtime_ns))
    return f"{len(seen)}-{hash_of(repr(sorted(seen)))}"


def hash_of(text: str) -> str:
    """A short name for a text."""
    from hashlib import blake2b

    return blake2b(text.encode(), digest_size=8).hexdigest()


def first_rows(runs: RunsFolder, index: RowIndex) -> Board:
    """The runs of the folder, by name; those whose figures are not in the index, or do not hold, are yet to be read."""
    listing, rows, unread = Listing(runs), [], 0
    for name in listing.names():
        kept = index.find(name, stamps_of(listing.run(name)), RECORDED)
        run, key = listing.run(name), name if kept is None else kept.key
        row = Row(f"run:{name}", key, Status.UNREAD, run=run, planned=False)
        rows.append(row if kept is None else with_figures(row, kept))
        unread += kept is None
    return Board(str(runs.root), rows=tuple(rows), loading="reading the runs", unread=max(1, unread))
