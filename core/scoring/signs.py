"""The sign of a number that people read: one convention, in every face.

A number with a sign is a change of an error rate, from the base model to the adapter, in points: a minus is fewer
errors. What fell on domain is a gain in names of settings, in conditions and in files for programs, where it has the
sign of a gain; people are shown the change.
"""

from __future__ import annotations

from fractions import Fraction

MINUS = "−"


def signed(value: float | Fraction, digits: int = 2) -> str:
    """`−1.67`, `+0.12`: a change in points."""
    # Adding 0 turns a rounded -0.00 into +0.00.
    return f"{round(float(value), digits) + 0.0:+.{digits}f}".replace("-", MINUS)


def limit(value: float, sign: str = "") -> str:
    """`−1`, `0.2`: a threshold. `sign`: `+` for `+0.2`."""
    return f"{value + 0.0:{sign}g}".replace("-", MINUS)


def is_gain(criterion: str) -> bool:
    """Whether the criterion's own number is a fall. `criterion`: its name, such as `domain_gain by speaker`."""
    return criterion.partition(" by ")[0] == "domain_gain"


def change(criterion: str, value: float) -> float:
    """The criterion's own number, or its threshold, as a change."""
    return -value if is_gain(criterion) else value


def interval(criterion: str, low_pp: float, high_pp: float) -> tuple[str, str]:
    """`−5.69`, `−4.27`: the ends of an interval of the criterion's own numbers as one of changes."""
    low, high = sorted((change(criterion, low_pp), change(criterion, high_pp)))
    return signed(low), signed(high)
