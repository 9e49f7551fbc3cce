"""How plots are looked at: which part, how smooth, what is laid over them. Values only: the first frame needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_tui.dashboard.reading.snapshots import RunView

SMOOTHING = (1, 10, 30, 100)
"""Steps that a smoothed point is the mean of; 1 is off."""


@dataclass(frozen=True, slots=True)
class View:
    """How a plot is looked at. x range in units of x; None: all of it, and new data as it comes."""

    low: float | None = None
    high: float | None = None
    log_y: bool = False
    cursor: float | None = None
    """x at which the legend reads values."""


@dataclass(frozen=True, slots=True)
class Look:
    """How all plots are drawn."""

    smoothing: int = 30
    by_time: bool = False
    """x is training time in minutes instead of the step."""
    learning_rate: bool = False
    """The learning rate has a strip below the losses."""
    ascii_only: bool = False

    @property
    def point(self) -> str:
        """The marker of an interval."""
        return "o" if self.ascii_only else "●"

    @property
    def star(self) -> str:
        """The glyph of the best interval."""
        return "*" if self.ascii_only else "★"


@dataclass(frozen=True, slots=True)
class Pin:
    """A run that is laid over another one."""

    letter: str
    """`a`, `b`, `c`: as it stands before its row in the queue."""
    view: RunView

    @property
    def role(self) -> str:
        """Its colour."""
        return f"pin-{(ord(self.letter) - ord('a')) % 3}"
