"""The axes of a plot: from data to dots, round numbers, labels. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeVar

from core.scoring.signs import MINUS
from lora_tui.cells import in_cells
from lora_tui.dashboard.plots.canvas import Canvas, Cell
from lora_tui.dashboard.plots.plot import GUTTER, Plot
from lora_tui.dashboard.plots.scale import Scale
from lora_tui.dashboard.plots.series import Floats

Line = list[Cell]
Scalar = TypeVar("Scalar", float, Floats)
_SMALL = 1e-3
"""Steps between labels below this are told as 2e-5."""


class Frame:
    """Turns data coordinates into dots of a canvas. `rows`: the scale of y, whose low end is the canvas' last row."""

    def __init__(self, canvas: Canvas, low: float, high: float, rows: Scale) -> None:
        self.canvas, self.low, self.high, self.scale = canvas, low, high, rows

    def x(self, value: Scalar) -> Scalar:
        """Dots from the left."""
        return (value - self.low) / (self.high - self.low) * (self.canvas.dots_wide - 1)

    def y(self, values: Floats) -> Floats:
        """Dots from the top, to be rounded."""
        return self.canvas.dots_high - 1 - self.scale.dot(values)

    def row(self, value: float) -> int:
        """The row of cells of a number: what is above all others is in the first row, at least."""
        return self.canvas.height - 1 - self.scale.cell(value)

    def column(self, x: float) -> int:
        """The column of cells."""
        return round(self.x(x)) // 2

    def y_labels(self, log_y: bool, signed: bool, levels: Mapping[float, str]) -> dict[int, Cell]:
        """Row → label and role, at round numbers, and at levels (number → role)."""
        if log_y:
            at_most = max(2, self.canvas.height // 2)
            ticks = log_ticks(self.scale.low, self.scale.high, at_most)
            named = [(self.row(tick), _log_number(10**tick)) for tick in ticks]
        else:
            found = list(self.scale.ticks())
            step = self.scale.tick or 1.0
            named = [(self.canvas.height - 1 - tick.cell, number(tick.value, step, signed)) for tick in found]
        labels: dict[int, Cell] = {}
        for row, text in named:
            labels.setdefault(row, (text[: GUTTER - 1], "axis"))
        for level in self.scale.levels.tolist():
            row, role = self.row(level), levels.get(level, "axis")
            labels[row] = (labels[row][0] if row in labels else _exact(level, signed), role)
        return labels

    def rows(self, labels: Mapping[int, Cell], ascii_only: bool) -> Iterator[Line]:
        """The canvas with labels (row → text and role) and its edge."""
        edge = "|" if ascii_only else "│"
        for row, cells in enumerate(self.canvas.rows()):
            text, role = labels.get(row, ("", "axis"))
            if text.startswith("-") and not ascii_only:
                text = text.replace("-", MINUS, 1)
            yield [*cells_of(f"{text:>{GUTTER - 1}}", role), (edge, "axis"), *cells]


def x_axis(frame: Frame, plot: Plot, width: int, ascii_only: bool) -> Iterator[Line]:
    """Two lines: the rule with the marked stretch, and the labels below it."""
    rule, corner, heavy = ("-", "+", "=") if ascii_only else ("─", "└", "━")
    columns = frame.canvas.width
    cells: Line = [(rule, "axis")] * columns
    if plot.span is not None:
        first, last = (round(frame.x(x)) // 2 for x in plot.span[:2])
        for column in range(max(0, first), min(columns, last + 1)):
            cells[column] = (heavy, "window")
        name = f" {plot.span[2]} "
        # In the stretch, or before it.
        start = (first + last - len(name)) // 2 + 1 if last - first > len(name) else first - len(name)
        if start >= 0 and start + len(name) <= columns:
            cells[start : start + len(name)] = [(c, "window") for c in name]
    yield [*cells_of(" " * (GUTTER - 1), ""), (corner, "axis"), *cells]
    labels: Line = [(" ", "")] * width
    end = -1
    ticks = ticks_between(frame.low, frame.high, max(2, columns // 9))
    for tick in ticks:
        text = f"{tick:,.0f}".replace(",", " ") if frame.high - frame.low > 4 else f"{tick:.2g}"
        start = min(GUTTER + round(frame.x(tick)) // 2 - len(text) // 2, width - len(text))
        if start > end:
            labels[start : start + len(text)] = cells_of(text, "axis")
            end = start + len(text)
    labels[: GUTTER - 1] = cells_of(f"{plot.x_name:>{GUTTER - 1}}"[: GUTTER - 1], "axis")
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


def log_ticks(low: float, high: float, at_most: int) -> list[float]:
    """log10 of round numbers between 10^`low` and 10^`high`: powers of ten, also 2 and 5 times these if few."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [tick for k in powers for f in factors if low <= (tick := k + math.log10(f)) <= high]
        if len(found) <= at_most + 1:
            break
    if len(found) >= 2:
        return found[:: max(1, math.ceil(len(found) / (at_most + 1)))]
    return [math.log10(tick) for tick in ticks_between(10**low, 10**high, at_most) if tick > 0]


def scientific(value: float, digits: int = 2) -> str:
    """`2.5e-5`: no more characters than the number needs."""
    mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
    if not exponent or value == 0:
        return f"{value:g}"
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _log_number(value: float) -> str:
    return f"{value:.3g}" if _SMALL <= value < 1e5 else scientific(value, 1)


def _exact(value: float, signed: bool) -> str:
    """A threshold, with no more decimals than it has and no more than fit."""
    tries = (f"{value + 0.0:{'+' if signed else ''}.{digits}f}" for digits in (2, 1, 0))
    text = next((text for text in tries if len(text) < GUTTER), scientific(value, 1))
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def number(value: float, step: float, signed: bool, room: int = GUTTER - 1) -> str:
    """A round number at which there is a label each `step`, in `room` cells."""
    # As many decimals as tell the step: 1.5 is no 2.
    digits = next((n for n in range(9) if abs(step * 10**n - round(step * 10**n)) < 1e-6), 9)
    text = f"{round(value, 9) + 0.0:{'+' if signed else ''}.{digits}f}"
    if step >= _SMALL and len(text) <= room:
        return text
    text = scientific(value, max(1, digits + math.floor(math.log10(abs(value))))) if value else "0"
    return text if len(text) <= room else scientific(value, 1)


def cells_of(text: str, role: str) -> Line:
    """One entry a cell; that of a wide character's second one is empty."""
    return [(cell, role) for cell in in_cells(text)]
