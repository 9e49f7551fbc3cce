"""How a process hears that it is to stop: SIGTERM, and SIGINT, which Ctrl-C sends. The only handlers there are."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self


class StopSignals:
    """While entered, both signals are counted; then `came` says what else they do.

    One that was ignored before stays ignored: Ctrl-C does not mean the background job of a script.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last = signal.SIGINT
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def came(self) -> None:
        """After each one; it may raise."""

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.last = signal.Signals(number)
        self.came()


class Interrupts(StopSignals):
    """Both end the command like Ctrl-C: with a KeyboardInterrupt, so that what it holds is let go of."""

    def came(self) -> None:
        """Raise it."""
        raise KeyboardInterrupt


class Later(StopSignals):
    """Both wait for the end of what must not be left in the middle, and then do what they did before."""

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self.count:
            signal.raise_signal(self.last)
