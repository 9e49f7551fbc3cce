"""Student's t: the distribution of a mean of few values that vary by an unknown amount. Pure, numpy only.

The closed forms for whole degrees of freedom (Abramowitz & Stegun 26.7.3 and 26.7.4), with θ = atan(t / √ν).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MOST_DEGREES = 200
"""More count as so many: beyond, the distribution is the normal one but for 1 % of its width, on the safe side."""
_GRID = 20_001
"""Points of θ between which a quantile is interpolated."""

Floats = NDArray[np.float64]


def whole_degrees(degrees: float) -> int:
    """Degrees of freedom as these functions take them: whole, rounded down, at least one."""
    return max(1, min(MOST_DEGREES, math.floor(degrees + 1e-9)))


def quantile(probability: float, degrees: float) -> float:
    """The value that t stays below with that probability."""
    return float(_at(np.array([probability]), whole_degrees(degrees))[0])


@lru_cache(maxsize=64)
def quantiles(degrees: float, count: int) -> Floats:
    """`count` equally likely values of t, rising: what that many draws would be, without their chance."""
    found = _at((np.arange(count) + 0.5) / count, whole_degrees(degrees))
    found.setflags(write=False)  # shared by all who ask
    return found


def _at(probabilities: Floats, degrees: int) -> Floats:
    angles, below = _distribution(degrees)
    return np.asarray(math.sqrt(degrees) * np.tan(np.interp(probabilities, below, angles)))


@lru_cache(maxsize=MOST_DEGREES)
def _distribution(degrees: int) -> tuple[Floats, Floats]:
    """(θ, the probability to be below) on a grid."""
    angles = np.linspace(-math.pi / 2, math.pi / 2, _GRID)
    sine, cosine = np.sin(angles), np.cos(angles)
    odd = degrees % 2
    term = cosine.copy() if odd else np.ones_like(cosine)
    total = np.zeros_like(term)
    for power in range(1 if odd else 0, degrees - 1, 2):
        total += term
        term = term * cosine**2 * ((power + 1) / (power + 2))
    within = 2 / math.pi * (angles + sine * total) if odd else sine * total
    return angles, 0.5 + within / 2
