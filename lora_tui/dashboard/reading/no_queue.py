"""Stands for the queue of a folder in which none was ever made: what reads one takes a while to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core.runs.paths import RunPaths, RunsFolder
from lora_tui.dashboard.reading.snapshots import BoardRow, Queue

Placed = tuple[BoardRow, RunPaths | None]


class FollowedQueue(Protocol):
    """What the board asks of a queue."""

    version: int
    """Rises whenever a row may be told otherwise than before."""
    started: set[str]
    """Folders of the runs that were started since somebody looked."""

    def refresh(self) -> Queue:
        """The queue now."""

    def in_order(self, planned: Sequence[Placed], plan: str | None) -> list[Placed]:
        """The rows in the order of starting."""

    def told(self, row: BoardRow, plan: str | None) -> BoardRow:
        """The row of a run with what the queue says of it."""

    def told_without_run(self, row: BoardRow, plan: str | None) -> BoardRow:
        """The same of a row that has no run."""


class NoQueue:
    """Nothing is queued and nothing ever was."""

    def __init__(self) -> None:
        self.version = -1
        self.started: set[str] = set()

    def refresh(self) -> Queue:
        """Nothing."""
        return Queue()

    def in_order(self, planned: Sequence[Placed], plan: str | None) -> list[Placed]:
        """As they are."""
        return list(planned)

    def told(self, row: BoardRow, plan: str | None) -> BoardRow:
        """As it is."""
        return row

    def told_without_run(self, row: BoardRow, plan: str | None) -> BoardRow:
        """As it is."""
        return row


def has_queue(runs: RunsFolder) -> bool:
    """Whether a queue was ever made there."""
    return runs.queue_db.exists() or runs.decisions.exists() or runs.supervisor_lock.exists()
