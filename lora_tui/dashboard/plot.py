"""A plot as a value, and how it becomes lines of cells. Pure: no widget, no colour, no file."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from core.runs.figures import NONE
from core.runs.steps import Lineage
from lora_tui.dashboard.canvas import Canvas, Cell
from lora_tui.dashboard.look import View
from lora_tui.dashboard.reduction import blocks_of
from lora_tui.dashboard.series import Floats, Xs, first_beyond, logarithm, reduce, smooth

Line = list[Cell]
Scalar = TypeVar("Scalar", float, Floats)
_GUTTER = 7
_SMALLEST = (20, 5)
_MARKER_DOTS = 6.0
"""Dots between markers, at least."""
_ROOMY = 40
_WHOLE = View()


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
    source: tuple[Lineage, str] | None = None
    """The history and its column that `ys` are: what was worked out for them is used again when they have grown."""
    tag: str = ""
    """A character at the curve's right end; it tells curves apart that have no markers."""


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
    bars: tuple[Bar, ...] = ()
    marks: tuple[Mark, ...] = ()
    span: tuple[float, float, str] | None = None
    x_end: float = 0.0
    """The axis reaches at least to here: the planned end of a run."""
    empty: str = "nothing to draw yet"
    signed: bool = False
    """y labels carry their sign."""
    x_name: str = "step"


def x_range(plot: Plot, view: View) -> tuple[float, float]:
    """What is seen of x."""
    ends = [float(c.xs[-1]) for c in plot.curves if len(c.xs)]
    low = 0.0 if view.low is None else view.low
    high = max([*ends, plot.x_end, 1.0]) if view.high is None else view.high
    return low, max(high, low + 1e-9)


def x_at(plot: Plot, view: View, width: int, column: int) -> float:
    """The x that is drawn in this column of a picture `width` wide; beside the canvas, of its edge."""
    low, high = x_range(plot, view)
    cells = max(2, width - _GUTTER)
    return low + (high - low) * min(max(0, column - _GUTTER), cells - 1) / (cells - 1)


def draw(plot: Plot, width: int, height: int, view: View = _WHOLE, *, ascii_only: bool = False) -> list[Line]:
    """`height` lines of `width` cells: a title with the legend, the canvas with its y labels, the x axis."""
    if width < _SMALLEST[0] or height < _SMALLEST[1]:
        return [_fit([*_text(plot.title, "title")], width)] + [[(" ", "")] * width] * (height - 1)
    low, high = x_range(plot, view)
    prepared = [_Prepared(c, low, high, 2 * (width - _GUTTER), view.log_y) for c in plot.curves]
    bounds = _y_bounds(plot, prepared, view.log_y)
    bad = sum(len(p.gaps) for p in prepared if p.curve.legend)
    lines = [_fit(_legend(plot, prepared, view, bad, ascii_only, width), width)]
    if bounds is None and not bad:
        said = [_fit(_text(part.center(width), "muted"), width) for part in textwrap.wrap(plot.empty, width - 2)]
        blank = _fit([], width)
        above = max(0, (height - 1 - len(said)) // 2)
        return [*lines, *([blank] * above), *said, *([blank] * height)][:height]
    frame = _Frame(Canvas(width - _GUTTER, height - 3, ascii_only=ascii_only), low, high, *(bounds or (0.0, 1.0)))
    _paint(frame, plot, prepared, view, ascii_only)
    labels = frame.y_labels(view.log_y, plot.signed)
    edge = "|" if ascii_only else "│"
    for row, cells in enumerate(frame.canvas.rows()):
        label = labels.get(row, "")
        lines.append([*_text(f"{label:>{_GUTTER - 1}}", "axis"), (edge, "axis"), *cells])
    return [*lines, *_x_axis(frame, plot, width, ascii_only)]


class _Prepared:
    """A curve smoothed, parted and reduced for the range that is seen."""

    def __init__(self, curve: Curve, low: float, high: float, columns: int, log_y: bool) -> None:
        blocks = None
        if curve.source is not None:
            blocks = blocks_of(*curve.source, curve.ys, curve.window, log=log_y)
        if blocks is not None:
            reduced = blocks.reduce(curve.xs, curve.ys, low, high, columns)
        else:
            ys = smooth(curve.ys, curve.window)
            reduced = reduce(curve.xs, logarithm(ys) if log_y else ys, low, high, columns)
        self.curve = curve
        self.xs, self.ys, self.piece, self.gaps = reduced.xs, reduced.ys, reduced.piece, reduced.gaps
        self.inside = (self.xs >= low) & (self.xs <= high)

    def value_at(self, x: float | None) -> float | None:
        """The smoothed value at the cursor, or the newest: of the last point not after it."""
        curve = self.curve
        count = len(curve.xs) if x is None else first_beyond(curve.xs, x)
        if count == 0:
            return None
        return float(smooth(curve.ys[max(0, count - curve.window) : count], curve.window)[-1])


class _Frame:
    """Data coordinates to dots."""

    def __init__(self, canvas: Canvas, low: float, high: float, bottom: float, top: float) -> None:
        self.canvas, self.low, self.high, self.bottom, self.top = canvas, low, high, bottom, top

    def x(self, value: Scalar) -> Scalar:
        return (value - self.low) / (self.high - self.low) * (self.canvas.dots_wide - 1)

    def y(self, value: Scalar) -> Scalar:
        return (self.top - value) / (self.top - self.bottom) * (self.canvas.dots_high - 1)

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """(column, row)."""
        return round(self.x(x)) // 2, round(self.y(y)) // 4

    def y_labels(self, log_y: bool, signed: bool) -> dict[int, str]:
        """Row → label, at round numbers where they fit."""
        labels: dict[int, str] = {}
        ticks = ticks_between(self.bottom, self.top, max(2, self.canvas.height // 2))
        step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else abs(self.top - self.bottom)
        for tick in ticks:
            text = f"{10**tick:.3g}" if log_y else _number(tick, step, signed)
            labels.setdefault(round(self.y(tick)) // 4, text)
        return labels


def _paint(frame: _Frame, plot: Plot, prepared: Sequence[_Prepared], view: View, ascii_only: bool) -> None:
    canvas = frame.canvas
    for bar in plot.bars:
        column = round(frame.x(bar.x))
        canvas.line(column, frame.y(bar.high), column, frame.y(bar.low), bar.role)
    for item in prepared:
        _paint_curve(frame, item)
    if view.cursor is not None and frame.low <= view.cursor <= frame.high:
        column = round(frame.x(view.cursor))
        canvas.line(column, 0, column, canvas.dots_high, "cursor")
    for level in plot.levels:
        canvas.dashes(round(frame.y(_scaled(level.y, view.log_y))), level.role)
    for item in prepared:
        for x in np.unique(np.rint(frame.x(item.gaps)).astype(int) // 2).tolist():
            canvas.text(x, 0, "x" if ascii_only else "✕", "bad")
    for mark in plot.marks:
        y = _scaled(mark.y, view.log_y)
        if math.isfinite(y) and frame.low <= mark.x <= frame.high:
            canvas.text(*frame.cell(mark.x, y), mark.glyph, mark.role)
    for level in plot.levels:
        y = frame.y(_scaled(level.y, view.log_y))
        row = round(y) // 4 if math.isfinite(y) else -1
        # On its line or beside it; where a curve leaves no room it goes without.
        if math.isfinite(y):
            any(canvas.label(candidate, level.label, level.role) for candidate in (row, row - 1, row + 1))


def _paint_curve(frame: _Frame, item: _Prepared) -> None:
    canvas, curve = frame.canvas, item.curve
    xs, ys = frame.x(item.xs), frame.y(item.ys)
    joined = np.zeros(len(xs), bool)
    if not curve.dots:
        joined[1:] = item.piece[1:] == item.piece[:-1]
    canvas.polyline(xs, ys, joined, curve.role)
    if curve.marker:
        # Every point has its marker where there is room between them; the newest always has.
        end = 0.0
        for i in range(len(xs) - 1, -1, -1):
            if i == len(xs) - 1 or end - xs[i] >= _MARKER_DOTS:
                canvas.text(round(xs[i]) // 2, round(ys[i]) // 4, curve.marker, curve.role)
                end = xs[i]
    if curve.tag:
        seen = [i for i, x in enumerate(xs) if 0 <= x < canvas.dots_wide]
        if seen:
            canvas.text(round(xs[seen[-1]]) // 2, round(ys[seen[-1]]) // 4, curve.tag, curve.role)


def _legend(plot: Plot, prepared: Sequence[_Prepared], view: View, bad: int, ascii_only: bool, width: int) -> Line:
    cells = [*_text(plot.title, "title")]
    gap = "  " if width >= _ROOMY else " "
    # How it is looked at comes first: the end of the line is cut where room is short.
    if view.log_y:
        cells += _text("  log", "muted")
    if view.low is not None or view.high is not None:
        cells += _text("  zoomed", "muted")
    if view.cursor is not None:
        cells += _text(f" at {view.cursor:.0f}", "muted")
    if bad:
        cells += _text(f"{gap}{bad} not finite", "bad")
    for item in prepared:
        curve = item.curve
        if not curve.legend:
            continue
        glyph = curve.marker or curve.tag or ("." if curve.dots else ("-" if ascii_only else "─"))
        value = item.value_at(view.cursor)
        number = NONE if value is None else f"{value:.{curve.unit_digits}f}"
        name = f"{curve.label} " if curve.label else ""
        cells += [*_text(f"{gap}{glyph} {name}", curve.role), *_text(number, "")]
    return cells


def _x_axis(frame: _Frame, plot: Plot, width: int, ascii_only: bool) -> Iterator[Line]:
    rule, corner, heavy = ("-", "+", "=") if ascii_only else ("─", "└", "━")
    columns = frame.canvas.width
    cells: Line = [(rule, "axis")] * columns
    if plot.span is not None:
        first, last = (round(frame.x(x)) // 2 for x in plot.span[:2])
        for column in range(max(0, first), min(columns, last + 1)):
            cells[column] = (heavy, "window")
        name = f" {plot.span[2]} "
        start = (first + last - len(name)) // 2 + 1
        if last - first > len(name) and start >= 0 and start + len(name) <= columns:
            cells[start : start + len(name)] = [(c, "window") for c in name]
    yield [*_text(" " * (_GUTTER - 1), ""), (corner, "axis"), *cells]
    labels: Line = [(" ", "")] * width
    end = -1
    ticks = ticks_between(frame.low, frame.high, max(2, columns // 12))
    for tick in ticks:
        text = f"{tick:,.0f}".replace(",", " ") if frame.high - frame.low > 4 else f"{tick:.2g}"
        start = min(_GUTTER + round(frame.x(tick)) // 2 - len(text) // 2, width - len(text))
        if start > end:
            labels[start : start + len(text)] = _text(text, "axis")
            end = start + len(text)
    labels[: _GUTTER - 1] = _text(f"{plot.x_name:>{_GUTTER - 1}}"[: _GUTTER - 1], "axis")
    yield labels[:width]


def ticks_between(low: float, high: float, at_most: int) -> list[float]:
    """Round numbers between two values, at most `at_most` + 1 of them."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    raw = span / max(1, at_most)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)] or [low]


def _y_bounds(plot: Plot, prepared: Sequence[_Prepared], log_y: bool) -> tuple[float, float] | None:
    """Bottom and top: all that is seen of the curves, and the levels; a little more on both sides."""
    parts = [p.ys[p.inside] for p in prepared]
    values = np.concatenate(parts) if parts else np.empty(0)
    if not len(values):
        return None
    extra = [_scaled(level.y, log_y) for level in plot.levels]
    extra += [_scaled(y, log_y) for bar in plot.bars for y in (bar.low, bar.high)]
    finite = [y for y in extra if math.isfinite(y)]
    low, high = min(float(values.min()), *finite, math.inf), max(float(values.max()), *finite, -math.inf)
    room = (high - low) * 0.06 or max(abs(high) * 0.05, 0.01)
    return low - room, high + room


def _scaled(y: float, log_y: bool) -> float:
    if not log_y:
        return y
    return math.log10(y) if y > 0 else math.nan


def _number(value: float, step: float, signed: bool) -> str:
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    text = f"{round(value, 9) + 0.0:{'+' if signed else ''}.{min(digits, 4)}f}"
    return text if len(text) < _GUTTER else f"{value:.1e}"


def _text(text: str, role: str) -> Line:
    return [(character, role) for character in text]


def _fit(cells: Line, width: int) -> Line:
    return [*cells[:width], *([(" ", "")] * max(0, width - len(cells)))]
