"""What happens to a curve before it is drawn: smoothed, parted where a value is not finite, reduced to columns. Pure.

The order matters: smoothing after reducing would hide spikes, and a reduction that averages would lose them. Of each
column, first, lowest, highest and last value are kept. A long curve is drawn in any zoom without a look at every
point: extrema of blocks are worked out once. Blocks are an eighth of a column at most, so a column may begin an eighth
of its width too early; no extremum is lost.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from core.runs.steps import Lineage, StepSeries

Floats = NDArray[np.float64]
Xs = NDArray[np.float64] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """At most four points a column (first, lowest, highest, last), in the order of x."""

    xs: Floats
    ys: Floats
    piece: NDArray[np.int64]
    """Points of different pieces are not to be joined: a value between them was not finite."""
    gaps: Floats
    """x of the values that were not finite."""


def smooth(ys: Floats, window: int) -> Floats:
    """The mean of each value and the `window` - 1 before it, of the finite ones among them.

    A value that is not finite stays as it is, so that smoothing never hides a NaN.
    """
    if window <= 1 or len(ys) == 0:
        return ys
    finite = np.isfinite(ys)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, ys, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    end = np.arange(1, len(ys) + 1)
    start = np.maximum(0, end - window)
    number = np.maximum(1, counts[end] - counts[start])
    return np.where(finite, (sums[end] - sums[start]) / number, ys)


def logarithm(ys: Floats) -> Floats:
    """log10; what has none (0, below) becomes NaN and is marked like one."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(ys > 0, np.log10(ys), np.where(np.isposinf(ys), np.inf, np.nan))


def first_at_least(xs: Xs, value: float | Floats) -> Any:
    """Index of the first x ≥ value. Whole numbers are not turned into a million floats for it."""
    return np.searchsorted(xs, _whole(np.ceil(value)) if xs.dtype.kind == "i" else value)


def first_beyond(xs: Xs, value: float) -> int:
    """Index of the first x > value."""
    return int(np.searchsorted(xs, _whole(np.floor(value)) if xs.dtype.kind == "i" else value, side="right"))


def _whole(value: Any) -> Any:
    return np.clip(value, -(2.0**62), 2.0**62).astype(np.int64)


def reduce(xs: Xs, ys: Floats, low: float, high: float, columns: int) -> Reduced:
    """The part of a curve between x = `low` and `high`, reduced to `columns`. xs rise.

    One point beyond each end is kept, so that a line that leaves the picture is drawn up to its edge.
    """
    first = max(0, int(first_at_least(xs, low)) - 1)
    last = min(len(xs), first_beyond(xs, high) + 1)
    seen, ys = xs[first:last].astype(float), ys[first:last]
    finite = np.isfinite(ys)
    gaps, piece = np.empty(0), np.zeros(len(seen), np.int64)
    if not finite.all():
        gaps = seen[~finite & (seen >= low) & (seen <= high)]
        piece = np.cumsum(~finite)[finite]
        seen, ys = seen[finite], ys[finite]
    if len(seen) <= 4 * columns or high <= low:
        return Reduced(seen, ys, piece, gaps)
    edges = np.searchsorted(seen, np.linspace(low, high, columns + 1))
    starts = np.unique(np.concatenate([[0], edges, [np.searchsorted(seen, high, side="right")]]))
    starts = starts[starts < len(seen)]
    ends = np.concatenate([starts[1:], [len(seen)]]) - 1
    middle = (seen[starts] + seen[ends]) / 2
    columns_of_x = np.stack([seen[starts], middle, middle, seen[ends]], axis=1)
    lowest, highest = np.minimum.reduceat(ys, starts), np.maximum.reduceat(ys, starts)
    columns_of_y = np.stack([ys[starts], lowest, highest, ys[ends]], axis=1)
    pieces = np.stack([piece[starts], piece[starts], piece[ends], piece[ends]], axis=1)
    return Reduced(columns_of_x.ravel(), columns_of_y.ravel(), pieces.ravel(), gaps)


_BLOCKS = (16, 128, 1024)
_BLOCKS_A_COLUMN = 8
_PIECE = 64 * _BLOCKS[-1]
"""Points smoothed at once while blocks are made: bounds the memory that takes."""
_SHORT = 20_000
"""Curves of fewer points are reduced directly."""

_known: WeakKeyDictionary[Lineage, dict[Hashable, Blocks]] = WeakKeyDictionary()
_minutes: WeakKeyDictionary[Lineage, Floats] = WeakKeyDictionary()


class Blocks:
    """Extrema of one curve, smoothed over `window` points, as log10 if `log`. Grows with its curve."""

    def __init__(self, window: int, *, log: bool) -> None:
        self._window, self._log = window, log
        self._done = 0
        self._bad: NDArray[np.int64] = np.empty(0, np.int64)
        self._first, self._last = np.empty(0), np.empty(0)
        """Of the smallest blocks."""
        self._low = [np.empty(0) for _ in _BLOCKS]
        self._high = [np.empty(0) for _ in _BLOCKS]

    def extend(self, ys: Floats) -> None:
        """Take in what was added to the curve: all of `ys` but a rest that fills no block yet."""
        whole = len(ys) - len(ys) % _BLOCKS[-1]
        bad, first, last = [self._bad], [self._first], [self._last]
        low, high = [[level] for level in self._low], [[level] for level in self._high]
        while self._done < whole:
            start, end = self._done, min(whole, self._done + _PIECE)
            values = self.values(ys, start, end)
            good = np.isfinite(values)
            bad.append(np.flatnonzero(~good) + start)
            blocks = values.reshape(-1, _BLOCKS[0])
            first.append(blocks[:, 0].copy())
            last.append(blocks[:, -1].copy())
            lowest = np.where(good, values, np.inf).reshape(-1, _BLOCKS[0]).min(axis=1)
            highest = np.where(good, values, -np.inf).reshape(-1, _BLOCKS[0]).max(axis=1)
            for i, size in enumerate(_BLOCKS):
                if i:
                    lowest = lowest.reshape(-1, size // _BLOCKS[i - 1]).min(axis=1)
                    highest = highest.reshape(-1, size // _BLOCKS[i - 1]).max(axis=1)
                low[i].append(lowest)
                high[i].append(highest)
            self._done = end
        if len(first) > 1:
            self._bad, self._first, self._last = np.concatenate(bad), np.concatenate(first), np.concatenate(last)
            self._low = [np.concatenate(parts) for parts in low]
            self._high = [np.concatenate(parts) for parts in high]

    def values(self, ys: Floats, start: int, end: int) -> Floats:
        """The smoothed points from `start` to before `end`."""
        before = min(start, self._window - 1)
        smoothed = smooth(ys[start - before : end], self._window)[before:]
        return logarithm(smoothed) if self._log else smoothed

    def reduce(self, xs: Xs, ys: Floats, low: float, high: float, columns: int) -> Reduced:
        """As `series.reduce`, of the smoothed curve."""
        first = max(0, first_at_least(xs, low) - 1)
        last = min(len(xs), first_beyond(xs, high) + 1)
        level = self._level((last - first) / max(1, columns))
        size = _BLOCKS[level] if level is not None else 1
        begin = first - first % size
        if level is None or high <= low or self._done - begin < size:
            return reduce(xs[first:last], self.values(ys, first, last), low, high, columns)
        end = min(last - last % size, self._done)
        tail = reduce(xs[end:last], self.values(ys, end, last), low, high, columns)
        edges = first_at_least(xs, np.linspace(low, high, columns + 1)) // size * size
        starts = np.unique(np.clip(np.append(edges, begin), begin, end - size))
        ends = np.append(starts[1:], end)
        lowest = np.minimum.reduceat(self._low[level][: end // size], starts // size)
        highest = np.maximum.reduceat(self._high[level][: end // size], starts // size)
        kept = lowest <= highest
        starts, ends, lowest, highest = starts[kept], ends[kept], lowest[kept], highest[kept]
        heads, tails = self._first[starts // _BLOCKS[0]], self._last[ends // _BLOCKS[0] - 1]
        x0, x1 = xs[starts].astype(float), xs[ends - 1].astype(float)
        middle = (x0 + x1) / 2
        # Where a column begins or ends with what is not finite, nothing is joined to it there.
        heads = np.where(np.isfinite(heads), heads, lowest)
        tails = np.where(np.isfinite(tails), tails, highest)
        piece0, piece1 = np.searchsorted(self._bad, starts, side="right"), np.searchsorted(self._bad, ends - 1)
        all_bad = self._bad[np.searchsorted(self._bad, first) : np.searchsorted(self._bad, end)]
        gaps = xs[all_bad].astype(float)
        before = int(np.searchsorted(self._bad, end))
        return Reduced(
            np.concatenate([np.stack([x0, middle, middle, x1], axis=1).ravel(), tail.xs]),
            np.concatenate([np.stack([heads, lowest, highest, tails], axis=1).ravel(), tail.ys]),
            np.concatenate([np.stack([piece0, piece0, piece1, piece1], axis=1).ravel(), tail.piece + before]),
            np.concatenate([gaps[(gaps >= low) & (gaps <= high)], tail.gaps]),
        )

    def _level(self, points_a_column: float) -> int | None:
        fitting = [i for i, size in enumerate(_BLOCKS) if size * _BLOCKS_A_COLUMN <= points_a_column]
        return fitting[-1] if fitting else None


def blocks_of(lineage: Lineage, name: Hashable, ys: Floats, window: int, *, log: bool) -> Blocks | None:
    """The blocks of a run's column `name`, up to date with `ys`; None for a curve so short that it needs none."""
    if len(ys) < _SHORT:
        return None
    mine = _known.setdefault(lineage, {})
    key = (name, window, log)
    if key not in mine:
        mine[key] = Blocks(window, log=log)
    mine[key].extend(ys)
    return mine[key]


def minutes(series: StepSeries) -> Floats:
    """Shape (steps + 1,): minutes of training before each step, and after the last. What is not finite counts as 0."""
    known = _minutes.get(series.lineage)
    if known is None:
        known = np.zeros(1)
    if len(known) <= len(series):
        new = np.nan_to_num(series.seconds[len(known) - 1 :], posinf=0.0, neginf=0.0)
        known = np.concatenate([known, known[-1] + np.cumsum(new) / 60])
        _minutes[series.lineage] = known
    return known[: len(series) + 1]
