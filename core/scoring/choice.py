"""Which candidate a run ships: chosen on two sets that nothing is judged on. Pure.

A candidate is an adapter that the run could ship. The one with the largest gain on the selection set is taken, among
those whose error rate on the heldout selection set keeps the guardrail with a stated confidence. Choosing at the
threshold by the point estimate takes whichever candidate chance was kindest to: of many it is usually one that does not
keep it elsewhere. How sure that is follows from a paired jackknife over speakers, or over utterances where speakers are
not known (`core.scoring.significance.over_blocks`), and Student's t. Nothing is widened by one more change, as a
verdict is: a choice decides nothing, and is judged on other sets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from core.scoring.criteria import points
from core.scoring.evidence import Choice, Standing, Thresholds
from core.scoring.significance import PairedErrors, Units, over_blocks, student_below, units_of
from core.scoring.signs import signed

_TIE = 1e-9
"""Of a probability: processors differ in its last digits, and must choose alike."""


@dataclass(frozen=True, slots=True)
class SetErrors:
    """One set scored with one model; by utterance, in the manifest's order."""

    words: tuple[int, ...]
    """Reference words (or characters, by the gate's unit)."""
    errors: tuple[int, ...]
    blocks: tuple[str | None, ...]
    """The speaker of each, or the value of the field that the gate blocks by."""
    loss: float | None = None
    """Cross-entropy in nats per target token."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate, or the base model, scored on both selection sets."""

    name: str
    """The name of its folder; of candidates that are equal in all else, the first name is chosen."""
    selection: SetErrors
    selection_heldout: SetErrors


def choose(baseline: Scored, candidates: Sequence[Scored], thresholds: Thresholds) -> Choice:
    """The candidate with the largest gain among those that keep the guardrail with `selection_confidence`.

    Where gains are equal: the lower loss on the heldout selection set, which says more than a few words do, then the
    likelier one to keep the guardrail, then the first name. Where none keeps it: the likeliest one to keep it of those
    that gain as much as the gate asks for, else of those that gain anything, else of all. A candidate whose loss is no
    number is passed over. ValueError where a set has no reference words, or is not the baseline's utterances.
    """
    known = sorted((one for one in candidates if _is_sound(one)), key=lambda one: one.name)
    if not known:
        return Choice(None, None, "There is no candidate to choose from.")
    found = {one.name: _standing(baseline, one, thresholds) for one in known}
    gains = {one.name: _gain(baseline, one) for one in known}
    level = thresholds.selection_confidence
    # The run's own thresholds choose, those of the gate judge: which these are is said where they are used.
    guardrail = f"the guardrail of {thresholds.heldout_regression_pp:g} points"
    keeping = [name for name, one in found.items() if one.keeps >= level - _TIE]
    standings = tuple(found.values())

    def loss(name: str) -> float:
        rise = found[name].loss_rise
        return math.inf if rise is None else rise

    def likelihood(name: str) -> float:
        return round(-found[name].keeps, 9)

    if keeping:
        best = min(keeping, key=lambda name: (-gains[name], loss(name), likelihood(name), name))
        why = (
            f"{best} gains most on data.selection ({signed(-found[best].gain_pp)} points) of the {len(keeping)} of "
            f"{len(known)} candidates that keep {guardrail} on data.selection_heldout with {_percent(level)} "
            f"confidence ({signed(found[best].rise_pp)} points, {_percent(found[best].keeps)} sure)."
        )
        return Choice(best, True, why, standings)
    enough = [name for name in found if gains[name] >= points(thresholds.domain_gain_pp)]
    some = [name for name in found if gains[name] > 0]
    among = enough or some or list(found)
    best = min(among, key=lambda name: (likelihood(name), -gains[name], loss(name), name))
    why = (
        f"None of {len(known)} candidates keeps {guardrail} on data.selection_heldout with {_percent(level)} "
        f"confidence: {best} is the likeliest to, {_percent(found[best].keeps)} sure "
        f"({signed(found[best].rise_pp)} points), with {signed(-found[best].gain_pp)} points on data.selection."
    )
    return Choice(best, False, why, standings)


def _is_sound(one: Scored) -> bool:
    losses = (one.selection.loss, one.selection_heldout.loss)
    return all(loss is None or math.isfinite(loss) for loss in losses)


def _standing(baseline: Scored, one: Scored, thresholds: Thresholds) -> Standing:
    heldout, base = one.selection_heldout, baseline.selection_heldout
    units = _units(base, heldout)
    rise = float(units.points[0])
    error, degrees = over_blocks(units)
    distance = thresholds.heldout_regression_pp - rise
    # With no spread at all, which one word's change rules out, the point would be all there is.
    keeps = student_below(distance / error, degrees) if error > 0 else float(distance >= 0)
    loss_rise = None if heldout.loss is None or base.loss is None else heldout.loss - base.loss
    return Standing(one.name, float(_gain(baseline, one)), rise, keeps, loss_rise)


def _gain(baseline: Scored, one: Scored) -> Fraction:
    base, own = baseline.selection, one.selection
    _check(base, own)
    return Fraction(100 * (sum(base.errors) - sum(own.errors)), sum(base.words))


def _units(base: SetErrors, own: SetErrors) -> Units:
    """The rise by speakers if there are two at least, else by utterances: each is a block then."""
    _check(base, own)
    words, before, after = (np.array(row, dtype=np.float64) for row in (base.words, base.errors, own.errors))
    blocks = None if None in base.blocks else [str(name) for name in base.blocks]
    errors = PairedErrors(words, before, after, np.zeros((0, len(words))), blocks)
    units = units_of(errors)
    if units.blocked:
        return units
    # Utterances without words cannot be weighed, and change nothing but their insertions.
    alone = PairedErrors(words, before, after, np.zeros((0, len(words))), [str(i) for i in range(len(words))])
    return units_of(alone)


def _check(base: SetErrors, own: SetErrors) -> None:
    if base.words != own.words:
        raise ValueError("a candidate was scored on other utterances than the base model")
    if not sum(base.words):
        raise ValueError("a selection set has no reference words")


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
