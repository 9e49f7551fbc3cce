"""One word for where a run, or a row of a plan, stands. Values only."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The one word for a run, as its folder shows it (`core.runs.snapshot`), or for a row, of which the queue tells."""

    NOT_RUN = "not run"
    """No run was made of it, and no open submission asks for it."""
    QUEUED = "queued"
    """It is started, or its run is resumed, when its turn comes."""
    WAITING = "waiting"
    """As queued, and it is known why it does not start."""
    HELD = "held"
    REMOVED = "removed"
    SKIPPED = "skipped"
    STARTING = "starting"
    TRAINING = "training"
    EVALUATING = "evaluating"
    CHECKPOINTING = "checkpointing"
    SAVING = "saving"
    FINISHING = "finishing"
    STALLED = "stalled"
    STOPPED = "stopped"
    KILLED = "killed"
    """Its trainer was killed on request. Its folder alone tells a crash; it is resumed alike."""
    CRASHED = "crashed"
    DIVERGED = "diverged"
    STOPPED_EARLY = "stopped_early"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    FAILED = "failed"
    DAMAGED = "damaged"
    """Its trainer had finished it, and its result is gone or cannot be read: nobody knows what it came to."""
    DONE = "done"
    HISTORY = "history"
    """An earlier result made elsewhere, of which the plan tells."""
    UNREAD = "…"
    """Its run was not read yet."""

    @property
    def text(self) -> str:
        """As people read it."""
        return self.value.replace("_", " ")

    @property
    def active(self) -> bool:
        """Whether a trainer is, or seems to be, at work."""
        return self in _ACTIVE

    @property
    def broken(self) -> bool:
        """Whether the run ended in a way that going on cannot mend: it rejects the run."""
        return self in _BROKEN

    @property
    def in_turn(self) -> bool:
        """Whether it is started when its turn comes."""
        return self in (Status.QUEUED, Status.WAITING)

    @property
    def goes_on(self) -> bool:
        """Whether it trains, or is to: what its verdict would be now is not the last word."""
        return self.active or self.in_turn or self is Status.HELD


_ACTIVE = frozenset(
    {
        Status.STARTING,
        Status.TRAINING,
        Status.EVALUATING,
        Status.CHECKPOINTING,
        Status.SAVING,
        Status.FINISHING,
        Status.STALLED,
    }
)
_BROKEN = frozenset({Status.DIVERGED, Status.STOPPED_EARLY, Status.OUT_OF_MEMORY, Status.FAILED})
