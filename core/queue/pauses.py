"""When the queue starts nothing more by itself: runs that fail alike, one after the other, and a full disk."""

from __future__ import annotations

import os
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from core.queue.decisions import Decision, DecisionLog
from core.queue.standing import Ended

FAILURES = "failures"
DISK = "disk"
LOOK_S = 10.0
"""How often a full disk is looked at again."""
LEAST_BYTES = 64 << 20
"""Space that a run is started with at least."""
MOST_BYTES = 1 << 30
"""What is waited for after a full disk, at most: first as much again as the run wrote, twice as much each time that the
disk is full all the same; at each look half of it, down to LEAST_BYTES, so that no small disk waits for ever."""
_NEUTRAL = ("stopped", "rebooted", "disk_full", "lost")
"""Ends that say nothing about the plan: they neither make nor break a series."""
_RESULTS = ("done", "diverged", "stopped_early")
"""Ends that are a result of the run's own settings: they break a series."""
_NUMBERS = re.compile(r"\d+")


@dataclass(slots=True)
class FailureSeries:
    """Different runs that failed alike, one after the other. Numbers in messages do not count."""

    failure: str = ""
    runs: list[str] = field(default_factory=list)

    def add(self, run: str, ended: Ended, message: str) -> None:
        """A trainer has ended."""
        if ended.asked or ended.outcome in _NEUTRAL:
            return
        failure = "" if ended.outcome in _RESULTS else f"{ended.outcome.replace('_', ' ')}: {message}".rstrip(": ")
        if not failure or _NUMBERS.sub("", failure) != _NUMBERS.sub("", self.failure):
            self.runs = []
        self.failure = failure
        if failure and run not in self.runs:
            self.runs.append(run)

    def reason(self, limit: int) -> str | None:
        """Why the queue pauses when `limit` runs failed alike (0: never)."""
        if not limit or len(self.runs) < limit:
            return None
        return f"{len(self.runs)} runs in a row failed alike ({', '.join(self.runs)}): {self.failure}"


def has_space(folder: Path, size: int) -> bool:
    """Whether `size` bytes can really be had in `folder`: quotas count, too."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            os.posix_fallocate(probe.fileno(), 0, size)
    except OSError:
        return False
    return True


class Pauses:
    """Whether the queue may start runs, and why not. Told in the decisions when it changes."""

    def __init__(self, folder: Path, log: DecisionLog) -> None:
        self.cause: str | None = None
        self.reason = ""
        self._folder = folder
        self._log = log
        self._series = FailureSeries()
        self._needed = LEAST_BYTES
        self._wanted = 0
        """Bytes that the run will take for which the queue paused."""
        self._look_at = 0.0

    def remember(self, decision: Decision) -> None:
        """What an earlier supervisor said."""
        if decision.kind == "pause":
            self.cause, self.reason = str(decision.get("cause") or DISK), str(decision.get("reason"))
            wanted = decision.get("bytes")
            self._wanted = wanted if isinstance(wanted, int) else 0
        elif decision.kind == "resume" or (
            decision.kind == "supervisor_ended" and decision.get("reason") != "told to stop"
        ):
            self._forget()
        elif decision.kind == "exit":
            self.ended(*_end_in(decision))
        elif decision.kind == "halve" and decision.get("run") in self._series.runs:
            self._series.runs.remove(str(decision.get("run")))  # it goes on with smaller micro-batches: no failure

    def ended(self, run: str, ended: Ended, message: str) -> None:
        """A trainer has ended."""
        self._series.add(run, ended, message)
        if ended.outcome == "done":
            self._needed = LEAST_BYTES

    def before_start(self, limit: int, expected_bytes: int) -> str:
        """Why no run may be started now; empty: one may. `limit`: `queue.pause_after`."""
        if self.cause is None and (failures := self._series.reason(limit)) is not None:
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
            said = f"{LEAST_BYTES / 1e6:.0f} to {self._needed / 1e6:.0f} MB"
            self._pause(DISK, f"{reason}; goes on when {said} are free in {self._folder}, the less the longer it waits")

    def look(self) -> bool:
        """Whether a pause for want of space is over. Asks the disk now and then."""
        if self.cause != DISK or time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_S
        if has_space(self._folder, max(self._needed, self._wanted)):
            self.resume("there is space on the disk again")
        else:
            self._needed = max(LEAST_BYTES, self._needed // 2)
        return self.cause is None

    def ask_anew(self) -> None:
        """Somebody asked for something, or a plan has ended: perhaps nobody wants the run any more that had no room."""
        self._wanted = 0

    def resume(self, reason: str) -> bool:
        """Go on. Whether there was a pause."""
        paused = self.cause is not None
        self._forget()
        if paused:
            self._log.append("resume", reason=reason)
        return paused

    def _pause(self, cause: str, reason: str) -> None:
        self.cause, self.reason = cause, reason
        self._look_at = time.monotonic() + LOOK_S
        self._log.append("pause", cause=cause, reason=reason, bytes=self._wanted)

    def _forget(self) -> None:
        self.cause, self.reason, self._wanted = None, "", 0
        self._series = FailureSeries()


def _end_in(decision: Decision) -> tuple[str, Ended, str]:
    ended = Ended(str(decision.get("outcome")), bool(decision.get("asked")))
    return str(decision.get("run")), ended, str(decision.get("message") or "")
