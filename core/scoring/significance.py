"""How sure a WER difference is: a paired bootstrap over utterances or speakers (Bisani & Ney 2004). Pure, numpy only.

Each resample draws as many units as there are, with replacement, and takes base and tuned errors of each
together. Units with many words weigh more, as in the WER itself. Choosing the best interval on the set that
is reported flatters it: the choice is repeated inside each resample and scored inside it and out of bag.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from core.scoring.certainty import LEVEL, MINIMUM_BLOCKS

RESAMPLES = 10_000
CHOICES = 2_000
"""Resamples in which the choice of the interval is repeated: only a mean is taken over them."""
POWER = 0.8
"""Chance of a decision that `needed_units` counts for: the usual one of planning a trial."""
SEED = 1
_CHUNK_CELLS = 500_000
"""Cells (resamples × units) that are drawn at once: more would not fit into the processor's cache."""
_ROWS = 500
"""Resamples at once where several sets are drawn side by side."""
_CLUMP_WEIGHT = 4.0
"""Changed utterances that the base model's errors count as, in how large a change is."""
_TIE = 1e-9
"""Points within which a resample is on the threshold: counts are whole, their quotients are not."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PairedErrors:
    """One manifest scored with the base model and with others. Counts by utterance."""

    words: Floats
    """(utterances,) reference words."""
    before: Floats
    """(utterances,) errors of the base model."""
    after: Floats
    """(utterances,) errors of what is judged."""
    intervals: Floats
    """(intervals, utterances) errors at each interval that could have been chosen; may have no rows."""
    blocks: Sequence[str] | None = None
    """(utterances,) the speaker, or another field, of each; None where it is not known of all."""


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """What is resampled: utterances, or all of a speaker's utterances together."""

    words: Floats
    """(units,)"""
    rise: Floats
    """(1 + intervals, units) errors after minus before: of what is judged, then of each interval."""
    blocked: bool
    change: float = 1.0
    """Words by which an utterance that changed typically does: what one more, unseen, would add."""

    def __len__(self) -> int:
        return len(self.words)

    @property
    def points(self) -> Floats:
        """(1 + intervals,) how many points WER rose on the whole set."""
        return np.asarray(100 * self.rise.sum(axis=1) / self.words.sum())

    @property
    def margin_pp(self) -> float:
        """Points by which one more utterance that changed would move WER."""
        return float(100 * self.change / self.words.sum())


def units_of(errors: PairedErrors) -> Units:
    """Blocks if there are enough of them, else utterances. ValueError when there is nothing to resample."""
    if len(errors.words) < 2 or not errors.words.sum() > 0:
        raise ValueError("it takes at least two utterances, and reference words")
    rise = np.vstack([errors.after, errors.intervals]) - errors.before
    change = _typical_change(rise[0], errors.before)
    names = sorted(set(errors.blocks or ()))
    if errors.blocks is None or len(names) < MINIMUM_BLOCKS:
        return Units(errors.words, rise, False, change)
    index = {name: i for i, name in enumerate(names)}
    member = np.zeros((len(errors.words), len(names)))
    member[np.arange(len(errors.words)), [index[name] for name in errors.blocks]] = 1
    return Units(errors.words @ member, rise @ member, True, change)


def _typical_change(rise: Floats, before: Floats) -> float:
    """Words by which an utterance changes when it does (root mean square), at least one.

    Few changes say little of that: the errors of the base model, which come in the same clumps, count as some more.
    """
    changed, wrong = rise[rise != 0], before[before > 0]
    clump = float(np.mean(wrong**2)) if len(wrong) else 1.0
    mean = (float(np.sum(changed**2)) + _CLUMP_WEIGHT * clump) / (len(changed) + _CLUMP_WEIGHT)
    return max(1.0, math.sqrt(mean))


def draws(units: int, resamples: int, seed: Sequence[int], rows: int | None = None) -> Iterator[Floats]:
    """How often each unit is drawn: (resamples in the chunk, units), chunk by chunk of `rows`."""
    random = np.random.default_rng(list(seed))
    rows = rows or max(1, _CHUNK_CELLS // units)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = random.integers(0, units, size=(count, units), dtype=np.int32)
        drawn += (np.arange(count, dtype=np.int32) * units)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)


def rises(units: Units, resamples: int = RESAMPLES, seed: Sequence[int] = (SEED,)) -> Floats:
    """(resamples,) the rise in points in each resample, widened for small numbers of units.

    Two units are added to those drawn from, average but for one change (`Units.change`) for the better and one for
    the worse: a set on which nothing changed is no proof that nothing ever will. Deviations are widened as Student's
    t is beside the normal distribution (the expanded percentile interval, Hesterberg 2015).
    """
    words, rise = _with_change_either_way(units.words, units.rise[0], units.change)
    table = np.column_stack([words, rise])
    sums = np.vstack([drawn @ table for drawn in draws(len(words), resamples, seed)])
    point = float(units.points[0])
    return np.asarray(point + widening(len(units)) * (100 * sums[:, 1] / sums[:, 0] - point))


def _with_change_either_way(words: Floats, rise: Floats, change: float) -> tuple[Floats, Floats]:
    return np.append(words, [words.mean()] * 2), np.append(rise, [rise.mean() - change, rise.mean() + change])


def widening(units: int) -> float:
    """By how much a bootstrap over so many units, at least two, is too narrow."""
    degrees = units - 1
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    # The first terms of Student's quantile by the normal one (Abramowitz & Stegun 26.7.5).
    t = z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    return math.sqrt(units / degrees) * t / z


def optimism(
    domain: Units,
    heldout: Units,
    allowed_rise_pp: float,
    selection: Units | None = None,
    resamples: int = CHOICES,
    seed: Sequence[int] = (SEED,),
) -> tuple[float, float] | None:
    """By how many points of domain and of heldout the choice of the interval flatters it; negative: it does not.

    In each resample the best interval is chosen by the rule of `best_interval`, on `selection` if given, and scored
    on the resample and on the units that it left out. A unit's chance to be drawn and to be left out balance, so the
    two scores miss that of the whole set by equal amounts in opposite directions: half their difference is what the
    choice gained by the resample's chance. Where intervals are equals, the data's own chance has spread them already,
    and the resamples find only 1/√2 of what the choice gained by it: hence √2 / 2. Where they are no equals, that is
    on the safe side. None without intervals to choose from.
    """
    if len(domain.rise) < 2:
        return None
    sets = (domain, heldout) if selection is None else (domain, heldout, selection)
    inside, outside = np.zeros((2, 2)), np.zeros((2, 2))
    streams = (draws(len(units), resamples, [*seed, n], _ROWS) for n, units in enumerate(sets))
    for drawn in zip(*streams, strict=True):
        kept = _points(heldout, drawn[1]) <= allowed_rise_pp + _TIE
        # The set that is chosen on is the selection set, or else domain.
        wer = _points(domain, drawn[0]) if selection is None else _points(selection, drawn[2])
        # Those that keep the guardrail come before all others; argmin takes the earliest of equals.
        best = np.argmin(np.where(kept | ~kept.any(axis=1, keepdims=True), wer, np.inf), axis=1)
        for row, units in enumerate((domain, heldout)):
            inside[row] += _sums(units, drawn[row], best)
            outside[row] += _sums(units, (drawn[row] == 0).astype(np.float64), best)
    if not (outside[:, 1] > 0).all():
        return None
    gap = 100 * (outside[:, 0] / outside[:, 1] - inside[:, 0] / inside[:, 1])
    return float(gap[0] / math.sqrt(2)), float(gap[1] / math.sqrt(2))


def _sums(units: Units, weights: Floats, chosen: NDArray[np.intp]) -> tuple[float, float]:
    """(rise of the chosen interval, words) over all resamples."""
    rise = (weights @ units.rise[1:].T)[np.arange(len(chosen)), chosen]
    return float(rise.sum()), float((weights @ units.words).sum())


def _points(units: Units, drawn: Floats) -> Floats:
    """(resamples, intervals) how many points WER rose."""
    return np.asarray(100 * (drawn @ units.rise[1:].T) / np.maximum(drawn @ units.words, _TIE)[:, None])


def interval(distribution: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval that holds `level` of the resamples."""
    low, high = np.quantile(distribution, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share_up_to(distribution: Floats, threshold_pp: float) -> float:
    """The share of the resamples in which the difference is at most the threshold."""
    return float(np.mean(distribution <= threshold_pp + _TIE))


def probability_up_to(distribution: Floats, threshold_pp: float, margin_pp: float) -> float:
    """How sure it is that the difference is at most the threshold, with `margin_pp` against whichever side is likelier.

    Changes are counts, and few: as the exact limits of a count k are those of k and k + 1 (Clopper & Pearson 1934), one
    change more than was seen may not overturn what is said to be sure. The share is taken that much nearer to the
    threshold, but never beyond one half.
    """
    with_one_more = share_up_to(distribution, threshold_pp - margin_pp)
    with_one_less = share_up_to(distribution, threshold_pp + margin_pp)
    return min(max(0.5, with_one_more), with_one_less)


def needed_units(
    distribution: Floats,
    estimate_pp: float,
    threshold_pp: float,
    have: int,
    margin_pp: float = 0.0,
    level: float = LEVEL,
) -> int | None:
    """How many utterances a decision at `level` needs, to be made with a chance of `POWER`, were the estimate true.

    Of n utterances the spread is √(have / n), and the margin have / n, of what it is here; the distance from the
    threshold must hold the margin and the quantiles of decision and chance: a quadratic equation in √n. None: on it.
    """
    distance = abs(estimate_pp - threshold_pp)
    if distance < _TIE:
        return None
    normal = NormalDist()
    spread = (normal.inv_cdf(level) + normal.inv_cdf(POWER)) * float(np.std(distribution)) * math.sqrt(have)
    root = (spread + math.sqrt(spread**2 + 4 * distance * margin_pp * have)) / (2 * distance)
    return math.ceil(root**2) if math.isfinite(root) else None
