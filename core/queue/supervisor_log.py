"""What the supervisor says to people: lines in supervisor.log, which is its stderr."""

from __future__ import annotations

import time

from core.console import err


def log_line(text: str) -> None:
    """One line. A full disk takes no line, and stops nothing."""
    err(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")
