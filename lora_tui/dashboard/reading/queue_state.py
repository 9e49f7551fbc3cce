"""The queue as the board shows it: what is queued in which order, and what the supervisor did last and why."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from core.plan.schema import RunSettings
from core.queue import journal
from core.queue.entries import Entry, Listing, listing, told
from core.queue.last_reason import LastReasons
from core.queue.other_version import supervisor_note
from core.queue.state import QueueState
from core.queue.wishes import QueueDb
from core.runs.paths import RunsFolder
from core.runs.snapshot import RunState
from core.system.locks import is_held
from lora_tui.dashboard.reading.no_queue import Placed
from lora_tui.dashboard.reading.snapshots import BoardRow, Queue

AGAIN_S = 2.0
"""How often the queue is listed anew while its files rest: a trainer starts or has died, or they cannot be read."""


class BoardQueue:
    """Follows the queue's file and its journal; reads them again only when they changed. For the reader thread."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._reader = journal.JournalReader(runs.decisions)
        self._state = QueueState()
        self._db = QueueDb(runs.queue_db)
        self._stamp: object = None
        self._listing = Listing()
        self._reasons = LastReasons(runs)
        self._said = ""
        self._outdated = False
        """Whether a trainer is dead that lived when the queue was listed."""
        self._unread = False
        """Whether the queue could not be listed."""
        self._listed = float("-inf")
        self.version = 0
        """Rises whenever a row may be told otherwise than before."""
        self.started: set[str] = set()
        """Folders of the runs that were started since somebody looked."""

    def refresh(self) -> Queue:
        """The queue now."""
        first = self.version == 0
        fresh = self._reader.read()
        if self._reader.anew:
            self._state = QueueState()
        for record in fresh:
            self._take(record)
            self._state.apply(record)
        self.version += len(fresh)
        works = is_held(self._runs.supervisor_lock)
        stamp = _stamp(self._runs.queue_db), works
        # A trainer that starts is seen by its process, not by the queue's files.
        unsure = self._outdated or any(entry.state == RunState.STARTING for entry in self._listing.entries)
        unsure = (unsure or self._unread) and time.monotonic() - self._listed > AGAIN_S
        touched = stamp[0] is not None and self._db.changed()
        if fresh or unsure or stamp != self._stamp or touched:
            self._stamp, self._outdated, self._listed = stamp, False, time.monotonic()
            before = self._listing
            self._list()
            self.version += self._listing is not before
        if first:
            self.started.clear()
        found = self._listing
        submissions, note = tuple(s.id for s in found.submissions), supervisor_note(self._runs)
        return Queue(works, submissions, self._said, found.paused, note)

    def in_order(self, planned: Sequence[Placed], plan: str | None) -> list[Placed]:
        """The plan's rows, the queued ones among them in the order of starting; then what other plans have queued."""
        places: dict[str, int] = {}
        others: list[Placed] = []
        rows = {row.key: (_settings(row), None if run is None else run.name) for row, run in planned}
        for i, entry in enumerate(self._listing.entries):
            key = entry.row.key
            if entry.submission.plan_path == plan and key in rows and entry.is_of(*rows[key]):
                places.setdefault(key, i)
            else:
                others.append((queued_row(entry), entry.run))
        queued = [pair for pair in planned if pair[0].key in places]
        in_turn = iter(sorted(queued, key=lambda pair: places[pair[0].key]))
        return [*(next(in_turn) if pair[0].key in places else pair for pair in planned), *others]

    def told(self, row: BoardRow, plan: str | None) -> BoardRow:
        """The row of a run with what the queue says of it; `plan` is the path of the plan that the board shows."""
        entry = self._entry(row, plan)
        self._outdated |= entry is not None and entry.active and not row.active and entry.state != RunState.STARTING
        return with_entry(row, entry, killed=row.run is not None and self._state.is_killed(row.run))

    def told_without_run(self, row: BoardRow, plan: str | None) -> BoardRow:
        """The same of a row that has no run; of one that is not in the queue, the queue's last word."""
        entry = self._entry(row, plan)
        if entry is not None:
            return with_entry(row, entry)
        word = None if row.wanted is None else self._reasons.of(self._state, plan, row.wanted)
        state, reason = word or (row.state, "")
        return replace(row, state=state, reason=reason or row.reason)

    def _entry(self, row: BoardRow, plan: str | None) -> Entry | None:
        if not row.planned:
            return next((e for e in self._listing.entries if queued_id(e) == row.id), None)
        return self._listing.find(plan, row.key, row.run, _settings(row))

    def _list(self) -> None:
        self._unread = False
        try:
            self._listing = listing(self._runs, self._db, self._state) if self._runs.queue_db.exists() else Listing()
        except (sqlite3.Error, OSError) as error:  # locked for long, or gone: the next look may find it
            self._said, self._unread = f"the queue cannot be read: {error}", True

    def _take(self, record: journal.Record) -> None:
        """What the queue did last, in words."""
        match record:
            case journal.Submitted():
                self._said = ""
            case journal.Start(row=row, run=run, reason=reason):
                self.started.add(run)
                self._said = f"started {row}: {reason}" if reason else f"started {row}"
            case journal.Wait(reason=reason) if reason:
                self._said = f"waiting: {reason}"
            case journal.Pause(reason=reason):
                self._said = f"paused: {reason}"
            case journal.Finish(reason=reason):
                self._said = f"ended: {reason}" if reason else "ended"


def queued_id(entry: Entry) -> str:
    """The id of the row of another plan."""
    return f"queue:{entry.submission.id}:{entry.row.key}"


def queued_row(entry: Entry) -> BoardRow:
    """The row of another plan."""
    train = entry.row.settings.train
    return BoardRow(
        id=queued_id(entry),
        key=entry.row.key,
        title=entry.row.title or Path(entry.submission.plan_path).name,
        settings=entry.row.label,
        steps_planned=train.steps,
        learning_rate=train.learning_rate,
        planned=False,
        submission=entry.submission.id,
        values=asdict(entry.row.settings),
    )


def with_entry(row: BoardRow, entry: Entry | None, *, killed: bool = False) -> BoardRow:
    """The row with the queue's word for it, and why (`core.queue.entries.told`). Pure."""
    word, reason = told(row.state, row.reason, entry, killed=killed)
    row = replace(row, state=word.replace("_", " "), reason=reason)
    if entry is None:
        return row
    starting = word == RunState.STARTING
    return replace(row, submission=entry.submission.id, queued=str(entry.state), active=row.active or starting)


def _settings(row: BoardRow) -> RunSettings | None:
    return None if row.wanted is None else row.wanted.settings


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - twice a second
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)
