"""The curves of a run as plain values: loss, and each set's error rate with baseline, target and guardrail. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.runs.position import Position
from core.runs.row import Wer
from core.runs.run_figures import wer
from core.runs.snapshot import RunSnapshot
from core.scoring.evidence import Interval, SetScore, Thresholds

BUCKETS = 300
"""Training steps are drawn in so many groups, each by its first, lowest, highest and last: no spike is lost."""
Point = tuple[float, float | None]
"""(step, value); None where the value is not finite: the line is broken there."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    name: str
    points: tuple[Point, ...]
    dots: bool = True
    """Whether each point is marked: measurements far apart."""


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line: what the others are compared with."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn. `key` names the picture's file."""

    key: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    levels: tuple[Level, ...] = ()
    best_step: int | None = None
    """Marked by a vertical line."""
    x_name: str = "step"


def charts(snapshot: RunSnapshot, thresholds: Thresholds, best_step: int | None) -> tuple[Chart, ...]:
    """The charts for which there is anything to draw: loss, and the error rates of domain and heldout."""
    steps = snapshot.steps
    loss = [Line("training", thinned(steps.step.tolist(), steps.loss.tolist()), dots=False)]
    loss += [
        Line(name, tuple((i.step, finite(_set(i, name).loss)) for i in snapshot.intervals))
        for name in ("domain", "heldout")
    ]
    found = [Chart("loss", "Loss", "nats per token", tuple(_drawn(loss)), best_step=best_step)]
    for name, word, allowed in (
        ("domain", "target", -thresholds.domain_gain_pp),
        ("heldout", "guardrail", thresholds.heldout_regression_pp),
    ):
        points = tuple((i.step, finite(_set(i, name).counts.wer_percent)) for i in snapshot.intervals)
        first = next((_set(i, name).counts for i in snapshot.intervals if i.step == 0), None)
        levels = _levels(wer(first, None, allowed=allowed), word)
        lines = tuple(_drawn([Line(name, points)]))
        found.append(Chart(name, f"{name.capitalize()} {snapshot.unit.rate}", "%", lines, levels, best_step))
    return tuple(chart for chart in found if chart.lines)


def _levels(base: Wer, word: str) -> tuple[Level, ...]:
    if base.baseline is None or base.limit is None:
        return ()
    return Level("baseline", base.baseline), Level(word, base.limit)


def position_charts(positions: Sequence[Position]) -> tuple[Chart, ...]:
    """The running error rate of each tuned score over its manifest, between the bounds that shuffled orders keep to."""
    found = []
    for position in positions:
        if position.score != "tuned":
            continue
        rate = position.unit.rate
        curves = ((f"running {rate}", position.running), ("95 % low", position.low), ("95 % high", position.high))
        lines = tuple(
            Line(name, tuple((n, finite(v)) for n, v in pairs[position.drawn_from :]), dots=False)
            for name, values in curves
            if (pairs := list(zip(position.at, values, strict=True)))
        )
        title = f"Running {position.dataset} {rate}, with the band of shuffled orders"
        key = f"running-{position.dataset}"
        found.append(Chart(key, title, "%", lines, (Level("all clips", position.wer),), x_name="clips"))
    return tuple(found)


def thinned(steps: Sequence[float], values: Sequence[float], buckets: int = BUCKETS) -> tuple[Point, ...]:
    """First, lowest, highest and last of each group of equal length, and every place that is not finite."""
    if len(steps) <= 4 * buckets:
        return tuple((step, finite(value)) for step, value in zip(steps, values, strict=True))
    kept: list[int] = []
    size = len(steps) / buckets
    for bucket in range(buckets):
        group = range(round(bucket * size), round((bucket + 1) * size))
        whole = [index for index in group if math.isfinite(values[index])]
        chosen = {group[0], group[-1]}
        if whole:
            chosen |= {min(whole, key=values.__getitem__), max(whole, key=values.__getitem__)}
        # One broken place in a group breaks the line there; more of them would draw the same.
        broken = next((index for index in group if not math.isfinite(values[index])), None)
        kept += sorted(chosen if broken is None else chosen | {broken})
    return tuple((steps[index], finite(values[index])) for index in kept)


def finite(value: float | None) -> float | None:
    """`value`, or None where it is no number to draw."""
    return value if value is not None and math.isfinite(value) else None


def _set(interval: Interval, name: str) -> SetScore:
    return interval.domain if name == "domain" else interval.heldout


def _drawn(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if any(value is not None for _, value in line.points)]
