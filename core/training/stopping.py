"""The stop signal. A module of its own, because it must be heard while torch is still being imported."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from core.errors import Interrupted


class StopFlag:
    """Set by SIGTERM and SIGINT; stages ask it between units of work."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def install(self) -> None:
        """Take over the signals of this process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._event.set()

    def __call__(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise Interrupted when asked to stop."""
        if self():
            raise Interrupted("stopped before the next step; it goes on from the last checkpoint")
