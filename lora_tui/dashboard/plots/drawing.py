"""How a plot becomes lines of cells: curves cut to the range of x that is seen, a legend, axes. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from core.runs.row import NONE
from lora_tui.cells import broken, head, width_of
from lora_tui.dashboard.plots.axes import Frame, Line, cells_of, scientific, x_axis
from lora_tui.dashboard.plots.canvas import Canvas
from lora_tui.dashboard.plots.plot import GUTTER, Curve, Plot, x_range
from lora_tui.dashboard.plots.series import blocks_of, first_beyond, logarithm, reduce, smooth
from lora_tui.dashboard.plots.view import View

_ROOMY = 40


class Prepared:
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

    def told_at(self, x: float | None) -> str:
        """The value in the form of the legend; a dash without one."""
        value = self.value_at(x)
        if value is None:
            return NONE
        return scientific(value) if self.curve.scientific else f"{value:.{self.curve.unit_digits}f}"


def legend(plot: Plot, prepared: Sequence[Prepared], view: View, bad: int, ascii_only: bool, width: int) -> Line:
    """Names and values in `width` cells. What does not fit goes, the last curve's first, values before names."""
    shown = [item for item in prepared if item.curve.legend]
    count = len(shown)
    title = _title(plot, view, bad)
    tries: Iterator[Line] = (
        [*title, *cells_of(gap, ""), *_entries(plot, shown, view, ascii_only, gap, valued, named, short)]
        for gap, valued, named, short in [
            *([("  ", count, count, False)] if width >= _ROOMY else []),
            *((" ", valued, count, False) for valued in range(count, -1, -1)),
            *((" ", 0, named, True) for named in range(count, -1, -1)),
        ]
    )
    return next((cells for cells in tries if len(cells) <= width), title)


def _title(plot: Plot, view: View, bad: int) -> Line:
    cells = [*cells_of(plot.title, "title")]
    if view.log_y:
        cells += cells_of("  log", "muted")
    if view.low is not None or view.high is not None:
        cells += cells_of("  zoomed", "muted")
    if view.cursor is not None:
        # A step is whole; of minutes the cursor is told as finely as it moves.
        low, high = x_range(plot, view)
        digits = 0 if plot.x_name == "step" else max(0, min(3, 2 - math.floor(math.log10(max(high - low, 1e-3)))))
        cells += cells_of(f" at {view.cursor:.{digits}f}{'' if plot.x_name == 'step' else f' {plot.x_name}'}", "muted")
    if bad:
        cells += cells_of(f"  {bad} not finite", "bad")
    return cells


def _entries(
    plot: Plot, shown: Sequence[Prepared], view: View, ascii_only: bool, gap: str, valued: int, named: int, short: bool
) -> Line:
    """The first `named` curves with their names, the first `valued` with their values too."""
    cells: Line = []
    for number, item in enumerate(shown):
        curve = item.curve
        glyph = curve.marker or curve.tag or ("." if curve.dots else ("-" if ascii_only else "─"))
        label = (curve.short if short else "") or curve.label
        name = f" {label}" if label and label != plot.title and number < named else ""
        cells += cells_of(f"{gap if number else ''}{glyph}{name}", curve.role)
        if number < valued:
            cells += cells_of(f" {item.told_at(view.cursor)}", "")
    return cells


_SMALLEST = (20, 5)
_MARKER_DOTS = 6.0
"""Dots between markers, at least."""
_STRIP_FROM = 8
"""Lines of canvas from which a strip finds room below the curves."""
_WHOLE = View()


def draw(plot: Plot, width: int, height: int, view: View = _WHOLE, *, ascii_only: bool = False) -> list[Line]:
    """`height` lines of `width` cells: a title with the legend, the canvas with its y labels, the x axis."""
    if width < _SMALLEST[0] or height < _SMALLEST[1]:
        return [_fit([*cells_of(plot.title, "title")], width)] + [[(" ", "")] * width] * (height - 1)
    canvas_height = height - 3
    strip = plot.strip
    if strip is not None and canvas_height < _STRIP_FROM:
        plot, strip, view = replace(plot, title=strip.label, curves=(strip,)), None, replace(view, log_y=False)
    strip_height = 0 if strip is None else max(2, canvas_height // 5)
    low, high = x_range(plot, view)
    prepared = [Prepared(c, low, high, 2 * (width - GUTTER), view.log_y) for c in plot.curves]
    bounds = _y_bounds(plot, prepared, view.log_y)
    below = [] if strip is None else [Prepared(strip, low, high, 2 * (width - GUTTER), False)]
    bad = sum(len(p.gaps) for p in prepared if p.curve.legend)
    lines = [_fit(legend(plot, prepared, view, bad, ascii_only, width), width)]
    if bounds is None and not bad:
        parts = ["".join(text for text, _ in part) for part in broken([(plot.empty, "muted")], width - 2)]
        said = [_fit(cells_of(" " * ((width - width_of(part)) // 2) + part, "muted"), width) for part in parts]
        blank = _fit([], width)
        above = max(0, (height - 1 - len(said)) // 2)
        return [*lines, *([blank] * above), *said, *([blank] * height)][:height]
    rest = canvas_height - (strip_height + 1 if below else 0)
    frame = Frame(Canvas(width - GUTTER, rest, ascii_only=ascii_only), low, high, *(bounds or (0.0, 1.0)))
    _paint(frame, plot, prepared, view, ascii_only)
    lines += frame.rows(frame.y_labels(view.log_y, plot.signed), ascii_only)
    for item in below:
        lines += _strip_rows(item, frame, strip_height, view, ascii_only)
    return [*lines, *x_axis(frame, plot, width, ascii_only)]


def _strip_rows(item: Prepared, above: Frame, height: int, view: View, ascii_only: bool) -> Iterator[Line]:
    """A rule with the strip's name, then the strip: from 0, at the bottom, to its highest value."""
    values = item.ys[item.inside]
    top = max(float(values.max(initial=0.0)), 1e-12)
    frame = Frame(Canvas(above.canvas.width, height, ascii_only=ascii_only), above.low, above.high, 0.0, top)
    _paint(frame, Plot("", (item.curve,)), [item], view, ascii_only)
    rule, joint = ("-", "+") if ascii_only else ("─", "├")
    name = [(" ", ""), *cells_of(f"{item.curve.label} ", item.curve.role), *cells_of(item.told_at(view.cursor), "")]
    head = [*cells_of(" " * (GUTTER - 1), ""), (joint, "axis"), (rule, "axis"), *name, (" ", "")]
    yield _fit(
        [*head, *cells_of(rule * (GUTTER + frame.canvas.width - len(head)), "axis")], above.canvas.width + GUTTER
    )
    yield from frame.rows(
        {0: scientific(top, 1) if item.curve.scientific else f"{top:.3g}", height - 1: "0"}, ascii_only
    )


def _paint(frame: Frame, plot: Plot, prepared: Sequence[Prepared], view: View, ascii_only: bool) -> None:
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


def _paint_curve(frame: Frame, item: Prepared) -> None:
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


def _y_bounds(plot: Plot, prepared: Sequence[Prepared], log_y: bool) -> tuple[float, float] | None:
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


def _fit(cells: Line, width: int) -> Line:
    kept = zip(head([cell for cell, _ in cells], width), [role for _, role in cells], strict=False)
    return [*kept, *([(" ", "")] * (width - len(cells)))]
