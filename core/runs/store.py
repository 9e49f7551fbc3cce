"""Reading a run folder: once (`read_run`), again and again (`RunFollower`), only its state (`run_state`)."""

from __future__ import annotations

import io
import math
import os
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from core.runs.documents import read_config, read_result
from core.runs.events import Final, decode
from core.runs.fold import History
from core.runs.paths import RunPaths
from core.runs.snapshot import Attempt, RunSnapshot, derive_state, reason
from core.runs.status import Status
from core.scoring.units import unit_of
from core.system.files import LONGEST_LINE, open_raw, stamp, tail
from core.system.process import is_alive

_CHUNK = 256 << 10
"""Read and folded at once: about 1000 steps, a few milliseconds."""
_MORE = 1.02
"""Lines do not all have the same length."""
_WORTH_KEEPING = 8 << 20
"""Bytes of events that are kept folded; fewer are read in a moment."""
_TAIL = 64 << 10
_LOG_TAIL = 4 << 10


def read_run(paths: RunPaths, now: float | None = None) -> RunSnapshot:
    """The run at this moment. Never raises for what is in the files: `problems` names what could not be read.

    `now` (Unix seconds) stands in for the clock.
    """
    stamps = _stamps_of_finished(paths)
    if stamps is None:
        return RunFollower(paths).refresh(now)
    snapshot = _finished(paths, stamps)
    if snapshot.state is not Status.DONE:
        return RunFollower(paths).refresh(now)  # its result cannot be read
    attempt = snapshot.attempts[-1] if snapshot.attempts else None
    if attempt is None or attempt.process is None:
        return snapshot
    return replace(snapshot, alive=is_alive(attempt.process))


def _stamps_of_finished(paths: RunPaths) -> tuple[tuple[int, ...], ...] | None:
    """What vouches for the files of a run that has a result, if its history is short; else None."""
    try:
        events = paths.events.stat()
        stamps = (stamp(events), stamp(paths.config.stat()), stamp(paths.result.stat()))
    except OSError:
        return None
    return stamps if events.st_size < _WORTH_KEEPING else None


@lru_cache(maxsize=8)
def _finished(paths: RunPaths, _stamps: tuple[tuple[int, ...], ...]) -> RunSnapshot:
    """The queue, the gate and a report each ask for it: what has ended is folded once."""
    return RunFollower(paths).refresh()


def run_state(paths: RunPaths) -> Status:
    """Only the state, in constant time for a run that ended: thousands of runs are listed in a second."""
    return state_and_reason(paths)[0]


def state_and_reason(paths: RunPaths) -> tuple[Status, str]:
    """`run_state`, and why it is in that state where the word alone does not tell (`core.runs.snapshot`)."""
    if read_result(paths)[0] is not None:
        return Status.DONE, ""
    last = _last_record(paths.events)
    if isinstance(last, Final) and last.outcome != "done":
        attempt = Attempt(0, 0.0, 0.0, None, None, "", "", final=last)
        return derive_state(None, attempt, None, None, 0.0), last.message
    snapshot = read_run(paths)
    return snapshot.state, reason(snapshot)


class RunFollower:
    """Reads only what was appended since the last `refresh`. A torn last line waits until it is whole.

    With `cache`, a file in the state folder, a long history is kept folded (`keep`) and found again by the next reader.
    """

    def __init__(self, paths: RunPaths, cache: Path | None = None) -> None:
        self.paths = paths
        self._cache = cache
        self._kept_offset = 0
        self._history = History()
        self._offset = 0
        self._size = 0
        self._inode: int | None = None
        self._refreshed = False
        self._events_problem: str | None = None
        self._grew_at: float | None = None
        """Monotonic time of growth that this reader saw: silence measured so survives steps of the clock."""

    @property
    def share_read(self) -> float:
        """Of the events' bytes, 0 … 1."""
        return self._offset / self._size if self._size else 0.0

    def advance(self, until: float) -> bool:
        """Read until `time.monotonic()` is `until`, at least a little; whether all that is there was read."""
        return self._read(until)

    def refresh(self, now: float | None = None) -> RunSnapshot:
        """The run at this moment."""
        config, config_problem = read_config(self.paths)
        if config is None and config_problem is None:
            config_problem = f"{self.paths.config}: missing"
        result, result_problem = read_result(self.paths)
        self._read(math.inf)
        history = self._history
        attempt = history.attempts[-1] if history.attempts else None
        alive = is_alive(attempt.process) if attempt is not None and attempt.process is not None else None
        phase = history.phase
        return RunSnapshot(
            paths=self.paths,
            config=config,
            result=result,
            state=derive_state(result, attempt, phase.phase if phase else None, alive, self._silence(now)),
            alive=alive,
            attempts=tuple(history.attempts),
            steps=history.steps.series(),
            intervals=tuple(history.intervals[step] for step in sorted(history.intervals)),
            candidates=tuple(history.candidates.values()),
            checkpoints=tuple(sorted(history.checkpoints)),
            adapters=tuple(history.adapters.values()),
            phase=phase.phase if phase else None,
            phase_step=phase.step if phase else None,
            phase_detail=phase.detail if phase else "",
            progress=history.progress,
            last_event_time=history.last_time,
            notices=tuple(history.notices.values()),
            foreign_lines=history.foreign,
            problems=tuple(p for p in (config_problem, result_problem, self._events_problem) if p),
            unit=unit_of((config or {}).get("gate")),
        )

    def keep(self) -> bool:
        """Write the cache, if enough was read since it was written; whether that was done."""
        grown = self._offset - self._kept_offset
        if self._cache is None or grown < max(_WORTH_KEEPING, self._kept_offset // 4):
            return False
        from core.runs.fold import save  # short histories are read without it

        self._kept_offset = self._offset
        return save(self._cache, self.paths.events, self._history, self._offset)

    def _read(self, until: float) -> bool:
        """Fold the lines that are new."""
        self._events_problem = None
        try:
            with open_raw(self.paths.events) as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._begin(status)
                self._size = status.st_size
                return self._fold(file, until)
        except FileNotFoundError:
            return True
        except OSError as error:
            self._events_problem = f"{self.paths.events}: cannot be read: {error.strerror}"
            return True
        finally:
            self._refreshed = True

    def _begin(self, status: os.stat_result) -> None:
        """Another file, or one cut before what was read: from the beginning, or from what was kept of it."""
        self._history, self._offset, self._inode, self._kept_offset = History(), 0, status.st_ino, 0
        if self._cache is None or status.st_size < _WORTH_KEEPING:
            return
        from core.runs.fold import load

        kept = load(self._cache, self.paths.events)
        if kept is not None and kept.inode == status.st_ino:
            self._history, self._offset, self._kept_offset = kept.history, kept.offset, kept.offset

    def _fold(self, file: io.FileIO, until: float) -> bool:
        buffer = bytearray(_CHUNK)
        file.seek(self._offset)
        filled = 0
        while count := file.readinto(memoryview(buffer)[filled:]):
            filled += count
            whole = buffer.rfind(b"\n", 0, filled) + 1
            if whole:
                self._expect()
                self._history.add_block(memoryview(buffer)[:whole])
                self._offset += whole
                self._grew(whole)
                if time.monotonic() > until and self._offset < self._size:
                    return False
                # What is left is the beginning of a line; views of the old buffer may still be about.
                rest = buffer[whole:filled]
                buffer, filled = bytearray(_CHUNK), len(rest)
                buffer[:filled] = rest
            elif filled >= LONGEST_LINE:
                self._events_problem = (
                    f"{self.paths.events}: a line longer than {LONGEST_LINE >> 20} MiB, which no trainer writes: "
                    "nothing after it was read"
                )
                return True
            elif filled == len(buffer):
                buffer = buffer + bytearray(len(buffer))  # a line longer than the buffer
        return True

    def _expect(self) -> None:
        """As many steps a byte as so far: columns that grow step by step would be copied again and again."""
        if self._offset >= _CHUNK:
            steps = self._history.steps
            steps.expected = int(_MORE * steps.count * self._size / self._offset)

    def _grew(self, added: int) -> None:
        if added and self._refreshed:
            self._grew_at = time.monotonic()

    def _silence(self, now: float | None) -> float:
        """Seconds since the last event; by the wall clocks only until this reader has seen the file grow."""
        last = self._history.last_time
        if last is None:
            return 0.0
        if self._grew_at is not None and now is None:
            return time.monotonic() - self._grew_at
        return max(0.0, (time.time() if now is None else now) - last)


def _last_record(path: Path) -> object | None:
    """The last whole event of the file, or None."""
    try:
        lines = tail(path, _TAIL).split(b"\n")[:-1]
    except OSError:
        return None
    record = decode(lines[-1].decode("utf-8", "replace")) if lines else None
    return record.event if record is not None else None


def last_line(log: Path) -> str:
    """The last line of a log that holds anything."""
    try:
        lines = tail(log, _LOG_TAIL).decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
