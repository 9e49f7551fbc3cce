"""When the queue starts nothing more by itself: runs that fail alike, one after the other, and a full disk."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from core.console import log_line
from core.queue.journal import Journal, Pause, Resume
from core.queue.state import DISK, FAILURES, QueueState

LOOK_S = 10.0
"""How often a full disk is looked at again."""
LEAST_BYTES = 64 << 20
"""Space that a run is started with at least."""
MOST_BYTES = 1 << 30
"""What is waited for after a full disk, at most: first as much again as the run wrote, twice as much each time that the
disk is full all the same; at each look half of it, down to LEAST_BYTES, so that no small disk waits for ever."""


def has_space(folder: Path, size: int) -> bool:
    """Whether `size` bytes can really be had in `folder`: quotas count, too."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            os.posix_fallocate(probe.fileno(), 0, size)
    except OSError:
        return False
    return True


class Pauses:
    """Whether the queue may start runs, and why not. Written to the journal when it changes."""

    def __init__(
        self,
        folder: Path,
        log: Journal,
        state: QueueState,
        tell: Callable[[str, Mapping[str, str]], None] = lambda event, facts: None,
    ) -> None:
        """`state`: what the journal has come to, and will; `tell` hears `paused` and `resumed`, and why."""
        self._folder = folder
        self._log = log
        self._state = state
        self._tell = tell
        self._needed = LEAST_BYTES
        self._wanted = state.pause.bytes
        """Bytes that the run will take for which the queue paused."""
        self._look_at = 0.0

    @property
    def cause(self) -> str | None:
        """`failures` or `disk`; None: runs may be started."""
        return self._state.pause.cause

    @property
    def reason(self) -> str:
        """Why it has paused."""
        return self._state.pause.reason

    def run_done(self) -> None:
        """A trainer has written all that it had to."""
        self._needed = LEAST_BYTES

    def before_start(self, limit: int, expected_bytes: int) -> str:
        """Why no run may be started now; empty: one may. `limit`: `queue.pause_after`."""
        if self.cause is None and (failures := self._state.pause.series.reason(limit)) is not None:
            self._pause(FAILURES, failures)
        needed = max(self._needed, expected_bytes)
        if self.cause is None and not has_space(self._folder, needed):
            self._wanted = expected_bytes
            self._pause(DISK, f"the disk is full: a run needs about {needed / 1e6:.0f} MB in {self._folder}")
        return "" if self.cause is None else f"paused: {self.reason}"

    def disk_full(self, reason: str, written: int = 0) -> None:
        """Something could not be written. `written`: bytes that the run had written by then."""
        self._needed = min(max(2 * self._needed, written), MOST_BYTES)
        if self.cause is None:
            amount = f"{LEAST_BYTES / 1e6:.0f} to {self._needed / 1e6:.0f} MB"
            self._pause(
                DISK, f"{reason}; goes on when {amount} are free in {self._folder}, the less the longer it waits"
            )

    def look(self) -> None:
        """End a pause for want of space where there is space again. Asks the disk now and then."""
        if self.cause != DISK or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        if has_space(self._folder, max(self._needed, self._wanted)):
            self.resume("there is space on the disk again")
        else:
            self._needed = max(LEAST_BYTES, self._needed // 2)

    def ask_anew(self) -> None:
        """Somebody asked for something, or a plan has ended: perhaps nobody wants the run any more that had no room."""
        self._wanted = 0

    def resume(self, reason: str) -> None:
        """Go on, if it has paused."""
        self._wanted = 0
        if self.cause is not None:
            self._log.append(Resume(reason=reason))
            self._tell("resumed", {"reason": reason})

    def _pause(self, cause: str, reason: str) -> None:
        self._look_at = time.monotonic() + LOOK_S
        self._log.append(Pause(cause=cause, reason=reason, bytes=self._wanted))
        log_line(f"paused: {reason}")
        self._tell("paused", {"cause": cause, "reason": reason})
