"""Waiting for whatever comes first: a signal, the end of a process, or the time."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterable
from types import FrameType, TracebackType

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Wakeups:
    """While entered, SIGTERM and SIGINT set `stop_asked`, and SIGHUP is ignored, here and in children."""

    def __init__(self) -> None:
        self.stop_asked = False
        self._ours, self._kernels = socket.socketpair()
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Wakeups:
        for end in (self._ours, self._kernels):
            end.setblocking(False)
        signal.set_wakeup_fd(self._kernels.fileno(), warn_on_full_buffer=False)
        for number in _STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._asked)
        self._previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._ours.close()
        self._kernels.close()

    def wait(self, pidfds: Iterable[int | None], timeout_s: float) -> None:
        """Return when a process of `pidfds` has ended, a signal came, or after `timeout_s`."""
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        for descriptor in pidfds:
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        if any(descriptor == self._ours.fileno() for descriptor, _ in poll.poll(timeout_s * 1000)):
            self._ours.recv(4096)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self.stop_asked = True
