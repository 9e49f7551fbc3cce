"""The trade-off of a run: what each interval gains on domain against what it costs on heldout, in points. Pure.

What may ship lies in a rectangle: gain at least the target, heldout no higher than the guardrail. Each point has a
cross, its 95 % intervals; the path goes through the intervals in their order. Both axes are scales with a level
(`scale`): a point is drawn inside the rectangle if it lies inside by its numbers, and only then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from core.scoring.signs import MINUS, signed
from lora_tui.dashboard.plots.axes import Frame, Line, cells_of, number
from lora_tui.dashboard.plots.canvas import DOTS_HIGH, DOTS_WIDE, Canvas
from lora_tui.dashboard.plots.drawing import fit
from lora_tui.dashboard.plots.plot import GUTTER
from lora_tui.dashboard.plots.scale import Scale, fitted
from lora_tui.dashboard.plots.view import View

_SMALLEST = (20, 6)
_WORD = " ships "
_LABEL = 10
"""Cells that a number below the axis may take."""
_CROSSES = 12
"""Points up to which each has its cross; of more, those that ship, are newest or at the cursor."""


@dataclass(frozen=True, slots=True)
class Point:
    """An interval, or another adapter that the run could ship, against the base model."""

    name: str
    """As short as can be: `100`, or a candidate's folder."""
    x: float
    """Where it stands on the x axis of the other plots."""
    gain: float
    """Points by which the domain error rate fell."""
    rise: float
    """Points by which the heldout error rate rose."""
    gain_half: float | None = None
    """Half its 95 % interval; None where it is not known."""
    rise_half: float | None = None
    base: bool = False
    """The base model itself."""
    made: bool = False
    """Made of intervals, after training: on no path."""
    apart: bool = False
    """Its numbers are those of the selection sets: the others were scored on domain and heldout."""


@dataclass(frozen=True, slots=True)
class Path:
    """The points of one run, in their order."""

    role: str
    marker: str
    points: tuple[Point, ...]
    best: Point | None = None
    """The best one, which ships or would, if any does."""
    star: str = "★"
    """The sign of `best`."""
    ships: bool = True
    """Whether `best` ships, or would."""


@dataclass(frozen=True, slots=True)
class TradeOff:
    """Everything that is drawn in one frame. The run itself is the last path; pinned ones come before."""

    paths: tuple[Path, ...]
    least_gain: float
    most_rise: float
    rate: str
    empty: str = ""

    def read(self, view: View) -> Point | None:
        """The run's point whose numbers are told: at or before the cursor, else the best one, else the newest."""
        if not self.paths or not self.paths[-1].points:
            return None
        own = self.paths[-1]
        if view.cursor is not None:
            before = [p for p in own.points if p.x <= view.cursor and not p.made]
            return before[-1] if before else own.points[0]
        return own.best or own.points[-1]


class Field:
    """The two scales over a canvas."""

    def __init__(self, plot: TradeOff, width: int, height: int, view: View, *, ascii_only: bool) -> None:
        self.plot, self.ascii = plot, ascii_only
        self.canvas = Canvas(width - GUTTER, height - 3, ascii_only=ascii_only)
        xs, ys = self._bounds(view)
        points = [point for path in plot.paths for point in path.points]
        gains, rises = np.array([p.gain for p in points]), np.array([p.rise for p in points])
        self.across = fitted(*xs, self.canvas.width, DOTS_WIDE, [plot.least_gain], gains)
        rows = fitted(*ys, self.canvas.height, DOTS_HIGH, [plot.most_rise], rises)
        self.frame = Frame(self.canvas, 0.0, 1.0, rows)

    def _bounds(self, view: View) -> tuple[tuple[float, float], tuple[float, float]]:
        """All points and the corner of the rectangle, with room in it; or what is around the corner or a point."""
        plot = self.plot
        points = [point for path in plot.paths for point in path.points]
        read = plot.read(view)
        gains = [0.0, plot.least_gain, *(p.gain for p in points)]
        rises = [0.0, plot.most_rise, *(p.rise for p in points)]
        if read is not None:
            gains += [read.gain - (read.gain_half or 0.0), read.gain + (read.gain_half or 0.0)]
            rises += [read.rise - (read.rise_half or 0.0), read.rise + (read.rise_half or 0.0)]
        low_x, high_x, low_y, high_y = min(gains), max(gains), min(rises), max(rises)
        if view.near:
            room_x, room_y = max(2 * abs(plot.least_gain), 0.1), max(2 * abs(plot.most_rise), 0.1)
            low_x, high_x = min(0.0, plot.least_gain) - room_x / 2, max(0.0, plot.least_gain) + room_x
            low_y, high_y = min(0.0, plot.most_rise) - room_y, max(0.0, plot.most_rise) + room_y
        elif view.closer > 0:
            x, y = (plot.least_gain, plot.most_rise) if read is None else (read.gain, read.rise)
            half_x, half_y = ((high - low) / 2 ** (view.closer + 1) for low, high in ((low_x, high_x), (low_y, high_y)))
            low_x, high_x, low_y, high_y = x - half_x, x + half_x, y - half_y, y + half_y
        else:
            high_x = max(high_x, plot.least_gain + 0.2 * (high_x - low_x))
            low_y = min(low_y, plot.most_rise - 0.25 * (high_y - low_y))
        return (low_x, high_x), (low_y, high_y)

    def place(self, point: Point) -> tuple[int, int]:
        """Column and row of its cell; of the edge for what lies outside."""
        return self.across.cell(point.gain), self.frame.row(point.rise)

    def outside(self, point: Point) -> str:
        """The sign for a point outside; empty for one inside."""
        right, up = self.across.side(point.gain), self.frame.scale.side(point.rise)
        signs = "v^<>" if self.ascii else "↓↑←→"
        return signs[0 if up < 0 else 1] if up else (signs[2 if right < 0 else 3] if right else "")

    def paint(self, view: View) -> None:
        """Rectangle, crosses, paths, marks, names: each over what came before."""
        self._rectangle()
        read = self.plot.read(view)
        for path in self.plot.paths:
            few = len(path.points) <= _CROSSES
            for point in path.points:
                if not point.base and (few or point in (read, path.best) or point is path.points[-1]):
                    self._cross(point, "bar" if path is self.plot.paths[-1] else path.role)
        for path in self.plot.paths:
            line = [point for point in path.points if not point.made]
            xs = self.across.dot(np.array([p.gain for p in line], np.float64))
            ys = self.frame.y(np.array([p.rise for p in line], np.float64))
            joined = np.ones(len(line), bool)
            joined[:1] = False
            self.canvas.polyline(xs, ys, joined, path.role)
        for path in self.plot.paths:
            for point in path.points:
                self._mark(point, self._marker(path, point), "muted" if point.apart else path.role)
        for path in self.plot.paths:
            if path.best is not None:
                own = path is self.plot.paths[-1]
                self._mark(path.best, path.star, "best" if own and path.ships else path.role)
        if view.cursor is not None and read is not None:
            self._mark(read, "@" if self.ascii else "◆", "cursor")
        named = [] if not self.plot.paths or not self.plot.paths[-1].points else [self.plot.paths[-1].points[-1]]
        named += [path.best for path in self.plot.paths if path.best is not None]
        for told in dict.fromkeys([*([read] if read is not None else []), *named]):
            self._name(told)
        self._word()

    def _marker(self, path: Path, point: Point) -> str:
        if point.base:
            return "0" if self.ascii else "○"
        return ("%" if self.ascii else "◇") if point.made else path.marker

    def _rectangle(self) -> None:
        """A border on the levels, dotted inside: it is seen without colour too."""
        column, row = self.across.cell(self.plot.least_gain), self.frame.row(self.plot.most_rise)
        if self.across.side(self.plot.least_gain) or self.frame.scale.side(self.plot.most_rise):
            return
        across, down, corner, fill = "-|+." if self.ascii else "─│┌·"
        width, height = self.canvas.width, self.canvas.height
        for y in range(row, height):
            for x in range(column, width):
                character = corner if (x, y) == (column, row) else across if y == row else down if x == column else ""
                if not character and (x + y) % 2 == 0:
                    character = fill
                if character:
                    self.canvas.below(x, y, character, "pass")

    def _word(self) -> None:
        """What the rectangle is, where nothing else is drawn in it: low and to the right."""
        column, row = self.across.cell(self.plot.least_gain), self.frame.row(self.plot.most_rise)
        if self.across.side(self.plot.least_gain) or self.frame.scale.side(self.plot.most_rise):
            return
        places = (
            (x, y)
            for y in range(self.canvas.height - 1, row, -1)
            for x in range(self.canvas.width - len(_WORD), column, -1)
        )
        place = next((place for place in places if self.canvas.empty(*place, len(_WORD))), None)
        if place is not None:
            self.canvas.text(*place, _WORD, "pass")

    def _cross(self, point: Point, role: str) -> None:
        x = round(float(self.across.dot(np.array([point.gain]))[0]))
        y = round(float(self.frame.y(np.array([point.rise]))[0]))
        if point.gain_half:
            ends = self.across.dot(np.array([point.gain - point.gain_half, point.gain + point.gain_half]))
            self.canvas.line(float(ends[0]), y, float(ends[1]), y, role)
        if point.rise_half:
            ends = self.frame.y(np.array([point.rise - point.rise_half, point.rise + point.rise_half]))
            self.canvas.line(x, float(ends[1]), x, float(ends[0]), role)

    def _mark(self, point: Point, marker: str, role: str) -> None:
        sign = self.outside(point)
        self.canvas.text(*self.place(point), sign or marker, "bad" if sign else role)

    def _name(self, point: Point) -> None:
        """Its step beside it, where there is room."""
        column, row = self.place(point)
        text = point.name
        for x, y in (
            (column + 2, row), (column - len(text) - 1, row),
            (column - len(text) // 2, row - 1), (column - len(text) // 2, row + 1),
        ):  # fmt: skip
            if self.canvas.free(x, y, text):
                self.canvas.text(x, y, text, "muted")
                return


def draw_trade_off(plot: TradeOff, width: int, height: int, view: View, *, ascii_only: bool = False) -> list[Line]:
    """`height` lines of `width` cells: what is read, the canvas with its labels, the axis of gains."""
    title = "trade-off"
    if width < _SMALLEST[0] or height < _SMALLEST[1]:
        return [fit(cells_of(title, "title"), width), *([fit([], width)] * (height - 1))]
    if not any(path.points for path in plot.paths):
        said = fit(cells_of(f"{plot.empty:^{width}}", "muted"), width)
        above = (height - 1) // 2
        blank = fit([], width)
        return [fit(cells_of(title, "title"), width), *([blank] * (above - 1)), said, *([blank] * height)][:height]
    field = Field(plot, width, height, view, ascii_only=ascii_only)
    field.paint(view)
    lines = [fit(_legend(field, view, width), width)]
    lines += field.frame.rows(
        field.frame.y_labels(log_y=False, signed=True, levels={plot.most_rise: "pass"}), ascii_only
    )
    return [*lines, *_gain_axis(field.across, plot, width, ascii_only)]


def _legend(field: Field, view: View, width: int) -> Line:
    """The numbers of one point, as many of them as fit."""
    plot, point = field.plot, field.plot.read(view)
    zoomed = view.near or view.closer > 0
    title = [*cells_of("trade-off", "title"), *cells_of("  zoomed" if zoomed else "", "muted")]
    outside = sum(bool(field.outside(p)) for path in plot.paths for p in path.points)
    title += cells_of(f"  {outside} outside" if outside else "", "bad")
    if point is None or point.base:
        return [*title, *cells_of(f"  {plot.empty}" if plot.empty else "", "muted")]
    own = plot.paths[-1]
    sign = ("@" if field.ascii else "◆") if view.cursor is not None else own.star if point is own.best else own.marker
    role = "cursor" if view.cursor is not None else "best" if point is own.best and own.ships else own.role
    pm = "+-" if field.ascii else "±"
    domain, heldout = (_told(value, field.ascii) for value in (-point.gain, point.rise))
    halves = [f" {pm}{half:.2f}" if half is not None else "" for half in (point.gain_half, point.rise_half)]
    level = " at 95 %" if any(halves) else ""
    name = cells_of(f"  {sign} {point.name}", role)
    tries: list[Line] = [
        [*name, *cells_of(f"  domain {domain}{halves[0]}  heldout {heldout}{halves[1]}{level}", "")],
        [*name, *cells_of(f" dom {domain}{halves[0]} held {heldout}{halves[1]}{level}", "")],
        [*name, *cells_of(f" domain {domain} heldout {heldout}", "")],
        [*name, *cells_of(f" dom {domain} held {heldout}", "")],
        [*name, *cells_of(f" {domain}, {heldout}", "")],
        name,
    ]
    return next(([*title, *told] for told in tries if len(title) + len(told) <= width), title)


def _told(value: float, ascii_only: bool) -> str:
    """A change, with its sign."""
    return signed(value).replace(MINUS, "-") if ascii_only else signed(value)


def _gain_axis(scale: Scale, plot: TradeOff, width: int, ascii_only: bool) -> Iterator[Line]:
    """The rule, and below it the change of the domain error rate; the target's too. Fewer errors are to the right."""
    rule, corner = ("-", "+") if ascii_only else ("─", "└")
    yield [*cells_of(" " * (GUTTER - 1), ""), *cells_of(corner + rule * scale.cells, "axis")]
    labels: Line = [(" ", "")] * width
    taken = [(0, GUTTER - 2)]
    target = [(scale.cell(level), f"{0.0 - level:+g}", "pass") for level in scale.levels.tolist()]
    ticks, step = list(scale.ticks()), scale.tick or 1.0
    every = len("+10.0  ") * len(ticks) // max(1, scale.cells) + 1
    shown = [tick for tick in ticks if round(tick.value / step) % every == 0]
    named = [(tick.cell, number(-tick.value, step * every, signed=True, room=_LABEL), "axis") for tick in shown]
    for cell, ascii_text, role in [*target, *named]:
        text = f"{MINUS}{ascii_text[1:]}" if ascii_text.startswith("-") and not ascii_only else ascii_text
        start = min(max(GUTTER, GUTTER + cell - len(text) // 2), width - len(text))
        if all(start > end or start + len(text) < begin for begin, end in taken):
            labels[start : start + len(text)] = cells_of(text, role)
            taken.append((start, start + len(text)))
    labels[: GUTTER - 1] = cells_of(f"{'domain':>{GUTTER - 1}}", "axis")
    yield labels[:width]


def nearest(plot: TradeOff, width: int, height: int, view: View, at: tuple[int, int]) -> Point | None:
    """The run's own interval that is drawn closest to a cell (column, row) of the picture."""
    points: Sequence[Point] = [p for p in plot.paths[-1].points if not p.made] if plot.paths else []
    if not points or width < _SMALLEST[0] or height < _SMALLEST[1]:
        return None
    field = Field(plot, width, height, view, ascii_only=False)

    def distance(point: Point) -> float:
        column, row = field.place(point)
        # A cell is about twice as high as it is wide.
        return (column + GUTTER - at[0]) ** 2 + 4.0 * (row + 1 - at[1]) ** 2

    return min(points, key=distance)
