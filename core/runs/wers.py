"""The WERs of a set, their change and their limit: computed here for every face. The criteria judge exact fractions."""

from __future__ import annotations

from core.runs.row import Wer
from core.scoring.counts import ErrorCounts
from core.scoring.criteria import rise_points


def wer(
    baseline: ErrorCounts | None, tuned: ErrorCounts | None, best: ErrorCounts | None = None, allowed: float = 0.0
) -> Wer:
    """Of one set. `best`: at the best interval, for want of a tuned score; `allowed`: the rise that is, in points."""
    now = tuned or best
    base = None if baseline is None else baseline.wer_percent
    return Wer(
        baseline=base,
        tuned=None if tuned is None else tuned.wer_percent,
        now=None if now is None else now.wer_percent,
        change=change(baseline, now),
        limit=None if base is None else base + allowed,
    )


def change(before: ErrorCounts | None, after: ErrorCounts | None) -> float | None:
    """How many points WER rose; None where one of the two is not known, or they are of different words."""
    rise = None if before is None or after is None else rise_points(before, after)
    return None if rise is None else float(rise)
