"""Waiting for what another process or thread does. Tests wait for events; a deadline only ends what hangs."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable

DEADLINE_S = 600.0
"""Nothing takes so long, however busy the machine is: what does has hung."""


def wait_for(condition: Callable[[], object], deadline_s: float = DEADLINE_S, every_s: float = 0.02) -> None:
    """Until the condition holds, asked every so often; a failed test when it never does."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(every_s)


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process writes to stdout and stderr until its end. One that hangs is killed, and the test fails."""
    try:
        return process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def clock_tick() -> None:
    """Until the clock that stamps files has moved on: what is written now is newer than what was written before."""
    with tempfile.TemporaryFile() as probe:
        before = os.fstat(probe.fileno()).st_ctime_ns
        while os.fstat(probe.fileno()).st_ctime_ns == before:
            os.utime(probe.fileno())
