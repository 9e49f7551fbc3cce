"""How a plot becomes lines of cells: curves cut to the range of x that is seen, a legend, axes. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from core.runs.row import NONE
from core.scoring.signs import MINUS
from lora_tui.cells import broken, head, width_of
from lora_tui.dashboard.plots.axes import Frame, Line, cells_of, scientific, x_axis
from lora_tui.dashboard.plots.canvas import DOTS_HIGH, Canvas
from lora_tui.dashboard.plots.plot import GUTTER, Curve, Mark, Plot, x_range
from lora_tui.dashboard.plots.scale import Scale, fitted, stretched
from lora_tui.dashboard.plots.series import Floats, blocks_of, first_at_least, first_beyond, logarithm, reduce, smooth
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

    def told_at(self, x: float | None, signed: bool = False) -> str:
        """The value in the form of the legend; a dash without one. `signed`: with its sign, as changes have."""
        value = self.value_at(x)
        if value is None:
            return NONE
        return scientific(value) if self.curve.scientific else _figure(value, self.curve, signed)


def _figure(value: float, curve: Curve, signed: bool) -> str:
    return f"{round(value, curve.unit_digits) + 0.0:{'+' if signed else ''}.{curve.unit_digits}f}"


def legend(
    plot: Plot,
    prepared: Sequence[Prepared],
    view: View,
    bad: int,
    beyond: tuple[int, int],
    ascii_only: bool,
    width: int,
) -> Line:
    """Names, values and where they are read in `width` cells.

    What does not fit goes: that the values are the newest, then values, the last curve's first, then names.
    """
    shown = [item for item in prepared if item.curve.legend]
    count = len(shown)
    title = [*_title(plot, view, bad, width), *_counts(beyond, ascii_only)]
    newest = view.cursor is None and not plot.star and any(len(item.curve.xs) for item in shown)
    said = cells_of("  newest" if newest else "", "muted")
    tries: Iterator[Line] = (
        [*title, *reads, *cells_of(gap, ""), *_entries(plot, shown, view, ascii_only, gap, valued, named, short)]
        for reads, gap, valued, named, short in [
            *([(said, "  ", count, count, False)] if width >= _ROOMY else []),
            *((reads, " ", count, count, False) for reads in (said, [])),
            *(([], " ", valued, count, False) for valued in range(count - 1, -1, -1)),
            *(([], " ", 0, named, True) for named in range(count, -1, -1)),
        ]
    )
    return next((cells for cells in tries if len(cells) <= width), title)


def _title(plot: Plot, view: View, bad: int, width: int) -> Line:
    """The name, how the plot is looked at, and what the legend reads; how it is looked at goes first."""
    log = cells_of("  log" if view.log_y else "", "muted")
    closer = view.closer > 0 or (view.near and plot.near is not None)
    zoomed = cells_of("  zoomed" if closer or view.low is not None or view.high is not None else "", "muted")
    reads: Line = []
    briefly: Line = []
    if view.cursor is not None:
        # A step is whole; of minutes the cursor is told as finely as it moves.
        low, high = x_range(plot, view)
        digits = 0 if plot.x_name == "step" else max(0, min(3, 2 - math.floor(math.log10(max(high - low, 1e-3)))))
        reads = cells_of(f" at {view.cursor:.{digits}f}{'' if plot.x_name == 'step' else f' {plot.x_name}'}", "muted")
    elif plot.star:
        reads = [*cells_of("  at ", "muted"), *cells_of(plot.star, "best" if plot.ships else "muted")]
        briefly = [*cells_of("  ", ""), *reads[5:]]
    broken = cells_of(f"  {bad} not finite" if bad else "", "bad")
    reads, briefly = [*reads, *broken], [*(briefly or reads), *broken]
    name = cells_of(plot.title, "title")
    tries = ([*name, *log, *zoomed, *reads], [*name, *log, *reads], [*name, *reads], [*name, *briefly])
    return next((title for title in tries if len(title) <= width), tries[-1])


def _counts(beyond: tuple[int, int], ascii_only: bool) -> Line:
    """How many points lie above and below the picture."""
    marks = "^v" if ascii_only else "↑↓"
    return [
        cell for mark, count in zip(marks, beyond, strict=True) if count for cell in cells_of(f" {mark}{count}", "bad")
    ]


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
            told = item.told_at(_reads(plot, view), plot.signed)
            if plot.shipped is not None and view.cursor is None and curve is plot.main:
                told = _figure(plot.shipped, curve, plot.signed)
            if told.startswith("-") and not ascii_only:
                told = f"{MINUS}{told[1:]}"
            cells += cells_of(f" {told}", "")
    return cells


_SMALLEST = (20, 5)
_MARKER_DOTS = 6.0
"""Dots between markers, at least."""
_STRIP_FROM, _STRIPS_FROM = 8, 15
"""Lines of canvas from which one strip finds room below the curves, and two do."""
_MANY, _FAR = 40, 1.5
"""A curve of fewer points has no outliers; how far from the bulk they are, in widths of the bulk."""
_WHOLE = View()


def draw(plot: Plot, width: int, height: int, view: View = _WHOLE, *, ascii_only: bool = False) -> list[Line]:
    """`height` lines of `width` cells: a title with the legend, the canvas with its y labels, the x axis."""
    if width < _SMALLEST[0] or height < _SMALLEST[1]:
        return [fit([*cells_of(plot.title, "title")], width)] + [[(" ", "")] * width] * (height - 1)
    canvas_height = height - 3
    strips, strip_height = _room_for(plot, canvas_height)
    if plot.strips and not strips and plot.strips_first:
        alone = plot.strips[0]
        plot, view = replace(plot, title=alone.label, curves=(alone,)), replace(view, log_y=False)
    low, high = x_range(plot, view)
    columns = 2 * (width - GUTTER)
    prepared = [Prepared(c, low, high, columns, view.log_y) for c in plot.curves]
    bounds = y_bounds(plot, prepared, view)
    below = [Prepared(strip, low, high, columns, False) for strip in strips]
    bad = sum(len(p.gaps) for p in prepared if p.curve.legend)
    rest = canvas_height - (strip_height + 1) * len(below)
    canvas = Canvas(width - GUTTER, rest, ascii_only=ascii_only)
    frame = Frame(canvas, low, high, _scale(plot, prepared, view, bounds or (0.0, 1.0), rest))
    beyond = _beyond(frame, prepared, view.log_y)
    lines = [fit(legend(plot, prepared, view, bad, beyond, ascii_only, width), width)]
    if bounds is None and not bad:
        parts = ["".join(text for text, _ in part) for part in broken([(plot.empty, "muted")], width - 2)]
        said = [fit(cells_of(" " * ((width - width_of(part)) // 2) + part, "muted"), width) for part in parts]
        blank = fit([], width)
        above = max(0, (height - 1 - len(said)) // 2)
        return [*lines, *([blank] * above), *said, *([blank] * height)][:height]
    _paint(frame, plot, prepared, view, ascii_only)
    roles = {_scaled(level.y, view.log_y): level.role for level in plot.levels}
    lines += frame.rows(frame.y_labels(view.log_y, plot.signed, roles), ascii_only)
    for item in below:
        lines += _strip_rows(item, frame, strip_height, plot, view, ascii_only)
    return [*lines, *x_axis(frame, plot, width, ascii_only)]


def _room_for(plot: Plot, canvas_height: int) -> tuple[tuple[Curve, ...], int]:
    """The strips that lie below the curves, and the height of each."""
    least = _STRIP_FROM if plot.strips_first else _STRIPS_FROM
    if not plot.strips or canvas_height < least:
        return (), 0
    return plot.strips, max(2, canvas_height // 5) if len(plot.strips) == 1 else max(2, canvas_height // 8)


def _strip_rows(item: Prepared, above: Frame, height: int, plot: Plot, view: View, ascii_only: bool) -> Iterator[Line]:
    """A rule with the strip's name, then the strip: from 0, at the bottom, to its highest value but outliers."""
    values = item.ys[item.inside]
    top = max(_usual(values)[1] if len(values) else 0.0, 1e-12)
    frame = Frame(
        Canvas(above.canvas.width, height, ascii_only=ascii_only), above.low, above.high,
        stretched(0.0, top, height, DOTS_HIGH),
    )  # fmt: skip
    _paint(frame, Plot("", (item.curve,), ship=plot.ship, ships=plot.ships), [item], view, ascii_only)
    rule, joint = ("-", "+") if ascii_only else ("─", "├")
    told = item.told_at(_reads(plot, view), plot.signed)
    name = [(" ", ""), *cells_of(f"{item.curve.label} ", item.curve.role), *cells_of(told, "")]
    name += _counts(_beyond(frame, [item], False), ascii_only)
    head = [*cells_of(" " * (GUTTER - 1), ""), (joint, "axis"), (rule, "axis"), *name, (" ", "")]
    yield fit([*head, *cells_of(rule * (GUTTER + frame.canvas.width - len(head)), "axis")], above.canvas.width + GUTTER)
    highest = scientific(top, 1) if item.curve.scientific else f"{top:.3g}"
    yield from frame.rows({0: (highest, "axis"), height - 1: ("0", "axis")}, ascii_only)


def _reads(plot: Plot, view: View) -> float | None:
    """x at which values are read: the cursor, else the best step, if the title names it, else the newest."""
    return (plot.ship if plot.star else None) if view.cursor is None else view.cursor


def _scale(plot: Plot, prepared: Sequence[Prepared], view: View, bounds: tuple[float, float], cells: int) -> Scale:
    if view.log_y:
        return stretched(*bounds, cells, DOTS_HIGH)
    points = [item.ys[item.inside] for item in prepared if item.curve.marker]
    values = np.concatenate([*points, [mark.y for mark in plot.marks]])
    return fitted(*bounds, cells, DOTS_HIGH, [level.y for level in plot.levels], values)


def _paint(frame: Frame, plot: Plot, prepared: Sequence[Prepared], view: View, ascii_only: bool) -> None:
    canvas = frame.canvas
    for bar in plot.bars:
        column = round(frame.x(bar.x))
        top, bottom = frame.y(np.array([bar.high, bar.low])).tolist()
        canvas.line(column, top, column, bottom, bar.role)
    for item in prepared:
        _paint_curve(frame, item)
    if plot.ship is not None and plot.ships and frame.low <= plot.ship <= frame.high:
        for row in range(canvas.height):
            canvas.below(frame.column(plot.ship), row, ":" if ascii_only else "┊", "ship")
    if view.cursor is not None and frame.low <= view.cursor <= frame.high:
        column = round(frame.x(view.cursor))
        canvas.line(column, 0, column, canvas.dots_high, "cursor")
    drawn = [level for level in plot.levels if _scaled(level.y, view.log_y) in frame.scale.levels.tolist()]
    for level in drawn:
        canvas.dashes(round(float(frame.y(np.array([_scaled(level.y, view.log_y)]))[0])), level.role)
    for item in prepared:
        _mark_beyond(frame, item, ascii_only)
        for x in np.unique(np.rint(frame.x(item.gaps)).astype(int) // 2).tolist():
            canvas.text(x, 0, "x" if ascii_only else "✕", "bad")
    _paint_marks(frame, plot.marks, view.log_y)
    for level in drawn:
        canvas.label(frame.row(_scaled(level.y, view.log_y)), level.label, level.role)


def _paint_marks(frame: Frame, marks: Sequence[Mark], log_y: bool) -> None:
    for mark in marks:
        y = _scaled(mark.y, log_y)
        if math.isfinite(y) and frame.low <= mark.x <= frame.high and not frame.scale.side(y):
            frame.canvas.text(frame.column(mark.x), frame.row(y), mark.glyph, mark.role)


def _paint_curve(frame: Frame, item: Prepared) -> None:
    canvas, curve = frame.canvas, item.curve
    xs, ys = frame.x(item.xs), frame.y(item.ys)
    joined = np.zeros(len(xs), bool)
    if not curve.dots:
        joined[1:] = item.piece[1:] == item.piece[:-1]
    canvas.polyline(xs, ys, joined, curve.role)
    rows = np.rint(ys) // DOTS_HIGH
    if curve.marker:
        # Every point has its marker where there is room between them; the newest always has.
        end = 0.0
        for i in range(len(xs) - 1, -1, -1):
            if i == len(xs) - 1 or end - xs[i] >= _MARKER_DOTS:
                canvas.text(round(xs[i]) // 2, int(rows[i]), curve.marker, curve.role)
                end = xs[i]
    if curve.tag:
        seen = [i for i, x in enumerate(xs) if 0 <= x < canvas.dots_wide]
        if seen:
            canvas.text(round(xs[seen[-1]]) // 2, int(rows[seen[-1]]), curve.tag, curve.role)


def _mark_beyond(frame: Frame, item: Prepared, ascii_only: bool) -> None:
    """A mark in the first or last row for what lies above or below the picture."""
    dots = np.rint(frame.scale.dot(item.ys))
    for outside, row, mark in (
        (dots >= DOTS_HIGH * frame.scale.cells, 0, "^" if ascii_only else "↑"),
        (dots < 0, frame.canvas.height - 1, "v" if ascii_only else "↓"),
    ):
        xs = item.xs[outside & item.inside]
        for column in np.unique(np.rint(frame.x(xs)).astype(int) // 2).tolist():
            frame.canvas.text(column, row, mark, "bad")


def _beyond(frame: Frame, prepared: Sequence[Prepared], log_y: bool) -> tuple[int, int]:
    """How many points lie above the picture, and below it: raw ones, of each curve that leaves it, once.

    Only where it does they are counted: of a million that takes a millisecond.
    """
    above = below = 0
    low, high = frame.scale.low, frame.scale.high
    raw = {item.curve.source for item in prepared if item.curve.window == 1}
    for item in prepared:
        ys, curve = item.ys[item.inside], item.curve
        twice = curve.window > 1 and curve.source is not None and curve.source in raw
        if twice or not len(ys) or (ys.max() <= high and ys.min() >= low):
            continue
        points = curve.ys[first_at_least(curve.xs, frame.low) : first_beyond(curve.xs, frame.high)]
        top, bottom = (10**high, 10**low) if log_y else (high, low)
        above += int(np.count_nonzero((points > top) & (points < np.inf)) if ys.max() > high else 0)
        below += int(np.count_nonzero((points < bottom) & (points > -np.inf)) if ys.min() < low else 0)
    return above, below


def y_bounds(plot: Plot, prepared: Sequence[Prepared], view: View) -> tuple[float, float] | None:
    """The range of y that is to be seen: curves without outliers, and the levels, unless a closer look is asked for."""
    parts = [p.ys[p.inside] for p in prepared]
    if not sum(map(len, parts)):
        return None
    if view.near and plot.near is not None and not view.log_y:
        return plot.near
    ranges = [
        (float(ys.min()), float(ys.max())) if p.curve.marker or view.closer < 0 else _usual(ys)
        for p, ys in zip(prepared, parts, strict=True)
        if len(ys)
    ]
    extra = [_scaled(level.y, view.log_y) for level in plot.levels]
    extra += [_scaled(y, view.log_y) for bar in plot.bars for y in (bar.low, bar.high)]
    finite = [y for y in extra if math.isfinite(y)]
    low, high = min([lowest for lowest, _ in ranges] + finite), max([highest for _, highest in ranges] + finite)
    if view.closer <= 0:
        return low, high
    half = (high - low) / 2 ** (view.closer + 1)
    middle = _middle(plot, prepared, view)
    middle = (low + high) / 2 if middle is None else min(max(middle, low + half), high - half)
    return middle - half, middle + half


def _middle(plot: Plot, prepared: Sequence[Prepared], view: View) -> float | None:
    """y around which a closer look is taken: of the run's curve, where values are read."""
    item = next((item for item in prepared if item.curve is plot.main), None)
    value = None if item is None else item.value_at(_reads(plot, view))
    found = None if value is None else _scaled(value, view.log_y)
    return found if found is not None and math.isfinite(found) else None


def _usual(ys: Floats) -> tuple[float, float]:
    """The range of a curve without outliers: few values further from the bulk than the bulk is wide.

    Where a curve begins high, as losses do, its beginning is none. Of a curve reduced to columns each counts alike.
    """
    low, high = float(ys.min()), float(ys.max())
    few = max(2, len(ys) // 40)
    if len(ys) < _MANY:
        return low, high
    parted = np.partition(ys, (few, len(ys) - 1 - few))
    bottom, top = float(parted[few]), float(parted[-1 - few])
    room = (top - bottom) * _FAR or abs(top) * 0.05
    usual = (ys >= bottom - room) & (ys <= top + room)
    settled = int(np.argmax(usual))
    usual[:settled] = True
    return float(ys[usual].min()), float(ys[usual].max())


def _scaled(y: float, log_y: bool) -> float:
    if not log_y:
        return y
    return math.log10(y) if y > 0 else math.nan


def fit(cells: Line, width: int) -> Line:
    """Cut, or filled with blanks, to `width` cells."""
    kept = zip(head([cell for cell, _ in cells], width), [role for _, role in cells], strict=False)
    return [*kept, *([(" ", "")] * (width - len(cells)))]
