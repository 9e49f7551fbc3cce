"""The six criteria of the gate, each PASS, FAIL or UNKNOWN with its number and one sentence. Pure.

They are convergence, stability, artifact integrity, domain gain and heldout regression, and parity: that the score of
the adapter on disk, made by another process, equals the trainer's own. The criteria on WER go by the point estimate or
by how sure it is; they are UNKNOWN while the data or the way their texts were written forbid to judge a WER at all.

WER differences are exact fractions of the error counts, so that a gain of exactly the threshold passes,
whatever floating point would make of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from statistics import median

from core.scoring.certainty import Certainty, more, nobody, plural
from core.scoring.certainty import probability as in_percent
from core.scoring.data_health import data_obstacle, leak_sentence
from core.scoring.evidence import Criterion, Evidence, Interval, Parity, State, Thresholds, best_scores, caps_obstacle
from core.scoring.signs import limit as shown_limit
from core.scoring.signs import signed
from core.scoring.spelling import spelling_remarks
from core.scoring.units import ErrorCounts, Unit, joined_sentence

POINTS = "points"
_SLOPE_UNIT = "nats per 1000 steps"
SIGNS = {"domain_gain": "≤", "heldout": "≤", "stability": "≤", "convergence": "<", "parity": "≤"}
"""What is shown between number and threshold of a criterion that passes, by its kind; of domain the change is shown."""


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
    best, _ = best_scores(evidence, best_step)
    best_loss = None if best is None else best.loss
    if best_step is None or best_loss is None or not math.isfinite(best_loss):
        return say(State.UNKNOWN, f"No best interval can be told from the intervals{so_far}.")

    slope = 1000 * theil_sen(list(finite), list(finite.values()))
    trend = f"the domain loss changes by {signed(slope, 4)} {_SLOPE_UNIT}"
    where = f"at the best interval (step {best_step})" if evidence.chosen is None else f"of {evidence.chosen.name}"
    change = f"{finite[0]:.4f} at step 0, {best_loss:.4f} {where}"
    if slope >= 0:
        return say(State.FAIL, f"The domain loss does not fall: {trend}; {change}.", slope)
    if best_loss >= finite[0]:
        what = "The best interval" if evidence.chosen is None else "The candidate"
        return say(State.FAIL, f"{what} has no lower domain loss than the base model: {change}.", slope)
    return say(State.PASS, f"Over {len(finite)} intervals {trend}; {change}.", slope)


def _missing(evidence: Evidence) -> str:
    steps = ", ".join(map(str, evidence.missing_intervals[:5]))
    return f"The run was to be evaluated at step {steps} too, and of that there is no interval."


def stability(  # noqa: PLR0911 - one return a case
    evidence: Evidence, thresholds: Thresholds
) -> Criterion:
    """Domain WER spans little over the last intervals, late enough and over enough steps."""
    limit = thresholds.stability_range_pp

    def say(state: State, reason: str, span: Fraction | None = None) -> Criterion:
        value = None if span is None else float(span)
        return Criterion("stability", "Stability", state, value, limit, POINTS, reason)

    need, done = thresholds.stability_intervals, evidence.steps_completed
    if done < thresholds.stability_min_steps:
        least = thresholds.stability_min_steps
        never = 0 < evidence.steps_planned < least
        count = f"{evidence.steps_planned} steps are planned" if never else f"{done} steps completed"
        return say(State.UNKNOWN, f"{count}; stability is judged from {least} steps on.")
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
    if evidence.uncounted is not None:
        return say(State.UNKNOWN, f"{evidence.uncounted}.")
    wers = [wer_points(i.domain.counts) for i in last]
    known = [wer for wer in wers if wer is not None]
    if len(known) < need or len({i.domain.counts.reference_words for i in last}) > 1:
        return say(
            State.UNKNOWN, f"The last {need} intervals were not scored on the same domain {thresholds.unit.plural}."
        )
    span = max(known) - min(known)
    where = f"over steps {last[0].step} to {last[-1].step}"
    reason = f"Domain {thresholds.unit.rate} spans {float(span):.2f} points {where}; at most {limit:g} is stable."
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
    what = f"Step {artifact.scored_step}" if evidence.chosen is None else evidence.chosen.name
    return say(State.PASS, f"{what} was scored from disk; hash {artifact.current_hash[:12]}.")


def obstacle(evidence: Evidence, thresholds: Thresholds) -> str:
    """The first reason, without a full stop, or nothing."""
    leaks = data_obstacle(evidence.data_health, thresholds.accept_leakage)
    if leaks:
        return leaks
    if said := caps_obstacle(evidence.caps):
        return said
    for one in () if evidence.significance is None else evidence.significance.spelling:
        joined = joined_sentence(one.dataset, one.joined, one.utterances) if thresholds.unit is Unit.WORD else None
        if joined:
            return joined
    if not thresholds.normaliser_chosen and (remarks := spelling(evidence, thresholds)):
        return (
            f"{remarks[0].removesuffix('.')}: say which spelling counts with data.normaliser in the plan "
            "(`digits` takes number words and digits for the same; docs/data.md)"
        )
    return ""


def spelling(evidence: Evidence, thresholds: Thresholds) -> tuple[str, ...]:
    """A sentence for each way in which spelling may be what the WERs show, whether or not the plan chose one."""
    if evidence.significance is None:
        return ()
    return spelling_remarks(evidence.significance.spelling, thresholds.heldout_regression_pp, thresholds.unit)


def lighter_points(evidence: Evidence, thresholds: Thresholds) -> tuple[str, ...]:
    """A sentence where a guardrail is wider than it seems: characters are counted of texts that part their words."""
    if thresholds.unit is not Unit.CHARACTER or evidence.significance is None:
        return ()
    parted = [
        one.dataset
        for one in evidence.significance.spelling
        if joined_sentence(one.dataset, one.joined, one.utterances) is None
    ]
    if not parted:
        return ()
    said = f"Errors are counted in characters, though {' and '.join(parted)} texts part their words"
    return (f"{said}: the same mistakes are fewer points of CER than of a word error rate.",)


def _change(  # noqa: PLR0911 - one return a case
    dataset: str,
    evidence: Evidence,
    unit: Unit,
    convergence: Criterion,
    unsound: str,
) -> tuple[Fraction | None, str, str]:
    """(rise in points, the two rates in words, why the rise cannot be judged or "")."""
    if evidence.uncounted is not None:
        return None, "", f"{evidence.uncounted}."
    baseline, tuned = (
        (evidence.baseline_domain, evidence.tuned_domain)
        if dataset == "domain"
        else (evidence.baseline_heldout, evidence.tuned_heldout)
    )
    if baseline is None:
        return None, "", f"There is no valid baseline score of {dataset} yet."
    if tuned is None:
        return None, "", f"There is no valid tuned score of {dataset} yet."
    if baseline.reference_words != tuned.reference_words:
        words = f"{baseline.reference_words} and {tuned.reference_words} reference {unit.plural}"
        return None, "", f"Baseline and tuned score of {dataset} do not compare: {words}."
    rise = rise_points(baseline, tuned)
    if rise is None:
        return None, "", f"The {dataset} set has no reference {unit.plural}."
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
    limit, unit = thresholds.domain_gain_pp, thresholds.unit
    unsound, leakage = _leakage(evidence, thresholds)
    rise, figures, obstacle = _change("domain", evidence, unit, convergence, unsound)
    gain = None if rise is None else -rise
    state = State.UNKNOWN
    reason = obstacle
    certainty = evidence.significance.domain if evidence.significance is not None else None
    if gain is not None and not obstacle:
        state, said = sure(gain >= points(limit), certainty, thresholds)
        what = f"Domain {unit.rate} {figures}, a change of {signed(-gain)} points"
        reason = f"{what}; {shown_limit(-limit)} or less is asked for.{said}"
    reason += leakage
    value = None if gain is None else float(gain)
    return Criterion("domain_gain", "Domain change", state, value, limit, POINTS, reason, certainty)


def heldout(
    evidence: Evidence, thresholds: Thresholds, convergence: Criterion, guardrail_kept: bool | None
) -> Criterion:
    """Tuned WER on heldout is higher than the baseline's by at most the threshold."""
    limit, unit = thresholds.heldout_regression_pp, thresholds.unit
    unsound, leakage = _leakage(evidence, thresholds)
    rise, figures, obstacle = _change("heldout", evidence, unit, convergence, unsound)
    state = State.UNKNOWN
    reason = obstacle
    certainty = evidence.significance.heldout if evidence.significance is not None else None
    if rise is not None and not obstacle:
        state, said = sure(rise <= points(limit), certainty, thresholds)
        what = f"Heldout {unit.rate} {figures}, a change of {signed(rise)} points"
        reason = f"{what}; at most {limit:+g} is allowed.{said}"
    reason += leakage
    if evidence.choice is not None and evidence.choice.name is not None:
        reason += f" {evidence.choice.why}"
    elif guardrail_kept is False:
        reason += f" No interval kept the guardrail, so the best one is that of the lowest {unit.rate}."
    value = None if rise is None else float(rise)
    return Criterion("heldout", "Heldout change", state, value, limit, POINTS, reason, certainty)


def parity(evidence: Evidence, thresholds: Thresholds) -> Criterion:
    """The tuned score, made by another process, equals the trainer's own at that interval."""
    found = evidence.parity
    # Nothing is known yet: the score is usually made on the device that trained.
    same_device = found is None or found.same_device
    limit, unit = (0.0, "transcripts") if same_device else (thresholds.parity_pp, "points")

    def say(state: State, reason: str, value: float | None = None) -> Criterion:
        return Criterion("parity", "Parity", state, value, limit, unit, reason)

    if found is None:
        return say(State.UNKNOWN, "There is no tuned score to compare with the trainer's own.")
    delta, rate = _trainer_difference(evidence), thresholds.unit.rate
    differing = _sum(found.domain_transcripts_differing, found.heldout_transcripts_differing)
    value = _float(differing) if found.same_device else (None if delta is None else float(delta))

    failures, gaps = _fingerprints_and_singles(found, thresholds)
    if found.same_device:
        if differing is None:
            gaps.append("the transcripts of the two processes could not be compared")
        elif differing:
            failures.append(f"transcripts that differ from the trainer's own on the same device: {differing}")
        elif delta:
            failures.append(f"the transcripts agree, but {rate} differs by {float(delta):.2f} points")
    elif delta is not None and delta > points(thresholds.parity_pp):
        failures.append(f"{rate} differs by {float(delta):.2f} points from the trainer's own")
    if delta is None:
        missing = f"the trainer's own score at that interval is missing or of other {thresholds.unit.plural}"
        gaps.append(missing if evidence.uncounted is None else evidence.uncounted)

    if failures or gaps:
        state = State.FAIL if failures else State.UNKNOWN
        return say(state, _sentence(failures or gaps), value)
    where = "the same device" if found.same_device else "another device or precision"
    singles = f"{found.single_transcripts_compared} clips decoded one by one agree"
    same = "the same transcripts" if found.same_device else f"{rate} within {float(delta or 0):.2f} points"
    return say(State.PASS, f"On {where}, {same} as the trainer's own; {singles}.", value)


def _fingerprints_and_singles(found: Parity, thresholds: Thresholds) -> tuple[list[str], list[str]]:
    """(what fails, what is missing) of the normalisation fingerprints and the clips decoded one by one."""
    failures: list[str] = []
    gaps: list[str] = []
    if found.trainer_fingerprint is None or found.evaluator_fingerprint is None:
        gaps.append("a normalisation fingerprint is missing")
    elif found.trainer_fingerprint != found.evaluator_fingerprint:
        mine, theirs = found.trainer_fingerprint, found.evaluator_fingerprint
        told = f"their fingerprints differ: {mine} and {theirs}"
        failures.append(f"trainer and evaluation normalised differently ({told})")
    compared, differing = found.single_transcripts_compared, found.single_transcripts_differing
    need = thresholds.parity_single_clips
    if found.clips_available is not None:
        need = min(need, found.clips_available)
    if differing:
        failures.append(f"clips that give another transcript when decoded one by one: {differing} of {compared}")
    elif differing is None or compared < max(need, 1):
        gaps.append(f"{compared} of {need} clips were decoded one by one")
    return failures, gaps


def _trainer_difference(evidence: Evidence) -> Fraction | None:
    """The larger |ΔWER| of domain and heldout, in points, from the trainer's own score; None if unknown."""
    artifact, tuned_domain, tuned_heldout = evidence.artifact, evidence.tuned_domain, evidence.tuned_heldout
    if artifact is None or tuned_domain is None or tuned_heldout is None:
        return None
    pairs = zip(best_scores(evidence, artifact.scored_step), (tuned_domain, tuned_heldout), strict=True)
    deltas = [None if own is None else rise_points(own.counts, tuned) for own, tuned in pairs]
    known = [abs(delta) for delta in deltas if delta is not None]
    return max(known) if len(known) == len(deltas) else None


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _float(count: int | None) -> float | None:
    return None if count is None else float(count)


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:]
