"""Rows that `queue.then = "search"` goes on with: random draws from the ranges of `[search]`. Pure.

A draw is a function of the seed, its number and the key alone: neither the results so far nor other keys move it, and
everybody who reads the plan names the same rows. A strategy that learns from results would take the place of `draw`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from typing import Any

from core.plan.expand import complete, short, with_values
from core.plan.identity import run_identity
from core.plan.schema import Range, Row, RunSettings, SearchSpace

EXPERIMENT = "search"
"""The experiment of drawn rows, and the name of their run folders."""
_DIGITS = 3
"""Significant digits of a drawn number: enough for a search, and people can read them."""
_MOST_ROWS = 1000
_TRIES = 10
"""So many draws for each row that is wanted: a small space of choices has no more rows to give."""


def draw(space: SearchSpace, number: int) -> dict[str, Any]:
    """The values of draw `number` (from 1), by dotted key."""
    return {
        key: _value(wanted, Random(f"{space.seed}/{number}/{key}").random()) for key, wanted in space.ranges.items()
    }


def search_rows(
    defaults: RunSettings, space: SearchSpace, count: int, others: Iterator[RunSettings] | None = None
) -> tuple[Row, ...]:
    """At most `count` rows `search#N`, each with settings that neither `others` nor an earlier row has.

    N is the number of the draw: a draw that repeats something leaves a gap.
    """
    seen = {run_identity(settings, {}) for settings in others or ()}
    wanted = min(count, _MOST_ROWS)
    rows: list[Row] = []
    for number in range(1, _TRIES * wanted + 1):
        if len(rows) == wanted:
            break
        values = draw(space, number)
        settings = complete(with_values(defaults, values))
        identity = run_identity(settings, {})
        if identity not in seen:
            seen.add(identity)
            label = " ".join(f"{key.rpartition('.')[2]}={short(value)}" for key, value in values.items())
            rows.append(Row(f"{EXPERIMENT}#{number}", EXPERIMENT, "Random search", label, settings, drawn=True))
    return tuple(rows)


def in_words(wanted: Range) -> str:
    """`log-uniform 2e-05 … 0.00015`, `one of 8, 16`."""
    if wanted.values:
        return f"one of {', '.join(map(short, wanted.values))}"
    return f"{wanted.kind.replace('_', '-')} {short(wanted.low)} … {short(wanted.high)}"


def _value(wanted: Range, u: float) -> Any:
    """The value at `u` in [0, 1). Uses nothing of `random` but that: its other methods have changed over versions."""
    if wanted.values:
        return wanted.values[int(u * len(wanted.values))]
    low, high = wanted.low, wanted.high
    if wanted.whole:
        # Each whole number has its own stretch: from n − ½ to n + ½.
        low, high = low - 0.5, high + 0.5
    if wanted.kind == "log_uniform":
        value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    else:
        value = low + u * (high - low)
    if wanted.whole:
        return int(min(max(math.floor(value + 0.5), wanted.low), wanted.high))
    return min(max(float(f"{value:.{_DIGITS}g}"), wanted.low), wanted.high)
