"""Waiting for whatever comes first: a signal, the end of a process, or the time."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterable
from typing import Self

from core.system.signals import StopSignals


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
