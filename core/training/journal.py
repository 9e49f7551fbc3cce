"""The trainer's side of `events.jsonl`: one writer, one event a line, a sign of life at least every ten seconds."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType

from core.runs.events import HEARTBEAT_S, Event, Heartbeat, Phase, Record, encode
from core.runs.folder import open_append
from core.system.files import append_whole, cut_torn_line


class Journal:
    """Appends events; a thread writes a heartbeat whenever nothing else was written for a while."""

    def __init__(self, path: Path, attempt: int) -> None:
        self.attempt = attempt
        self._file = open_append(path.parent, path)
        cut_torn_line(self._file)
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._phase = "starting"
        self._progress: tuple[int | None, int | None] = (None, None)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def emit(self, event: Event) -> None:
        """Write one event. OSError (a full disk) goes up to the caller."""
        line = encode(Record(self.attempt, time.time(), event)).encode() + b"\n"
        with self._lock:
            # whole or not at all: the next line must not grow onto a half one
            append_whole(self._file, line)
            self._last = time.monotonic()

    def phase(self, phase: str, step: int | None = None, detail: str = "") -> None:
        """Say what is done now; heartbeats repeat it."""
        self._phase, self._progress = phase, (None, None)
        self.emit(Phase(phase, step, detail))

    @property
    def now(self) -> str:
        """The phase that was written last."""
        return self._phase

    def progress(self, done: int, total: int) -> None:
        """How far the phase is, for the next heartbeat. Writes nothing itself."""
        self._progress = (done, total)

    def sync(self) -> None:
        """Make what was written durable."""
        with self._lock:
            os.fsync(self._file.fileno())

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S / 4):
            if time.monotonic() - self._last >= HEARTBEAT_S / 2:
                try:
                    self.emit(Heartbeat(self._phase, *self._progress))
                except OSError:
                    # a full disk: the main thread meets it at its next write and says so
                    continue

    def close(self) -> None:
        """Stop the heartbeat and make everything durable."""
        self._ended.set()
        self._thread.join()
        try:
            self.sync()
        finally:
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Mute(Journal):
    """Of a process that only does its share of a run: another one writes the run's events."""

    def __init__(self) -> None:
        self.attempt = 0
        self._phase = "starting"

    def emit(self, event: Event) -> None:
        """Nothing is written."""

    def sync(self) -> None:
        """There is nothing to make durable."""

    def close(self) -> None:
        """There is nothing to close."""
