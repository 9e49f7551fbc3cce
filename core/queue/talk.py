"""What the supervisor says to people: lines in supervisor.log, which is its stderr."""

from __future__ import annotations

import contextlib
import sys
import time


def say(text: str) -> None:
    """One line. A full disk takes no line, and stops nothing."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        sys.stderr.flush()
