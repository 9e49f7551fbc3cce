"""What one run's result says to the conditions of a plan (`core.plan.conditions` names the facts)."""

from __future__ import annotations

import math
from itertools import pairwise

from core.scoring.counts import ErrorCounts
from core.scoring.criteria import trained_intervals, wer_points
from core.scoring.evidence import Criterion, Decision, Evidence, State, Verdict

FALLING_INTERVALS = 3
"""Domain WER is still falling if it fell strictly over this many last intervals."""


def outcome_facts(
    evidence: Evidence, verdict: Verdict, seconds_per_step: float | None
) -> dict[str, bool | float | None]:
    """The facts of an ended run. None: the evidence does not say.

    accepted, rejected, stable, converged, falling, guardrail_broken, slices_kept: bool. domain_gain, heldout_regression
    (points) and domain_wer, heldout_wer (percent, tuned): only from a valid tuned score.
    """
    decided = verdict.decision is not Decision.UNDECIDED
    gain, regression = verdict.criterion("domain_gain"), verdict.criterion("heldout")
    return {
        "accepted": verdict.decision is Decision.ACCEPTED if decided else None,
        "rejected": verdict.decision is Decision.REJECTED if decided else None,
        "stable": _held(verdict.criterion("stability"), evidence),
        "converged": _held(verdict.criterion("convergence"), evidence),
        "falling": _falling(evidence),
        "guardrail_broken": _guardrail_broken(verdict),
        "slices_kept": None if verdict.slices in (None, State.UNKNOWN) else verdict.slices is State.PASS,
        "domain_gain": _valid(gain),
        "heldout_regression": _valid(regression),
        "domain_wer": _wer(gain, evidence.tuned_domain),
        "heldout_wer": _wer(regression, evidence.tuned_heldout),
        "seconds_per_step": seconds_per_step if _finite(seconds_per_step) else None,
    }


def _held(criterion: Criterion, evidence: Evidence) -> bool | None:
    """Whether the criterion passed. A run that broke down before it could be judged did not hold it."""
    if criterion.state is State.UNKNOWN:
        return None if evidence.failure is None else False
    return criterion.state is State.PASS


def _falling(evidence: Evidence) -> bool | None:
    last = trained_intervals(evidence)[-FALLING_INTERVALS:]
    wers = [wer for i in last if (wer := wer_points(i.domain.counts)) is not None]
    if len(wers) < FALLING_INTERVALS:
        return None
    return all(after < before for before, after in pairwise(wers))


def _guardrail_broken(verdict: Verdict) -> bool | None:
    """No interval kept the guardrail, or the tuned score breaks it, valid by convergence or not."""
    heldout = verdict.criterion("heldout")
    if verdict.guardrail_kept is False or heldout.state is State.FAIL:
        return True
    if verdict.guardrail_kept is None or heldout.value is None or heldout.threshold is None:
        return None
    # Both are the floats nearest to exact decimals, so this agrees with the exact comparison at the edge.
    return heldout.value > heldout.threshold


def _valid(criterion: Criterion) -> float | None:
    return None if criterion.state is State.UNKNOWN else criterion.value


def _wer(criterion: Criterion, tuned: ErrorCounts | None) -> float | None:
    return None if criterion.state is State.UNKNOWN or tuned is None else tuned.wer_percent


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
