"""Where boards come from, and the thread that reads them and posts frozen snapshots."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from lora_tui.dashboard.reading.snapshots import Board, Want


class Source(Protocol):
    """Where boards come from: the files of a runs folder, or a replay."""

    @property
    def pending(self) -> bool:
        """Whether more of what is there could be read at once."""

    def read(self, want: Want) -> Board:
        """The board now."""


_BREATH_S, _LONG_BREATH_S = 0.005, 0.1
"""Between two rounds while there is more to read: long after somebody pressed a key, whose answer comes first."""
_BUSY_S = 0.3


class ReaderThread(threading.Thread):
    """Reads every `period_s` and hands over a board only if it differs from the last and that one was taken.

    A terminal that does not read blocks the screen, not this thread, and nothing piles up meanwhile. While a folder of
    thousands is read, the screen is told of it no more often than otherwise.
    """

    def __init__(
        self,
        source: Source,
        period_s: float,
        deliver: Callable[[Board], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """`failed` is told of an error in our own code, after which nothing is read any more."""
        super().__init__(name="reader", daemon=True)
        self._failed = failed
        self._source, self._period, self._deliver = source, period_s, deliver
        self._want = Want()
        self._wanted_at = float("-inf")
        self._wake = threading.Event()
        self._taken = threading.Event()
        self._taken.set()
        self._ended = False

    def want(self, want: Want) -> None:
        """What the screen shows from now on; read at once."""
        if want != self._want:
            self._want, self._wanted_at = want, time.monotonic()
            self._wake.set()

    def taken(self) -> None:
        """The last board is on the screen."""
        self._taken.set()

    def stop(self) -> None:
        """Ask the thread to end soon."""
        self._ended = True
        self._wake.set()
        self._taken.set()

    def run(self) -> None:
        """Read boards until the end; this is the body of the thread."""
        try:
            self._read()
        except Exception as error:  # a thread has nobody to raise to
            if not self._ended:
                self._failed(error)

    def _read(self) -> None:
        last: Board | None = None
        told_at = float("-inf")
        while not self._ended:
            self._wake.clear()
            board = self._source.read(self._want)
            now = time.monotonic()
            due = not self._source.pending or now - told_at >= self._period or _what(board) != _what(last)
            if due and board != last and self._taken.is_set() and not self._ended:
                last, told_at = board, now
                self._taken.clear()
                self._deliver(board)
            if not self._source.pending:
                self._wake.wait(self._period)
                continue
            # A terminal that is slow to show a board is not hurried.
            self._taken.wait(self._period)
            breath = _LONG_BREATH_S if now - self._wanted_at < _BUSY_S else _BREATH_S
            self._wake.wait(min(breath, self._period))


def _what(board: Board | None) -> tuple[object, ...]:
    """What is looked at: told at once."""
    return () if board is None else (board.selected, board.pinned, len(board.rows))
