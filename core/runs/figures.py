"""How figures of runs are written, in the matrix and by the faces. No figure is a dash, never 0."""

from __future__ import annotations

NONE = "–"
"""Printed where there is no figure. Never 0."""


def clock(seconds: float) -> str:
    """`1:32`, `2:07:05`."""
    whole = max(0, round(seconds))
    head = f"{whole // 3600}:{whole % 3600 // 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return f"{head}:{whole % 60:02d}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def from_to(before: float | None, after: float | None) -> str:
    """`39.40 → 23.00`, in percent."""
    if before is None and after is None:
        return NONE
    return f"{percent(before)} → {percent(after)}"


def percent(value: float | None) -> str:
    """`39.40`, of a value in percent."""
    return NONE if value is None else f"{value:.2f}"


def points(change: float | None, sign: int = 1) -> str:
    """A change of an error rate in points, with its sign; `sign` -1 makes a gain of a fall."""
    # Adding 0 turns a rounded -0.00 into +0.00.
    return NONE if change is None else f"{round(sign * change, 2) + 0.0:+.2f}"
