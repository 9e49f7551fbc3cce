"""One table for all benchmarks of the dashboard: median, spread, limit, verdict."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """Values seen of one thing, in `unit`. `limit`: the judged value must not be above it."""

    name: str
    values: Sequence[float]
    unit: str
    limit: float | None = None
    judged: str = "median"
    """median, p95 or max."""
    digits: int = 3

    @property
    def value(self) -> float:
        """What is judged."""
        ordered = sorted(self.values)
        if self.judged == "max":
            return ordered[-1]
        if self.judged == "p95":
            return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
        return statistics.median(ordered)

    @property
    def passed(self) -> bool | None:
        """None without a limit."""
        return None if self.limit is None else self.value <= self.limit


def report(title: str, figures: Sequence[Figure]) -> int:
    """Print them; the exit code: 0 if none is above its limit."""
    machine = f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"{title}\n{machine}, Python {platform.python_version()}")
    print(f"{'':44} {'n':>4} {'min':>9} {'median':>9} {'max':>9}  {'judged':>9} {'limit':>9}  unit")
    for figure in figures:
        low, middle, high = min(figure.values), statistics.median(figure.values), max(figure.values)
        numbers = " ".join(f"{value:9.{figure.digits}f}" for value in (low, middle, high))
        limit = f"{'':>9} {'':>9}"
        word = ""
        if figure.limit is not None:
            limit = f"{figure.value:9.{figure.digits}f} {figure.limit:9.{figure.digits}f}"
            word = f"  {'PASS' if figure.passed else 'FAIL'} ({figure.judged})"
        print(f"{figure.name:44} {len(figure.values):4} {numbers}  {limit}  {figure.unit}{word}")
    sys.stdout.flush()
    return int(any(figure.passed is False for figure in figures))
