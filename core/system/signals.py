"""How a process hears that it is to stop: SIGTERM, and SIGINT, which Ctrl-C sends. The only handlers there are."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterable
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


class Wakeups(StopSignals):
    """While entered, SIGTERM and SIGINT set `stop_asked`, and SIGHUP is ignored, here and in children."""

    def __init__(self) -> None:
        super().__init__()
        self._ours, self._kernels = socket.socketpair()

    def __enter__(self) -> Self:
        for end in (self._ours, self._kernels):
            end.setblocking(False)
        signal.set_wakeup_fd(self._kernels.fileno(), warn_on_full_buffer=False)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        signal.set_wakeup_fd(-1)
        super().__exit__(*error)
        self._ours.close()
        self._kernels.close()

    @property
    def stop_asked(self) -> bool:
        """Whether a signal said so."""
        return self.count > 0

    def wait(self, pidfds: Iterable[int | None], timeout_s: float) -> None:
        """Return when a process of `pidfds` has ended, a signal came, or after `timeout_s`."""
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        for descriptor in pidfds:
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        if any(descriptor == self._ours.fileno() for descriptor, _ in poll.poll(timeout_s * 1000)):
            self._ours.recv(4096)
