"""How plots are looked at: zoom, pan, cursor, smoothing, what is laid over them. Pure: the first frame needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_tui.dashboard.reading.snapshots import RunView


SMOOTHING = (1, 10, 30, 100)
"""Steps that a smoothed point is the mean of; 1 is off."""


STRIPS = ("auto", "learning rate", "gradient norm", "off")
"""Strips below the losses: both where there is room; one of them, alone where there is no room beside it; none."""
CLOSEST = 8


@dataclass(frozen=True, slots=True)
class View:
    """How a plot is looked at. x range in units of x; None: all of it, and new data as it comes."""

    low: float | None = None
    high: float | None = None
    log_y: bool = False
    cursor: float | None = None
    """x at which the legend reads values."""
    closer: int = 0
    """Times that y was halved around what ships; -1: all of y, with the outliers that are else left out."""
    near: bool = False
    """y shows no more than what is around target and guardrail."""


@dataclass(frozen=True, slots=True)
class PlotStyle:
    """How all plots are drawn."""

    smoothing: int = 30
    by_time: bool = False
    """x is training time in minutes instead of the step."""
    strips: str = STRIPS[0]
    """What lies below the losses."""
    ascii_only: bool = False

    @property
    def point(self) -> str:
        """The marker of an interval."""
        return "o" if self.ascii_only else "●"

    def star(self, *, ships: bool) -> str:
        """The sign of the best interval: another one where it does not ship."""
        if self.ascii_only:
            return "*" if ships else "!"
        return "★" if ships else "☆"


@dataclass(frozen=True, slots=True)
class Pin:
    """A run that is laid over another one."""

    letter: str
    """`a`, `b`, `c`: as it stands before its row in the queue."""
    view: RunView

    @property
    def role(self) -> str:
        """The role that gives its colour."""
        return f"pin-{(ord(self.letter) - ord('a')) % 3}"


_SMALLEST = 1e-4
"""Share of the whole that can still be zoomed into."""


def zoom(view: View, whole: float, factor: float, at: float | None = None) -> View:
    """`factor` < 1 shows less: `at` stays in its place, else the cursor or the middle comes to the middle.

    Never more than the whole.
    """
    low, high = _range(view, whole)
    width = max((high - low) * factor, whole * _SMALLEST)
    if width >= whole:
        return replace(view, low=None, high=None)
    middle = view.cursor if view.cursor is not None and low <= view.cursor <= high else (low + high) / 2
    start = middle - width / 2 if at is None else at - (at - low) * width / (high - low)
    start = min(max(0.0, start), whole - width)
    return replace(view, low=start, high=start + width)


def closer(view: View, by: int) -> View:
    """y halved or doubled once more."""
    return replace(view, closer=min(max(-1, view.closer + by), CLOSEST), near=False)


def pan(view: View, whole: float, direction: int) -> View:
    """A quarter of what is seen to the left or the right; stops at the ends."""
    if view.low is None or view.high is None:
        return view
    return pan_by(view, whole, direction * (view.high - view.low) / 4)


def pan_by(view: View, whole: float, distance: float) -> View:
    """So far along x to the right; stops at the ends."""
    if view.low is None or view.high is None:
        return view
    width = view.high - view.low
    start = min(max(0.0, view.low + distance), max(0.0, whole - width))
    return replace(view, low=start, high=start + width)


def move_cursor(view: View, whole: float, direction: int) -> View:
    """A fiftieth of what is seen; it begins in the middle."""
    low, high = _range(view, whole)
    if view.cursor is None:
        return replace(view, cursor=(low + high) / 2)
    return replace(view, cursor=min(max(low, view.cursor + direction * (high - low) / 50), high))


def snap_cursor(view: View, whole: float, places: Sequence[float], direction: int) -> View:
    """To the next of `places` (rising) in this direction that is seen; it begins at the last one."""
    low, high = _range(view, whole)
    seen = [place for place in places if low <= place <= high]
    if not seen:
        return view
    if view.cursor is None:
        return replace(view, cursor=seen[-1])
    here = view.cursor
    beyond = [p for p in seen if p > here] if direction > 0 else [p for p in reversed(seen) if p < here]
    return replace(view, cursor=beyond[0]) if beyond else view


def _range(view: View, whole: float) -> tuple[float, float]:
    return (0.0 if view.low is None else view.low), (whole if view.high is None else view.high)
