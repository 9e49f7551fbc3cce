"""The one sentence of where a run stands: would it ship, by how much, how sure is that, or why never. Pure.

`core.runs.headline` adds what only the queue and the run's process know. The numbers are those of the criteria.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from core.scoring.certainty import probability
from core.scoring.criteria import obstacle, points, rise_points, wer_points
from core.scoring.evidence import Criterion, Decision, Evidence, SetScore, State, Thresholds, Verdict, best_scores
from core.scoring.signs import signed
from core.scoring.standing import Stand, Standing
from core.scoring.units import ErrorCounts

_NONE_KEPT = "no interval keeps the guardrail"
_IN_FIGURES = ("domain_gain", "heldout")
"""The criteria that a reader looks for first."""
_MOST_REASONS = 2
"""Criteria that fail, of which the reasons are told."""


@dataclass(frozen=True, slots=True)
class Never:
    """What of a run stays unknown whatever comes, so that it cannot pass."""

    criteria: tuple[str, ...] = ()
    """Their names."""
    why: str = ""
    """Without a full stop; empty: there is nothing of the kind."""


def out_of_reach(steps: int, evaluated: Sequence[int], thresholds: Thresholds) -> Never:
    """What a run of so many steps can never meet. `evaluated`: the steps of its intervals after step 0."""
    if 0 < steps < thresholds.stability_min_steps:
        least = thresholds.stability_min_steps
        return Never(("stability",), f"{steps} of the {least} steps that stability asks for are planned")
    if steps <= 0 or not evaluated:
        return Never()
    have, need = len(evaluated), thresholds.stability_intervals
    if have + 1 < thresholds.minimum_intervals:
        least = thresholds.minimum_intervals - 1
        return Never(("convergence",), f"{have} of the {least} evaluations after step 0 that convergence asks for")
    if have < need:
        return Never(("stability",), f"{have} of the {need} evaluations after step 0 that stability asks for")
    covered = evaluated[-1] - evaluated[-need]
    if Fraction(covered, steps) < points(thresholds.stability_min_share):
        share = f"{thresholds.stability_min_share:.0%}".replace("%", " %")
        told = f"the last {need} evaluations cover {covered} of {steps} steps, stability asks for {share} of them"
        return Never(("stability",), told)
    return Never()


def outlook(
    evidence: Evidence,
    thresholds: Thresholds,
    verdict: Verdict,
    *,
    ended: bool,
    evaluated: Sequence[int] = (),
    chances: tuple[float, float] | None = None,
    candidates: int = 0,
) -> Standing:
    """Where a run stands. `ended`: the verdict is the last word; `evaluated`: steps of its planned intervals.

    `candidates`: averages and interpolations that it is still to make and to choose from, at its end.
    `chances`: of a run without a tuned score, that its best interval meets the thresholds of domain and of heldout.
    """
    if evidence.failure is not None:
        word = Stand.FAILED if verdict.failed else Stand.REJECTED
        return Standing(word, _phrase(evidence.failure), verdict.best_step)
    if verdict.decision is Decision.ACCEPTED:
        return Standing(
            Stand.SHIP, _figures(evidence, thresholds, verdict, _chances(evidence, None)), verdict.best_step
        )
    failing = [one for one in verdict.criteria if one.state is State.FAIL]
    failing.sort(key=lambda one: one.name not in _IN_FIGURES)
    if ended and failing:
        return Standing(Stand.REJECTED, _at_step(verdict, _because(failing, verdict)), verdict.best_step)
    if never := never_known(evidence, thresholds, evaluated).why:
        if verdict.best_step is not None and _changes(evidence, verdict) is not None:
            never += f"; {_which(verdict)} has {_figures(evidence, thresholds, verdict)}"
        return Standing(Stand.CANNOT_PASS, never, verdict.best_step)
    if ended:
        missing = next((one.reason for one in verdict.criteria if one.state is State.UNKNOWN), "")
        return Standing(Stand.UNDECIDED, _phrase(missing), verdict.best_step)
    return _so_far(evidence, thresholds, verdict, chances, candidates)


def never_known(evidence: Evidence, thresholds: Thresholds, evaluated: Sequence[int]) -> Never:
    """By which criteria the run stays undecided whatever comes, and why. `evaluated`: as of `out_of_reach`."""
    if (never := out_of_reach(evidence.steps_planned, evaluated, thresholds)).why:
        return never
    if evidence.data_health is not None and (reason := obstacle(evidence, thresholds)):
        return Never(_IN_FIGURES, reason)
    if evidence.missing_intervals:
        return Never(("convergence", "stability"), f"the evaluation at step {evidence.missing_intervals[0]} is missing")
    return Never()


def _so_far(
    evidence: Evidence,
    thresholds: Thresholds,
    verdict: Verdict,
    chances: tuple[float, float] | None,
    candidates: int,
) -> Standing:
    """Of a run that goes on."""
    step = verdict.best_step
    if not evidence.intervals:
        return Standing(Stand.EARLY, "the base model is not scored yet")
    if step is None or _changes(evidence, verdict) is None:
        return Standing(Stand.EARLY, "the adapter is not scored yet")
    meets = _meets(evidence, thresholds, verdict, chances)
    others = [one for one in verdict.criteria if one.state is State.FAIL and one.kind not in _IN_FIGURES]
    figures = _figures(evidence, thresholds, verdict, _chances(evidence, chances))
    if candidates and not others and meets is State.FAIL:
        chosen = f"{candidates} more candidate{'s are' if candidates > 1 else ' is'} made at its end"
        return Standing(Stand.OPEN, f"{_which(verdict)}, {figures}; {chosen}", step)
    if others or meets is State.FAIL:
        more = [_because(others, verdict)] if others else [_NONE_KEPT] if verdict.guardrail_kept is False else []
        return Standing(Stand.OFF_COURSE, "; ".join([f"{_which(verdict)}, {figures}", *more]), step)
    if meets is State.UNKNOWN:
        asked = probability(thresholds.confidence or 0.0)
        return Standing(Stand.OPEN, f"{_which(verdict)}, {figures}; the gate asks for {asked}", step)
    return Standing(Stand.ON_COURSE, f"{_which(verdict)} would ship, {figures}", step)


def _meets(evidence: Evidence, thresholds: Thresholds, verdict: Verdict, chances: tuple[float, float] | None) -> State:
    """Whether both changes meet their thresholds, by the point estimates or as sure as the gate asks for."""
    gain, rise = _changes(evidence, verdict) or (Fraction(0), Fraction(0))
    level, sure = thresholds.confidence, _chances(evidence, chances)
    if level is None:
        met = gain >= points(thresholds.domain_gain_pp) and rise <= points(thresholds.heldout_regression_pp)
        return State.PASS if met else State.FAIL
    if sure is None:
        return State.UNKNOWN
    if min(sure) >= level:
        return State.PASS
    return State.FAIL if min(sure) <= 1 - level else State.UNKNOWN


def _changes(evidence: Evidence, verdict: Verdict) -> tuple[Fraction, Fraction] | None:
    """(domain gain, heldout rise) in points, by the tuned score or else at the best interval."""
    domain, heldout = best_scores(evidence, verdict.best_step)
    base = next((i for i in evidence.intervals if i.step == 0), None)
    gain = _rise(evidence.baseline_domain, evidence.tuned_domain, base.domain if base else None, domain)
    rise = _rise(evidence.baseline_heldout, evidence.tuned_heldout, base.heldout if base else None, heldout)
    return None if gain is None or rise is None else (-gain, rise)


def _rise(
    before: ErrorCounts | None, after: ErrorCounts | None, base: SetScore | None, best: SetScore | None
) -> Fraction | None:
    if before is None and base is not None:
        before = base.counts
    if after is None and best is not None:
        after = best.counts
    if before is None or after is None or wer_points(before) is None:
        return None
    return rise_points(before, after)


def _chances(evidence: Evidence, chances: tuple[float, float] | None) -> tuple[float, float] | None:
    """That domain and heldout meet their thresholds; of the tuned score where there is one."""
    found = evidence.significance
    return chances if found is None else (found.domain.probability, found.heldout.probability)


def _figures(
    evidence: Evidence, thresholds: Thresholds, verdict: Verdict, chances: tuple[float, float] | None = None
) -> str:
    """`domain −1.67, heldout +0.12 (0.08 to spare), 64 % chance that both limits hold`.

    `chances`: that domain and heldout meet their thresholds, of which the smaller is told: more than that both do
    cannot be. None: nothing is told of it, as of a run that cannot pass, where it would read as the chance to pass.
    """
    changes = _changes(evidence, verdict)
    if changes is None:
        return "its figures are not known"
    gain, rise = changes
    short = float(points(thresholds.domain_gain_pp) - gain)
    spare = float(points(thresholds.heldout_regression_pp) - rise)
    parts = [
        f"domain {signed(-gain)}" + (f" ({short:.2f} short)" if short > 0 else ""),
        f"heldout {signed(rise)} ({abs(spare):.2f} {'to spare' if spare >= 0 else 'too much'})",
    ]
    if chances is not None:
        parts.append(f"{_percent(min(chances))} chance that both limits hold")
    return ", ".join(parts)


def _percent(chance: float) -> str:
    """`64 %`; of what is all but sure, or all but impossible, with decimals."""
    return f"{100 * chance:.0f} %" if 0.01 <= chance < 0.985 else probability(chance)


def _at_step(verdict: Verdict, text: str) -> str:
    return text if verdict.best_step is None else f"{_which(verdict)}: {text}"


def _which(verdict: Verdict) -> str:
    return f"step {verdict.best_step}" if verdict.chosen is None else verdict.chosen


def _because(failing: Sequence[Criterion], verdict: Verdict) -> str:
    """What fails, the WER criteria in figures."""
    said = [_failure(one) for one in failing[:_MOST_REASONS]]
    more = len(failing) - len(said)
    said += [f"{more} more criteria fail"] if more else []
    return "; ".join([*said, _NONE_KEPT] if verdict.guardrail_kept is False else said)


def _failure(criterion: Criterion) -> str:
    value, limit = criterion.value, criterion.threshold
    if value is None or limit is None or criterion.name not in _IN_FIGURES:
        return _phrase(criterion.reason)
    off = f"{abs(value - limit):.2f}"
    if criterion.name == "domain_gain":
        how = f"{off} short of the {limit:g} asked for" if value < limit else "and not sure enough"
        return f"domain {signed(-value)}, {how}"
    how = f"{off} more than the {limit:g} allowed" if value > limit else "and not sure enough"
    return f"heldout {signed(value)}, {how}"


def _phrase(sentence: str) -> str:
    """The sentence as the end of another: without its full stop, and no capital before a small letter."""
    text = sentence.strip().removesuffix(".")
    first, _, _ = text.partition(" ")
    return text[:1].lower() + text[1:] if first[1:].islower() or len(first) == 1 else text
