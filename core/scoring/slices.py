"""Further criteria on parts of the evaluation sets (`[[gate.slice]]`): by duration, speaker or another field. Pure.

Each rule gives one criterion a set. It passes when all its slices do, fails when one fails, and is unknown while one
has too few utterances. An average may hide the speaker whom the adapter broke.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from core.scoring.certainty import SliceScore
from core.scoring.criteria import obstacle, points, sure
from core.scoring.evidence import Criterion, Evidence, SliceRule, State, Thresholds
from core.scoring.signs import signed

_TITLES = {"domain": "Domain by", "heldout": "Heldout by"}
_NAMES = {"domain": "domain_gain by", "heldout": "heldout by"}
MOST_SLICES, MOST_VALUES, MOST_EDGES = 50, 500, 20
"""Entries of `[[gate.slice]]`, and of their `values` and `edges`: each slice is weighed for itself, and
ten thousand take seconds."""
_SHOWN = 3
"""Slices that a reason names."""
_WORDS = {State.FAIL: "fail", State.UNKNOWN: "unknown", State.PASS: "pass"}
"""In the order of what decides."""


def rules_of(entries: Iterable[Mapping[str, Any]]) -> tuple[SliceRule, ...]:
    """The rules in `[[gate.slice]]`, as in `run.json`. ValueError for what is missing, or too many."""
    found = list(entries)
    if len(found) > MOST_SLICES:
        raise ValueError(f"{len(found)} slices, and there may be {MOST_SLICES}")
    for number, entry in enumerate(found, 1):
        for key, most in (("values", MOST_VALUES), ("edges", MOST_EDGES)):
            if len(entry.get(key) or ()) > most:
                raise ValueError(f"slice {number} has {len(entry[key])} {key}, and may have {most}")
        for key in ("by", "min_utterances"):
            if key not in entry:
                raise ValueError(f"slice {number} has no {key}")
    return tuple(
        SliceRule(
            by=str(entry["by"]),
            values=tuple(entry.get("values") or ()),
            edges=tuple(entry.get("edges") or ()),
            domain_gain_pp=entry.get("domain_gain"),
            heldout_regression_pp=entry.get("heldout_regression"),
            min_utterances=int(entry["min_utterances"]),
        )
        for entry in found
    )


def sliced(rule: SliceRule, utterances: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """The places of the utterances of each slice, by its label. Utterances without the field are in none."""
    found: dict[str, list[int]] = {f"{rule.by} {value}": [] for value in rule.values}
    found |= {_bucket(rule.edges, edge): [] for edge in (0.0, *rule.edges)} if rule.by == "duration" else {}
    for place, utterance in enumerate(utterances):
        label = _label(rule, utterance)
        if label is not None and (label in found or not rule.values):
            found.setdefault(label, []).append(place)
    return dict(sorted(found.items())) if rule.by != "duration" else found


def _label(rule: SliceRule, utterance: Mapping[str, Any]) -> str | None:
    if rule.by == "duration":
        seconds = utterance.get("seconds")
        return _bucket(rule.edges, float(seconds)) if isinstance(seconds, (int, float)) else None
    source = utterance if rule.by in ("speaker", "channel") else utterance.get("fields") or {}
    value = source.get(rule.by)
    return None if value is None else f"{rule.by} {value}"


def _bucket(edges: Sequence[float], seconds: float) -> str:
    low = max((edge for edge in edges if edge <= seconds), default=None)
    high = min((edge for edge in edges if edge > seconds), default=None)
    if low is None:
        return f"under {high:g} s"
    return f"{low:g} s and more" if high is None else f"{low:g} to {high:g} s"


def slice_criteria(evidence: Evidence, thresholds: Thresholds, convergence: Criterion) -> tuple[Criterion, ...]:
    """One criterion for each rule and each set that it has a threshold for."""
    return tuple(
        _criterion(number, dataset, threshold, evidence, thresholds, convergence)
        for number, rule in enumerate(thresholds.slices)
        for dataset in _TITLES
        if (threshold := rule.threshold(dataset)) is not None
    )


def _criterion(
    number: int, dataset: str, limit: float, evidence: Evidence, thresholds: Thresholds, convergence: Criterion
) -> Criterion:
    rule = thresholds.slices[number]
    name = f"{_NAMES[dataset]} {rule.by}"
    title = f"{_TITLES[dataset]} {rule.by}"
    if evidence.uncounted is not None:
        return Criterion(name, title, State.UNKNOWN, None, limit, "points", f"{evidence.uncounted}.")
    if evidence.significance is None:
        reason = f"The slices of {dataset} are not known: there is no valid tuned score, or its texts are not there."
        return Criterion(name, title, State.UNKNOWN, None, limit, "points", reason)
    scores = [item for item in evidence.significance.slices if (item.rule, item.dataset) == (number, dataset)]
    if not scores:
        return Criterion(name, title, State.UNKNOWN, None, limit, "points", f"No utterance of {dataset} has {rule.by}.")
    judged = sorted((_judge(item, rule, limit, thresholds, len(scores)) for item in scores), key=lambda j: j.order)
    worst = judged[0]
    counts = {state: sum(item.state is state for item in judged) for state in State}
    told = [f"{count} {word}" for state, word in _WORDS.items() if (count := counts[state])]
    named = " ".join(item.reason for item in judged[:_SHOWN] if item.state is worst.state)
    reason, state = f"{len(judged)} slices by {rule.by}: {', '.join(told)}. {named}", worst.state
    unsound = obstacle(evidence, thresholds)
    if convergence.state is not State.PASS:
        unsound = f"convergence {'failed' if convergence.state is State.FAIL else 'is unknown'}"
    if unsound:
        state, reason = State.UNKNOWN, f"{reason} Not valid: {unsound}."
    change = _change(worst.score)
    value = None if change is None else float(change)
    return Criterion(name, title, state, value, limit, "points", reason, worst.score.certainty)


@dataclass(frozen=True, slots=True)
class _Judged:
    """One slice by one threshold."""

    score: SliceScore
    state: State
    spare: Fraction | float
    """Points that it is better than the threshold."""
    reason: str

    @property
    def order(self) -> tuple[int, Fraction | float]:
        """The worst first."""
        return list(_WORDS).index(self.state), self.spare


def _judge(score: SliceScore, rule: SliceRule, limit: float, thresholds: Thresholds, slices: int) -> _Judged:
    change = _change(score)
    who = score.label[:1].upper() + score.label[1:]
    if score.utterances < rule.min_utterances or change is None:
        more = rule.min_utterances - score.utterances
        need = f"{more} more are needed" if more > 0 else f"it has no reference {thresholds.unit.plural}"
        return _Judged(score, State.UNKNOWN, 0.0, f"{who}: {score.utterances} utterances, {need}.")
    gain = score.dataset == "domain"
    spare = change - points(limit) if gain else points(limit) - change
    state, extra = sure(spare >= 0, score.certainty, thresholds, slices)
    before, after = (100 * errors / score.words for errors in (score.before, score.after))
    rise = signed(after - before)
    figures = f"{who}: {thresholds.unit.rate} {before:.2f} → {after:.2f} %, a change of {rise} points."
    return _Judged(score, state, spare, f"{figures}{extra}")


def _change(score: SliceScore) -> Fraction | None:
    """The gain on domain, the rise on heldout, in points."""
    if score.words <= 0:
        return None
    rise = Fraction(100 * (score.after - score.before), score.words)
    return -rise if score.dataset == "domain" else rise
