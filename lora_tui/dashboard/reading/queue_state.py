"""The queue as the board shows it: what is queued in which order, and what the supervisor did last and why.

What reads a queue takes a while to import: a folder that never had one does without (`no_queue`).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from core.queue import journal
from core.queue.client import supervisor_note
from core.queue.execution import PlanExecution
from core.queue.requests import QueueDb
from core.queue.rows import QueueRows
from core.queue.state import QueueState
from core.queue.upcoming import upcoming
from core.runs.paths import RunsFolder
from core.runs.row import Row
from core.runs.status import Status
from core.system.files import exists
from core.system.locks import is_held
from lora_tui.dashboard.reading.no_queue import Placed
from lora_tui.dashboard.reading.snapshots import Queue

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
        self._rows = QueueRows(runs, self._state)
        self._trouble = ""
        """Why the queue cannot be read; empty: it can."""
        self._outdated = False
        """Whether a row has started or ended since the queue was listed: it may be what others wait for."""
        self._listed = float("-inf")
        self.version = 0
        """Rises whenever a row may be told otherwise than before."""

    @property
    def started(self) -> set[str]:
        """Folders of the runs that were started since somebody emptied it."""
        return self._state.started

    def refresh(self) -> Queue:
        """The queue now."""
        first = self.version == 0
        fresh = self._reader.read()
        if self._reader.anew:
            self._state = QueueState()
        for record in fresh:
            self._state.apply(record)
        self.version += len(fresh)
        works = is_held(self._runs.supervisor_lock)
        stamp = _stamp(self._runs.queue_db), works
        # A trainer that starts is seen by its process, not by the queue's files.
        unsure = self._outdated or any(row.status is Status.STARTING for row in self._rows.rows)
        unsure = (unsure or self._trouble != "") and time.monotonic() - self._listed > AGAIN_S
        touched = stamp[0] is not None and self._db.changed()
        if first or fresh or unsure or stamp != self._stamp or touched:
            self._stamp, self._outdated, self._listed = stamp, False, time.monotonic()
            before = self._rows
            self._list()
            self.version += self._rows is not before
        if first:
            self._state.started.clear()
        submissions, note = tuple(s.id for s in self._rows.submissions), supervisor_note(self._runs)
        return Queue(works, submissions, self._trouble or self._state.done_last, self._rows.paused, note)

    def in_order(self, planned: Sequence[Placed], plan: str | None) -> list[Placed]:
        """The plan's rows, the queued ones among them in the order of starting; then what other plans have queued."""
        places: dict[str, int] = {}
        others: list[Placed] = []
        rows = {row.key: (row, run) for row, run in planned}
        for number, queued in enumerate(self._rows.rows):
            if queued.queued.plan_path == plan and self._rows.is_of(queued, *rows.get(queued.key, (None, None))):
                places.setdefault(queued.key, number)
            else:
                others.append((queued, queued.run))
        mine = [pair for pair in planned if pair[0].key in places]
        in_turn = iter(sorted(mine, key=lambda pair: places[pair[0].key]))
        return [*(next(in_turn) if pair[0].key in places else pair for pair in planned), *others]

    def row(self, bare: Row, plan: str | None) -> Row:
        """The row with the queue's word for it; `plan` is the path of the plan that the board shows."""
        told = self._rows.row(bare, plan if bare.planned else bare.queued.plan_path or None)
        listed = self._rows.listed(told)
        if listed is not None:
            self._outdated |= (listed.active, listed.goes_on) != (told.active, told.goes_on)
        return told

    def upcoming(self, execution: PlanExecution | None) -> str:
        """What is started next, in a sentence; nothing where the queue cannot be read."""
        return "" if self._trouble else upcoming(self._rows, execution)

    def _list(self) -> None:
        self._trouble = ""
        try:
            snapshot = self._db.snapshot() if exists(self._runs.queue_db) else None
            self._rows = QueueRows(self._runs, self._state, snapshot)
        except (sqlite3.Error, OSError) as error:  # locked for long, or gone: the next look may find it
            self._trouble = f"the queue cannot be read: {error}"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - twice a second
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)
