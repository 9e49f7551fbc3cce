"""MAPSSWE, NIST's matched-pairs test of two recognisers (Gillick & Cox 1989), as `sc_stats -t mapsswe` computes it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """The test over segments. The null hypothesis is that both make the same number of errors in a segment."""

    segments: int
    mean: float
    """Errors before minus errors after, for each segment."""
    z: float | None
    """mean / (standard deviation / √segments); None where all segments differ alike, or there are fewer than two."""
    p_value: float | None
    """Two-tailed, by the normal distribution; a small one says that the two do differ."""


def mapsswe(pairs: Iterable[tuple[int, int]]) -> MatchedPairs:
    """The test over (errors before, errors after) of each segment (`core.scoring.alignment.segments`)."""
    differences = [before - after for before, after in pairs]
    count = len(differences)
    if count == 0:
        return MatchedPairs(0, 0.0, None, None)
    mean = sum(differences) / count
    if count < 2:
        return MatchedPairs(count, mean, None, None)
    variance = sum((d - mean) ** 2 for d in differences) / (count - 1)
    if variance == 0:
        return MatchedPairs(count, mean, None, None)
    z = mean / math.sqrt(variance / count)
    return MatchedPairs(count, mean, z, math.erfc(abs(z) / math.sqrt(2)))
