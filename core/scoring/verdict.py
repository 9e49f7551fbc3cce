"""The verdict on a run: six criteria and those on slices, what they add up to, and which interval is the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from core.scoring import criteria
from core.scoring import criteria as wer_criteria
from core.scoring.counts import ErrorCounts
from core.scoring.criteria import parity, points, spelling, theil_sen, wer_points
from core.scoring.evidence import Criterion, Decision, Evidence, Interval, State, Thresholds, Verdict
from core.scoring.loosened import loosened, loosened_words
from core.scoring.slices import rules_of, slice_criteria

POINT = "point"
"""`[gate] confidence`: the WER criteria go by the point estimates."""

__all__ = ["best_interval", "judge", "theil_sen", "thresholds_of"]


def thresholds_of(gate: Mapping[str, Any]) -> Thresholds:
    """The thresholds of a `[gate]` (as in `run.json`). Keys that are missing keep their defaults."""
    names = {
        "domain_gain": "domain_gain_pp",
        "heldout_regression": "heldout_regression_pp",
        "stability_range": "stability_range_pp",
        "stability_intervals": "stability_intervals",
        "stability_min_steps": "stability_min_steps",
        "block_by": "block_by",
        "normaliser_chosen": "normaliser_chosen",
    }
    given: dict[str, Any] = {field: gate[key] for key, field in names.items() if key in gate}
    confidence = gate.get("confidence", POINT)
    given["slices"] = rules_of(gate.get("slice") or ())
    reason = gate.get("accept_leakage")
    said, _, unknown = str(gate.get("speakers") or "").partition(":")
    return Thresholds(
        **given,
        confidence=None if confidence == POINT else float(confidence),
        # a permission without its reason is none
        accept_leakage=reason if isinstance(reason, str) and reason.strip() else None,
        unknown_speakers=unknown.strip() if said == "unknown" and unknown.strip() else None,
    )


def best_interval(intervals: Sequence[Interval], thresholds: Thresholds) -> tuple[int | None, bool | None]:
    """The step of the best interval, and whether any interval ≥ 1 kept the heldout guardrail.

    Among intervals ≥ 1 that keep the guardrail, the largest gain on the selection set if there is one,
    else on domain (ties: the earliest); if none keeps it, the lowest WER. (None, None) without an interval to
    choose from or without interval 0 to compare with.
    """
    baseline = next((i for i in intervals if i.step == 0), None)
    if baseline is None:
        return None, None

    def chosen_on(interval: Interval) -> ErrorCounts | None:
        if baseline.selection is None:
            return interval.domain.counts
        return interval.selection.counts if interval.selection is not None else None

    candidates: list[tuple[Fraction, int]] = []
    keeping: list[tuple[Fraction, int]] = []
    for interval in intervals:
        counts = chosen_on(interval)
        if interval.step == 0 or counts is None or wer_points(counts) is None:
            continue
        # Every candidate is scored on the same words, so the lowest WER is the largest gain.
        key = (wer_points(counts) or Fraction(0), interval.step)
        candidates.append(key)
        rise = criteria.rise_points(baseline.heldout.counts, interval.heldout.counts)
        if rise is not None and rise <= points(thresholds.heldout_regression_pp):
            keeping.append(key)
    if not candidates:
        return None, None
    return min(keeping or candidates)[1], bool(keeping)


def judge(evidence: Evidence, thresholds: Thresholds) -> Verdict:
    """The verdict on `evidence`, whole or partial: on a run that goes on, what it would be now.

    Pure. Evidence that is missing or not finite leaves its criterion UNKNOWN and never passes.
    """
    best_step, guardrail_kept = best_interval(evidence.intervals, thresholds)
    # The adapter on disk is what is judged. It differs from the choice above only if the thresholds were
    # changed since, and then a looser threshold must not cost a run its acceptance.
    pointed_at = evidence.artifact.best_step if evidence.artifact is not None else None
    if pointed_at is not None and any(i.step == pointed_at > 0 for i in evidence.intervals):
        best_step = pointed_at

    convergence = criteria.convergence(evidence, thresholds, best_step)
    judged = (
        convergence,
        criteria.stability(evidence, thresholds),
        criteria.integrity(evidence),
        wer_criteria.domain_gain(evidence, thresholds, convergence),
        wer_criteria.heldout(evidence, thresholds, convergence, guardrail_kept),
        parity(evidence, thresholds),
        *slice_criteria(evidence, thresholds, convergence),
    )
    weaker = loosened(thresholds)
    remarks = (*((f"Judged {loosened_words(weaker)}.",) if weaker else ()), *spelling(evidence, thresholds))
    decision = _decide(evidence, judged)
    return Verdict(judged, decision, best_step, guardrail_kept, weaker, remarks, failed=evidence.broke_down)


def _decide(evidence: Evidence, judged: Sequence[Criterion]) -> Decision:
    states = {c.state for c in judged}
    if evidence.failure is not None or State.FAIL in states:
        return Decision.REJECTED
    return Decision.UNDECIDED if State.UNKNOWN in states else Decision.ACCEPTED
