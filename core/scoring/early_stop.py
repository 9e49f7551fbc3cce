"""Whether a run that goes on can be given up: heldout or the evaluation loss got too bad. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.scoring.criteria import points, rise_points
from core.scoring.evidence import Interval, SetScore


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """`gate.early_stop` and `gate.early_stop_intervals`."""

    regression_pp: float
    """Heldout WER may rise by at most this, in points."""
    intervals: int
    """In how many intervals in a row it must be worse."""


def early_stop_of(gate: Mapping[str, Any]) -> EarlyStop | None:
    """The rule in a `[gate]` (as in `run.json`); None: it is off."""
    limit = gate.get("early_stop")
    return None if limit is None else EarlyStop(float(limit), int(gate.get("early_stop_intervals", 3)))


def early_stop(intervals: Sequence[Interval], rule: EarlyStop) -> str | None:
    """Why the run is to be stopped; None to go on.

    Heldout WER rose by more than the limit, or the domain evaluation loss is above interval 0's, in each of the last
    `rule.intervals` intervals; or an evaluation loss is no number any more.
    """
    ordered = sorted(intervals, key=lambda interval: interval.step)
    if not ordered or ordered[0].step != 0:
        return None
    base, trained = ordered[0], ordered[1:]
    if trained:
        for name, score in (("domain", trained[-1].domain), ("heldout", trained[-1].heldout)):
            if score.loss is not None and not math.isfinite(score.loss):
                return f"the {name} loss at step {trained[-1].step} is {score.loss}"
    last = trained[-rule.intervals :]
    if len(last) < rule.intervals:
        return None
    where = f"in the last {rule.intervals} intervals (steps {last[0].step} to {last[-1].step})"
    rises = [rise_points(base.heldout.counts, interval.heldout.counts) for interval in last]
    if all(rise is not None and rise > points(rule.regression_pp) for rise in rises):
        rise = float(rises[-1] or 0)
        return f"heldout WER rose by more than {rule.regression_pp:g} points {where}, at last by {rise:.2f}"
    if all(_worse(interval.domain, base.domain) for interval in last):
        return f"the domain loss was above the base model's {where}"
    return None


def _worse(score: SetScore, base: SetScore) -> bool:
    return score.loss is not None and base.loss is not None and score.loss > base.loss
