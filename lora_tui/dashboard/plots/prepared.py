"""Curves made ready for the range of x that is seen, and the legend that tells of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from core.runs.figures import NONE
from lora_tui.dashboard.plots.axes import Line, cells_of, scientific
from lora_tui.dashboard.plots.look import View
from lora_tui.dashboard.plots.plot import Curve, Plot, x_range
from lora_tui.dashboard.plots.reduction import blocks_of
from lora_tui.dashboard.plots.series import first_beyond, logarithm, reduce, smooth

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
