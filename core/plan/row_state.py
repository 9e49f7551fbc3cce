"""What is known of a row when the next action is decided. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from core.plan.conditions import Facts
from core.plan.schema import RunSettings


class RowStatus(Enum):
    """Where a row's run stands, as far as the order of running goes."""

    QUEUED = "queued"
    """Not started, or to be started again (a retry)."""
    RUNNING = "running"
    """Has a slot, or waits to be resumed by the queue itself."""
    DONE = "done"
    """Ended with a result."""
    FAILED = "failed"
    """Ended without one: diverged, out of memory, crashed too often, stopped for good."""
    SKIPPED = "skipped"
    """Its condition was not met."""
    HELD = "held"
    """Somebody keeps it from being started until it is released."""


ENDED = (RowStatus.DONE, RowStatus.FAILED, RowStatus.SKIPPED)


@dataclass(frozen=True, slots=True)
class RowState:
    """What is known of a row. Rows that share one run have the same state."""

    status: RowStatus = RowStatus.QUEUED
    facts: Facts = field(default_factory=dict)
    """Of a DONE row; core.plan.conditions has the names. `finished` and `failed` follow from the status."""
    settings: RunSettings | None = None
    """What the run really used, where `adapter_from` changed it; None: the row's own settings."""
