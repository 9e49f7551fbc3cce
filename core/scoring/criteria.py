"""Convergence, stability and artifact integrity: each PASS, FAIL or UNKNOWN with its number and one sentence.

WER differences are exact fractions of the error counts, so that a gain of exactly the threshold passes,
whatever floating point would make of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from statistics import median

from core.scoring.counts import ErrorCounts
from core.scoring.evidence import Criterion, Evidence, Interval, State, Thresholds

POINTS = "points"
_SLOPE_UNIT = "nats per 1000 steps"
SIGNS = {"domain_gain": "≥", "heldout": "≤", "stability": "≤", "convergence": "<", "parity": "≤"}
"""What stands between the number and the threshold of a criterion that passes, by its kind."""


def points(threshold: float) -> Fraction | float:
    """The decimal number that a threshold was written as: 0.2 is 1/5, not the nearest binary fraction."""
    return Fraction(repr(threshold)) if math.isfinite(threshold) else threshold


def wer_points(counts: ErrorCounts) -> Fraction | None:
    """WER in percent, exactly; None without reference words."""
    return Fraction(100 * counts.errors, counts.reference_words) if counts.reference_words > 0 else None


def rise_points(before: ErrorCounts, after: ErrorCounts) -> Fraction | None:
    """How many points WER rose; None when the two were not scored on the same number of reference words."""
    if before.reference_words != after.reference_words or before.reference_words <= 0:
        return None
    return Fraction(100 * (after.errors - before.errors), before.reference_words)


def theil_sen(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Theil–Sen slope: the median over all pairs of points with different x. ValueError if there is none."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(zip(xs, ys, strict=True), 2) if x1 != x2]
    if not slopes:
        raise ValueError("a slope needs two points with different x")
    return float(median(slopes))


def trained_intervals(evidence: Evidence) -> tuple[Interval, ...]:
    """The intervals ≥ 1, in the order of their steps."""
    return tuple(sorted((i for i in evidence.intervals if i.step > 0), key=lambda i: i.step))


def convergence(  # noqa: PLR0911 - one return a case
    evidence: Evidence, thresholds: Thresholds, best_step: int | None
) -> Criterion:
    """Theil–Sen slope of the domain loss over all intervals < 0, and lower at the best interval than at 0."""

    def say(state: State, reason: str, slope: float | None = None) -> Criterion:
        return Criterion("convergence", "Convergence", state, slope, 0.0, _SLOPE_UNIT, reason)

    ended = evidence.failure is not None or 0 < evidence.steps_planned <= evidence.steps_completed
    so_far = "" if ended else " so far"
    intervals = sorted(evidence.intervals, key=lambda i: i.step)
    losses = {i.step: i.domain.loss for i in intervals}
    if 0 not in losses:
        return say(State.UNKNOWN, "Interval 0, the base model's evaluation, is missing.")
    if evidence.missing_intervals:
        return say(State.UNKNOWN, _missing(evidence))
    finite = {step: loss for step, loss in losses.items() if loss is not None and math.isfinite(loss)}
    bad = [step for step in losses if step not in finite]
    if bad:
        return say(State.UNKNOWN, f"The domain loss at step {bad[0]} is missing or not finite.")
    if len(finite) < thresholds.minimum_intervals:
        have, need = len(finite), thresholds.minimum_intervals
        return say(State.UNKNOWN, f"{have} of at least {need} intervals{so_far}.")
    if best_step is None or best_step not in finite:
        return say(State.UNKNOWN, f"No best interval can be told from the intervals{so_far}.")

    slope = 1000 * theil_sen(list(finite), list(finite.values()))
    trend = f"the domain loss changes by {slope:+.4f} {_SLOPE_UNIT}"
    change = f"{finite[0]:.4f} at step 0, {finite[best_step]:.4f} at the best interval (step {best_step})"
    if slope >= 0:
        return say(State.FAIL, f"The domain loss does not fall: {trend}; {change}.", slope)
    if finite[best_step] >= finite[0]:
        return say(State.FAIL, f"The best interval has no lower domain loss than the base model: {change}.", slope)
    return say(State.PASS, f"Over {len(finite)} intervals {trend}; {change}.", slope)


def _missing(evidence: Evidence) -> str:
    steps = ", ".join(map(str, evidence.missing_intervals[:5]))
    return f"The run was to be evaluated at step {steps} too, and of that there is no interval."


def stability(evidence: Evidence, thresholds: Thresholds) -> Criterion:
    """Domain WER spans little over the last intervals, late enough and over enough steps."""
    limit = thresholds.stability_range_pp

    def say(state: State, reason: str, span: Fraction | None = None) -> Criterion:
        value = None if span is None else float(span)
        return Criterion("stability", "Stability", state, value, limit, POINTS, reason)

    need, done = thresholds.stability_intervals, evidence.steps_completed
    if done < thresholds.stability_min_steps:
        least = thresholds.stability_min_steps
        return say(State.UNKNOWN, f"{done} steps completed; stability is judged from {least} steps on.")
    if evidence.missing_intervals:
        return say(State.UNKNOWN, _missing(evidence))
    last = trained_intervals(evidence)[-need:]
    if len(last) < need:
        return say(State.UNKNOWN, f"{len(last)} of the {need} intervals after step 0 that it takes.")
    covered = last[-1].step - last[0].step
    share = points(thresholds.stability_min_share)
    if evidence.steps_planned <= 0 or Fraction(covered, evidence.steps_planned) < share:
        planned = evidence.steps_planned
        reason = f"The last {need} intervals cover {covered} of {planned} steps, less than {float(share):.0%}."
        return say(State.UNKNOWN, reason)
    wers = [wer_points(i.domain.counts) for i in last]
    known = [wer for wer in wers if wer is not None]
    if len(known) < need or len({i.domain.counts.reference_words for i in last}) > 1:
        return say(State.UNKNOWN, f"The last {need} intervals were not scored on the same domain words.")
    span = max(known) - min(known)
    where = f"over steps {last[0].step} to {last[-1].step}"
    reason = f"Domain WER spans {float(span):.2f} points {where}; at most {limit:g} is stable."
    return say(State.PASS if span <= points(limit) else State.FAIL, reason, span)


def integrity(evidence: Evidence) -> Criterion:  # noqa: PLR0911 - one return a case
    """The tuned score came from lora_adapter_best as it is on disk now."""

    def say(state: State, reason: str) -> Criterion:
        return Criterion("integrity", "Artifact integrity", state, None, None, "", reason)

    artifact = evidence.artifact
    if evidence.signature_problem is not None:
        return say(State.FAIL, f"The run's signature does not hold: {evidence.signature_problem}.")
    if artifact is None or (artifact.scored_hash is None and artifact.scored_step is None):
        return say(
            State.UNKNOWN,
            "There is no tuned score yet: `lora-cli evaluate` has not scored lora_adapter_best.",
        )
    if artifact.current_hash is None:
        return say(State.UNKNOWN, "lora_adapter_best is missing or cannot be read.")
    if artifact.scored_hash is None:
        return say(State.UNKNOWN, "The tuned score does not say which adapter it came from.")
    if artifact.scored_hash != artifact.current_hash:
        then, now = artifact.scored_hash[:12], artifact.current_hash[:12]
        return say(State.FAIL, f"lora_adapter_best has changed since it was scored: {then} then, {now} now.")
    if artifact.scored_step is None or artifact.best_step is None:
        return say(State.UNKNOWN, "The step of the scored adapter or of lora_adapter_best is not known.")
    if artifact.scored_step != artifact.best_step:
        steps = f"step {artifact.scored_step} was scored, lora_adapter_best is step {artifact.best_step}"
        return say(State.FAIL, f"The tuned score is of another adapter: {steps}.")
    if evidence.contradiction is not None:
        return say(State.FAIL, f"The run's files contradict each other: {evidence.contradiction}.")
    if evidence.unproven is not None:
        return say(State.UNKNOWN, f"The scores cannot be believed: {evidence.unproven}.")
    return say(State.PASS, f"Step {artifact.scored_step} was scored from disk; hash {artifact.current_hash[:12]}.")
