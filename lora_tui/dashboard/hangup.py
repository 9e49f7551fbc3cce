"""Whether the terminal is still there. SIGHUP tells most that lose theirs; without a controlling one nothing does."""

from __future__ import annotations

import select
import sys

LOOKS_S = 2.0
"""How often the dashboard looks."""


def terminal_is_gone() -> bool:
    """Whether whoever held the other end of the standard input has left for good. Never waits."""
    if sys.__stdin__ is None or sys.__stdin__.closed:
        return True
    poll = select.poll()
    poll.register(sys.__stdin__.fileno(), 0)
    return any(mask & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, mask in poll.poll(0))
