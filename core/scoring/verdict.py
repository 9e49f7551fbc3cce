"""The verdict on a run: six criteria and those on slices, what they add up to, and which interval is the best. Pure.

It also says which thresholds of a gate are weaker than the defaults: whoever loosens a gate may have good reasons, and
whoever reads an accepted run must see that it was done. And whether a run that goes on can be given up already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from core.scoring import criteria
from core.scoring import criteria as wer_criteria
from core.scoring.criteria import lighter_points, parity, points, rise_points, spelling, theil_sen, wer_points
from core.scoring.evidence import (
    Criterion,
    Decision,
    Evidence,
    Interval,
    SetScore,
    SliceRule,
    State,
    Thresholds,
    Verdict,
)
from core.scoring.reserve import reserve
from core.scoring.served import runtime_parity
from core.scoring.slices import rules_of, slice_criteria
from core.scoring.units import ErrorCounts, Unit

WEAK_CONFIDENCE = 0.8
"""A confidence up to this lets one wrong decision in five through, and still looks like a promise."""
_SENTENCE = "by a gate looser than the default: "


def loosened(thresholds: Thresholds) -> tuple[str, ...]:
    """A phrase for each threshold that is weaker than its default, in the order of the criteria; none: empty."""
    default, least = Thresholds(), SliceRule(by="").min_utterances
    # Asked the other way round, so that what is no number is weaker, too.
    weaker = [
        (
            not thresholds.domain_gain_pp >= default.domain_gain_pp,
            f"gain ≥ {thresholds.domain_gain_pp:g} instead of {default.domain_gain_pp:.1f}",
        ),
        (
            not thresholds.heldout_regression_pp <= default.heldout_regression_pp,
            f"regression ≤ {thresholds.heldout_regression_pp:g} instead of {default.heldout_regression_pp:.1f}",
        ),
        (
            thresholds.confidence is not None and not thresholds.confidence > WEAK_CONFIDENCE,
            f"{_percent(thresholds.confidence)} confidence, above {_percent(WEAK_CONFIDENCE)} is sound",
        ),
        (
            not thresholds.stability_range_pp <= default.stability_range_pp,
            f"stability within {thresholds.stability_range_pp:g} points instead of {default.stability_range_pp:.1f}",
        ),
        (
            not thresholds.stability_intervals >= default.stability_intervals,
            f"stability over {thresholds.stability_intervals} intervals instead of {default.stability_intervals}",
        ),
        (
            not thresholds.stability_min_steps >= default.stability_min_steps,
            f"stability after {thresholds.stability_min_steps} steps instead of {default.stability_min_steps}",
        ),
        (
            thresholds.confidence is not None and thresholds.block_by != default.block_by,
            f"sure by {thresholds.block_by} instead of {default.block_by}",
        ),
        (
            thresholds.confidence is not None and thresholds.unknown_speakers is not None,
            f"speakers unknown ({thresholds.unknown_speakers})",
        ),
        (
            thresholds.unknown_speakers is not None,
            f"other speakers unknown, accepted ({thresholds.unknown_speakers})",
        ),
        (thresholds.accept_leakage is not None, f"leakage accepted ({thresholds.accept_leakage})"),
    ]
    slices = [
        (
            not rule.min_utterances >= least,
            f"slices by {rule.by} of {rule.min_utterances} utterances instead of {least}",
        )
        for rule in thresholds.slices
    ]
    return tuple(phrase for weak, phrase in [*weaker, *slices] if weak)


def loosened_words(phrases: tuple[str, ...]) -> str:
    """`by a gate looser than the default: gain ≥ 0.1 instead of 1.0`, or nothing."""
    return _SENTENCE + ", ".join(phrases) if phrases else ""


def _percent(confidence: float | None) -> str:
    return "no" if confidence is None else f"{100 * confidence:g} %"


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
        "selection_confidence": "selection_confidence",
        "normaliser_chosen": "normaliser_chosen",
        "runtime": "runtime",
    }
    given: dict[str, Any] = {field: gate[key] for key, field in names.items() if key in gate}
    confidence = gate.get("confidence", POINT)
    given["slices"] = rules_of(gate.get("slice") or ())
    reason = gate.get("accept_leakage")
    said, _, unknown = str(gate.get("speakers") or "").partition(":")
    return Thresholds(
        **given,
        confidence=None if confidence == POINT else float(confidence),
        unit=Unit(gate.get("unit", Unit.WORD)),
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

    if evidence.choice is not None:
        guardrail_kept = evidence.choice.kept

    convergence = criteria.convergence(evidence, thresholds, best_step)
    judged: tuple[Criterion, ...] = (
        convergence,
        criteria.stability(evidence, thresholds),
        criteria.integrity(evidence),
        wer_criteria.domain_gain(evidence, thresholds, convergence),
        wer_criteria.heldout(evidence, thresholds, convergence, guardrail_kept),
        parity(evidence, thresholds),
        *(() if thresholds.runtime is None else (runtime_parity(evidence, thresholds, convergence, guardrail_kept),)),
        *slice_criteria(evidence, thresholds, convergence),
    )
    if evidence.reserve is not None:
        judged = (*judged, reserve(evidence, thresholds, convergence, judged))
    weaker = loosened(thresholds)
    remarks = (
        *((f"Judged {loosened_words(weaker)}.",) if weaker else ()),
        *spelling(evidence, thresholds),
        *lighter_points(evidence, thresholds),
    )
    decision = _decide(evidence, judged)
    chosen = None if evidence.chosen is None else evidence.chosen.name
    return Verdict(judged, decision, best_step, guardrail_kept, weaker, remarks, evidence.broke_down, chosen)


def _decide(evidence: Evidence, judged: Sequence[Criterion]) -> Decision:
    states = {c.state for c in judged}
    if evidence.failure is not None or State.FAIL in states:
        return Decision.REJECTED
    return Decision.UNDECIDED if State.UNKNOWN in states else Decision.ACCEPTED


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """`gate.early_stop` and `gate.early_stop_intervals`, and `gate.unit`, by which errors are counted."""

    regression_pp: float
    """Heldout WER may rise by at most this, in points."""
    intervals: int
    """In how many intervals in a row it must be worse."""
    unit: Unit = Unit.WORD


def early_stop_of(gate: Mapping[str, Any], *, comes_back: bool = False) -> EarlyStop | None:
    """The rule in a `[gate]` (as in `run.json`); None: it is off.

    `comes_back`: the run interpolates with the base model in the end, so that what it forgets by then rejects nothing.
    """
    limit = gate.get("early_stop")
    if limit is None:
        return None
    limit = math.inf if comes_back else float(limit)
    return EarlyStop(limit, int(gate.get("early_stop_intervals", 3)), Unit(gate.get("unit", Unit.WORD)))


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
        return (
            f"heldout {rule.unit.rate} rose by more than {rule.regression_pp:g} points {where}, at last by {rise:.2f}"
        )
    if all(_worse(interval.domain, base.domain) for interval in last):
        return f"the domain loss was above the base model's {where}"
    return None


def _worse(score: SetScore, base: SetScore) -> bool:
    return score.loss is not None and base.loss is not None and score.loss > base.loss
