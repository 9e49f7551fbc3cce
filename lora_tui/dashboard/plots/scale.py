"""Where a number stands on the screen: one map for marks, lines, ticks and labels alike, along either axis. Pure.

The map never falls while the number rises, and a level (a baseline, a threshold) has a whole cell for itself, into
which no other number goes. So what lies beyond a level in numbers is drawn beyond it, though a mark fills a cell and
a line has quarters of one. A cell is worth a round number's share, and ticks stand in the middle of cells: their
distances are equal. Near levels that come closer than a cell, the map moves others by a cell or two; a tick that it
would move is left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lora_tui.dashboard.plots.series import Floats

_STEPS = (1.0, 2.0, 5.0, 10.0, 20.0)
_CELLS_A_TICK = (1, 2, 3, 4, 5)
_UNITS = sorted({step / cells for step in _STEPS for cells in _CELLS_A_TICK if 1 <= step / cells < 10})
"""What a cell can be worth, times a power of ten: the distance of two round numbers in whole cells."""
_WASTE, _FEW_TICKS = 1.7, 3
"""A scale may be so much smaller than it could be, if it has so many labels then."""
_EQUAL = 1e-9
"""Relative difference below which a number is the level itself: both were computed from the same counts."""
_LARGEST = 1e100
_NOTHING: Floats = np.empty(0)
_THINNEST = 1e-9
"""Range of an axis, as a share of its largest number, at least: below it doubles cannot tell cells apart."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A number with a label, in the middle of its cell."""

    value: float
    cell: int
    """From the low end."""


class Scale:
    """An axis of `cells` cells with `dots` dots each, counted from its low end. `first`: what cell 0 stands for.

    `unit`: what a cell is worth. `levels`: rising; `gaps`: cells at least before, between and after them.
    """

    def __init__(
        self,
        cells: int,
        dots: int,
        first: float,
        unit: float,
        levels: Sequence[float] = (),
        gaps: Sequence[int] = (),
        tick: float | None = None,
    ) -> None:
        self.cells, self.dots, self.first, self.unit, self.tick = cells, dots, first, unit, tick
        self.levels = np.array(levels, np.float64)
        middle = (dots - 1) / 2
        placed = _apart([round((level - first) / unit) for level in levels], gaps, cells)
        self._on = np.array([dots * cell + middle for cell in placed])
        # The dots that numbers between two levels may have; those at the ends may leave the picture.
        self._least = np.array([-math.inf, *(dots * (cell + 1) for cell in placed)])
        self._most = np.array([*(dots * cell - 1 for cell in placed), math.inf])

    @property
    def low(self) -> float:
        """The lowest number in the picture."""
        return self.first - self.unit / 2

    @property
    def high(self) -> float:
        """The highest number in the picture."""
        return self.first + self.unit * (self.cells - 0.5)

    def dot(self, values: Floats) -> Floats:
        """Dots from the low end, to be rounded; beyond the ends for what is outside. Shape as `values`."""
        at = (
            self.dots * ((np.minimum(np.maximum(values, -_LARGEST), _LARGEST) - self.first) / self.unit)
            + (self.dots - 1) / 2
        )
        if not len(self.levels):
            return np.asarray(at, np.float64)
        between = np.searchsorted(self.levels, values)
        found = np.minimum(np.maximum(at, self._least[between]), self._most[between])
        for level, place in zip(self.levels, self._on, strict=True):
            found = np.where(np.abs(values - level) <= _EQUAL * max(1.0, abs(level)), place, found)
        return np.asarray(found, np.float64)

    def cell(self, value: float) -> int:
        """The cell of a number; the last one for what lies outside."""
        dot = round(float(self.dot(np.array([value]))[0]))
        return min(max(0, dot // self.dots), self.cells - 1)

    def side(self, value: float) -> int:
        """-1 for a number below the picture, 1 for one above it, else 0."""
        dot = round(float(self.dot(np.array([value]))[0]))
        return -1 if dot < 0 else int(dot >= self.dots * self.cells)

    def ticks(self) -> list[Tick]:
        """The round numbers that the map leaves where they are; in the cell of a level only the level itself."""
        if self.tick is None:
            return []
        cells_a_tick, start = round(self.tick / self.unit), round(self.first / self.unit)
        cells = np.arange(-start % cells_a_tick, self.cells, cells_a_tick)
        values = ((start + cells) // cells_a_tick * self.tick).astype(np.float64)
        stays = np.rint(self.dot(values)) // self.dots == cells
        own = dict(zip((self._on // self.dots).astype(int).tolist(), self.levels.tolist(), strict=True))
        return [
            Tick(value, cell)
            for value, cell in zip(values[stays].tolist(), cells[stays].tolist(), strict=True)
            if cell not in own or _same(value, own[cell])
        ]


def fitted(
    low: float, high: float, cells: int, dots: int, levels: Sequence[float] = (), values: Floats = _NOTHING
) -> Scale:
    """The scale that shows all from `low` to `high` with round numbers as large as can be.

    `levels`: the important ones first; those for which there are no cells, or that lie outside, are left out. `values`:
    shape (n,); the numbers that are told apart from levels: between two levels there is a cell if one of them is.
    """
    low, high = _wide_enough(low, high)
    kept: list[float] = []
    for level in levels:
        more = sorted([*kept, level])
        if low <= level <= high and not any(_same(level, other) for other in kept):
            kept = more if len(more) + sum(_gaps(more, values)) <= cells else kept
    found = _candidates(low, high, cells, dots, kept, _gaps(kept, values))
    smallest = next(found)
    others = itertools.takewhile(lambda scale: scale.unit <= _WASTE * smallest.unit, found)
    # The first of those with the most labels, of which more than a few are no better.
    return max((smallest, *others), key=lambda scale: min(len(scale.ticks()), _FEW_TICKS))


def _gaps(levels: Sequence[float], values: Floats) -> list[int]:
    """For each stretch before, between and after rising levels: 1 if a value lies in it, else 0."""
    beside = values[np.isfinite(values)]
    for level in levels:
        beside = beside[np.abs(beside - level) > _EQUAL * max(1.0, abs(level))]
    found = np.bincount(np.searchsorted(np.array(levels), beside), minlength=len(levels) + 1)
    return [int(count > 0) for count in found]


def _candidates(
    low: float, high: float, cells: int, dots: int, levels: Sequence[float], gaps: Sequence[int]
) -> Iterator[Scale]:
    """All scales that show `low` to `high`, the largest first."""
    power = math.floor(math.log10((high - low) / cells)) - 1
    while True:
        for share in _UNITS:
            unit = share * 10.0**power
            first, last = math.floor(low / unit + 0.5), math.ceil(high / unit - 0.5)
            spare = cells - (last - first + 1)
            if spare >= 0:
                start = (first - spare // 2) * unit
                yield Scale(cells, dots, start, unit, levels, gaps, _tick(share, cells) * 10.0**power)
        power += 1


def stretched(low: float, high: float, cells: int, dots: int) -> Scale:
    """The scale from `low` in the middle of the first cell to `high` in that of the last one."""
    low, high = _wide_enough(low, high)
    return Scale(cells, dots, low, (high - low) / max(1, cells - 1))


def _wide_enough(low: float, high: float) -> tuple[float, float]:
    """A range that has some width, and is none of infinities."""
    low, high = max(-_LARGEST, low), min(_LARGEST, high)
    largest = max(abs(low), abs(high))
    if high - low > max(_THINNEST * largest, 1e-90):
        return low, high
    room = max(largest * 0.05, 0.01)
    return low - room, high + room


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _EQUAL * max(1.0, abs(one), abs(other))


def _apart(places: list[int], gaps: Sequence[int], cells: int) -> list[int]:
    """Rising cells moved as little as can be, with `gaps` cells at least before, between and after them."""
    least = 0
    for i, place in enumerate(places):
        places[i] = max(place, least + gaps[i])
        least = places[i] + 1
    most = cells - 1
    for i in range(len(places) - 1, -1, -1):
        places[i] = min(places[i], most - gaps[i + 1])
        most = places[i] - 1
    return places


def _tick(unit: float, cells: int) -> float:
    """The round number of whole cells of which about a third of the cells, three at least, can have one."""
    fitting = [step for step in _STEPS for n in _CELLS_A_TICK if math.isclose(step / n, unit)]
    wanted = max(3.0, cells / 3)
    return min(fitting, key=lambda step: abs(math.log(cells * unit / step / wanted)))
