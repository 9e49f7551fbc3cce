"""A plot as a value: curves, levels, marks, and how it is looked at. `drawing` makes lines of cells of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from core.runs.steps import Lineage
from lora_tui.dashboard.plots.series import Floats, Xs
from lora_tui.dashboard.plots.view import View

GUTTER = 7
"""Columns left of the canvas: y labels and the edge."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One series. xs rise."""

    label: str
    role: str
    xs: Xs
    ys: Floats
    marker: str = ""
    """Drawn at every point, when given; it tells series apart without colour."""
    dots: bool = False
    """Points alone, not joined."""
    window: int = 1
    """Smoothed over so many points (`series.smooth`)."""
    legend: bool = True
    unit_digits: int = 3
    """Decimals of its value in the legend."""
    scientific: bool = False
    """Its value is told as 2.5e-5."""
    source: tuple[Lineage, str] | None = None
    """The history and its column that `ys` are: what was worked out for them is used again when they have grown."""
    tag: str = ""
    """A character at the curve's right end; it tells curves apart that have no markers."""
    short: str = ""
    """The label where there is no room for it."""


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line with a name: a baseline, a threshold."""

    y: float
    label: str
    role: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A vertical bar from `low` to `high` at `x`: an uncertainty."""

    x: float
    low: float
    high: float
    role: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A glyph over everything, at one point."""

    x: float
    y: float
    glyph: str
    role: str


@dataclass(frozen=True, slots=True, eq=False)
class Plot:
    """Everything that is drawn in one frame. `span`: a stretch of x to be marked on the axis, and its name."""

    title: str
    curves: tuple[Curve, ...]
    levels: tuple[Level, ...] = ()
    """The important ones first: where there is no room for all, it is the last that go."""
    bars: tuple[Bar, ...] = ()
    marks: tuple[Mark, ...] = ()
    span: tuple[float, float, str] | None = None
    x_end: float = 0.0
    """The axis reaches at least to here: the planned end of a run."""
    empty: str = "nothing to draw yet"
    signed: bool = False
    """y labels carry their sign."""
    x_name: str = "step"
    strips: tuple[Curve, ...] = ()
    """Drawn below the others, each with an axis of its own, from 0."""
    strips_first: bool = False
    """Where there is no room for both, the first strip is drawn alone; else the others are."""
    ship: float | None = None
    """x of the best step: what the legend reads without a cursor."""
    ships: bool = True
    """Whether that step ships, or would: then a line goes through it from top to bottom."""
    star: str = ""
    """The sign of that step, and its name, in the title."""
    shipped: float | None = None
    """y of what ships, where that is no point of the run's curve."""
    near: tuple[float, float] | None = None
    """y around the levels, for a close look."""

    @property
    def main(self) -> Curve | None:
        """The first curve of the run itself."""
        return next((c for c in self.curves if c.legend and not c.role.startswith("pin-")), None)


def x_range(plot: Plot, view: View) -> tuple[float, float]:
    """The range of x that is seen."""
    ends = [float(c.xs[-1]) for c in plot.curves if len(c.xs)]
    low = 0.0 if view.low is None else view.low
    high = max([*ends, plot.x_end, 1.0]) if view.high is None else view.high
    return low, max(high, low + 1e-9)


def x_at(plot: Plot, view: View, width: int, column: int) -> float:
    """The x that is drawn in this column of a picture `width` wide; beside the canvas, of its edge."""
    low, high = x_range(plot, view)
    cells = max(2, width - GUTTER)
    return low + (high - low) * min(max(0, column - GUTTER), cells - 1) / (cells - 1)
