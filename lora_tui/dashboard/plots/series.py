"""What happens to a curve before it is drawn: smooth, part where a value is not finite, reduce to columns. Pure.

The order matters: smoothing after reducing would hide spikes, and a reduction that averages would lose them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
