"""What stands in for the queue of a folder that never had one, and what the board asks of any queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from core.runs.paths import RunPaths, RunsFolder
from core.runs.row import Row, told_by_plan
from core.runs.status import Status
from lora_tui.dashboard.reading.snapshots import Queue

if TYPE_CHECKING:
    from core.queue.execution import PlanExecution

Placed = tuple[Row, RunPaths | None]


class FollowedQueue(Protocol):
    """What the board asks of a queue."""

    version: int
    """Rises whenever a row may be told otherwise than before."""

    @property
    def started(self) -> set[str]:
        """Folders of the runs that were started since somebody emptied it."""

    def refresh(self) -> Queue:
        """The queue now."""

    def in_order(self, planned: Sequence[Placed], plan: str | None) -> list[Placed]:
        """The rows in the order of starting."""

    def row(self, bare: Row, plan: str | None) -> Row:
        """The row with the queue's word for it."""

    def upcoming(self, execution: PlanExecution | None) -> str:
        """What is started next; `execution`: the plan of the board."""


class NoQueue:
    """Nothing is queued and nothing ever was."""

    def __init__(self) -> None:
        self.version = -1
        self.started: set[str] = set()

    def refresh(self) -> Queue:
        """Read nothing: there is no queue."""
        return Queue()

    def in_order(self, planned: Sequence[Placed], plan: str | None) -> list[Placed]:
        """The rows, in the order in which they are given."""
        return list(planned)

    def row(self, bare: Row, plan: str | None) -> Row:
        """As it is; what its plan says of it, where it has no run."""
        if bare.status is Status.QUEUED:  # a folder in which no trainer has ever worked
            bare = replace(bare, status=Status.NOT_RUN)
        return told_by_plan(bare)

    def upcoming(self, execution: PlanExecution | None) -> str:
        """By the plan alone."""
        if execution is None:
            return ""
        from core.queue.upcoming import upcoming

        return upcoming(None, execution)


def has_queue(runs: RunsFolder) -> bool:
    """Whether a queue was ever made there."""
    return runs.queue_db.exists() or runs.decisions.exists() or runs.supervisor_lock.exists()
