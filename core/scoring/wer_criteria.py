"""The criteria on WER, domain gain and heldout regression: by the point estimate, or by how sure it is."""

from __future__ import annotations

from fractions import Fraction

from core.scoring.certainty import Certainty, more, nobody, plural
from core.scoring.certainty import probability as in_percent
from core.scoring.counts import ErrorCounts
from core.scoring.criteria import POINTS, points, rise_points
from core.scoring.data_health import leak_sentence
from core.scoring.evidence import Criterion, Evidence, State, Thresholds
from core.scoring.score_obstacle import obstacle


def _change(  # noqa: PLR0911 - one return a case
    dataset: str,
    baseline: ErrorCounts | None,
    tuned: ErrorCounts | None,
    convergence: Criterion,
    unsound: str,
) -> tuple[Fraction | None, str, str]:
    """(rise in points, the two WERs in words, why the rise cannot be judged or "")."""
    if baseline is None:
        return None, "", f"There is no valid baseline score of {dataset} yet."
    if tuned is None:
        return None, "", f"There is no valid tuned score of {dataset} yet."
    if baseline.reference_words != tuned.reference_words:
        words = f"{baseline.reference_words} and {tuned.reference_words} reference words"
        return None, "", f"Baseline and tuned score of {dataset} do not compare: {words}."
    rise = rise_points(baseline, tuned)
    if rise is None:
        return None, "", f"The {dataset} set has no reference words."
    figures = f"{baseline.wer_percent:.2f} → {tuned.wer_percent:.2f} %"
    if convergence.state is not State.PASS:
        word = "failed" if convergence.state is State.FAIL else "is unknown"
        return rise, figures, f"{figures} is not valid: convergence {word}."
    if unsound:
        return rise, figures, f"{figures} is not valid: {unsound}."
    return rise, figures, ""


def _leakage(evidence: Evidence, thresholds: Thresholds) -> tuple[str, str]:
    """(why the data leave no WER valid, or nothing; what the reason says of leakage that the plan accepts)."""
    accepted = thresholds.accept_leakage
    unsound = obstacle(evidence, thresholds)
    leaks = evidence.data_health.leaks if evidence.data_health is not None else ()
    return unsound, f" Leakage accepted by the plan ({accepted}): {leak_sentence(leaks)}." if leaks and accepted else ""


def sure(met: bool, certainty: Certainty | None, thresholds: Thresholds, among: int = 1) -> tuple[State, str]:
    """The state by the plan's policy, and what the reason says of it. `met`: by the point estimate.

    `among`: so many are judged, of which one FAIL is enough: each must then be that much surer (Bonferroni).
    """
    level = thresholds.confidence
    if level is None:
        return (State.PASS if met else State.FAIL), ""
    if certainty is None:
        return State.UNKNOWN, f" How sure that is cannot be told, and the plan asks for {in_percent(level)}."
    by, reason = certainty.block_by, thresholds.unknown_speakers
    if certainty.conditional and not reason:
        return State.UNKNOWN, (
            f" How sure that is for other {plural(by)} cannot be told: {nobody(certainty)}. Name the {by} of every "
            f'utterance, of two {plural(by)} at least, or say why that cannot be: gate.speakers = "unknown: reason".'
        )
    state, said = _by_probability(certainty, level, among)
    if certainty.conditional:
        said += f" It says nothing of other {plural(by)} ({nobody(certainty)}), accepted by the plan: {reason}."
    return state, said


def _by_probability(certainty: Certainty, level: float, among: int) -> tuple[State, str]:
    said = f" That it meets the threshold is {in_percent(certainty.probability)} sure"
    if certainty.probability >= level:
        return State.PASS, f"{said}; the plan asks for {in_percent(level)}."
    if certainty.probability <= (1 - level) / among:
        return State.FAIL, f"{said}."
    need = more(certainty)
    needs = f"; {need} would decide it" if need else ""
    return State.UNKNOWN, f"{said}: neither a PASS nor a FAIL at {in_percent(level)}{needs}."


def domain_gain(evidence: Evidence, thresholds: Thresholds, convergence: Criterion) -> Criterion:
    """Tuned WER on domain is lower than the baseline's by at least the threshold."""
    baseline, tuned, limit = evidence.baseline_domain, evidence.tuned_domain, thresholds.domain_gain_pp
    unsound, leakage = _leakage(evidence, thresholds)
    rise, figures, obstacle = _change("domain", baseline, tuned, convergence, unsound)
    gain = None if rise is None else -rise
    state = State.UNKNOWN
    reason = obstacle
    certainty = evidence.significance.domain if evidence.significance is not None else None
    if gain is not None and not obstacle:
        state, said = sure(gain >= points(limit), certainty, thresholds)
        reason = f"Domain WER {figures}, a gain of {float(gain):.2f} points; at least {limit:g} is asked for.{said}"
    reason += leakage
    value = None if gain is None else float(gain)
    return Criterion("domain_gain", "Domain gain", state, value, limit, POINTS, reason, certainty)


def heldout(
    evidence: Evidence, thresholds: Thresholds, convergence: Criterion, guardrail_kept: bool | None
) -> Criterion:
    """Tuned WER on heldout is higher than the baseline's by at most the threshold."""
    baseline, tuned, limit = (
        evidence.baseline_heldout,
        evidence.tuned_heldout,
        thresholds.heldout_regression_pp,
    )
    unsound, leakage = _leakage(evidence, thresholds)
    rise, figures, obstacle = _change("heldout", baseline, tuned, convergence, unsound)
    state = State.UNKNOWN
    reason = obstacle
    certainty = evidence.significance.heldout if evidence.significance is not None else None
    if rise is not None and not obstacle:
        state, said = sure(rise <= points(limit), certainty, thresholds)
        reason = f"Heldout WER {figures}, a change of {float(rise):+.2f} points; at most {limit:+g} is allowed.{said}"
    reason += leakage
    if guardrail_kept is False:
        reason += " No interval kept the guardrail, so the best one is that of the lowest WER."
    value = None if rise is None else float(rise)
    return Criterion("heldout", "Heldout regression", state, value, limit, POINTS, reason, certainty)
