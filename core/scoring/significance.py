"""How sure a WER difference is: by speakers (a jackknife with Student's t) or by recordings (a paired bootstrap). Pure.

A *unit* is what is independent of the rest: all utterances of a speaker, or those of one recording where speakers are
not known. Base and tuned errors of a unit are taken together, and units with many words weigh more, as in the WER
itself (Bisani & Ney 2004). Recordings are many, and are resampled: as many as there are, with replacement. Speakers are
few, and a bootstrap of few units is too sure: their limits are Student's (`over_blocks`). Choosing the best interval
on the set that is reported flatters it: the choice is repeated inside each resample, scored inside it and out of bag.

Beside them stands MAPSSWE, NIST's matched-pairs test of two recognisers (Gillick & Cox 1989), as `sc_stats -t mapsswe`
computes it. Student's distribution uses the closed forms for whole degrees of freedom (Abramowitz & Stegun 26.7.3 and
26.7.4), with θ = atan(t / √ν).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from core.scoring.certainty import LEVEL, MINIMUM_BLOCKS

MOST_DEGREES = 200
"""More count as so many: beyond, the distribution is the normal one but for 1 % of its width, on the safe side."""
_GRID = 20_001
"""Points of θ between which a quantile is interpolated."""


def whole_degrees(degrees: float) -> int:
    """Degrees of freedom as these functions take them: whole, rounded down, at least one."""
    return max(1, min(MOST_DEGREES, math.floor(degrees + 1e-9)))


def quantile(probability: float, degrees: float) -> float:
    """The value that t stays below with that probability."""
    return float(_at(np.array([probability]), whole_degrees(degrees))[0])


def student_below(value: float, degrees: float) -> float:
    """The probability that t is at most `value`."""
    angles, below = _distribution(whole := whole_degrees(degrees))
    return float(np.interp(math.atan(value / math.sqrt(whole)), angles, below))


@lru_cache(maxsize=64)
def quantiles(degrees: float, count: int) -> Floats:
    """`count` equally likely values of t, rising: what that many draws would be, without their chance."""
    found = _at((np.arange(count) + 0.5) / count, whole_degrees(degrees))
    found.setflags(write=False)  # shared by all who ask
    return found


def _at(probabilities: Floats, degrees: int) -> Floats:
    angles, below = _distribution(degrees)
    return np.asarray(math.sqrt(degrees) * np.tan(np.interp(probabilities, below, angles)))


@lru_cache(maxsize=MOST_DEGREES)
def _distribution(degrees: int) -> tuple[Floats, Floats]:
    """(θ, the probability to be below) on a grid."""
    angles = np.linspace(-math.pi / 2, math.pi / 2, _GRID)
    sine, cosine = np.sin(angles), np.cos(angles)
    odd = degrees % 2
    term = cosine.copy() if odd else np.ones_like(cosine)
    total = np.zeros_like(term)
    for power in range(1 if odd else 0, degrees - 1, 2):
        total += term
        term = term * cosine**2 * ((power + 1) / (power + 2))
    within = 2 / math.pi * (angles + sine * total) if odd else sine * total
    return angles, 0.5 + within / 2


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """The test over segments. The null hypothesis is that both make the same number of errors in a segment."""

    segments: int
    mean: float
    """Errors before minus errors after, for each segment."""
    z: float | None
    """mean / (standard deviation / √segments); None where all segments differ alike, or there are fewer than two."""
    p_value: float | None
    """Two-tailed, by the normal distribution; a small one says that the two do differ."""


def mapsswe(pairs: Iterable[tuple[int, int]]) -> MatchedPairs:
    """The test over (errors before, errors after) of each segment (`core.scoring.alignment.segments`)."""
    differences = [before - after for before, after in pairs]
    count = len(differences)
    if count == 0:
        return MatchedPairs(0, 0.0, None, None)
    mean = sum(differences) / count
    if count < 2:
        return MatchedPairs(count, mean, None, None)
    variance = sum((d - mean) ** 2 for d in differences) / (count - 1)
    if variance == 0:
        return MatchedPairs(count, mean, None, None)
    z = mean / math.sqrt(variance / count)
    return MatchedPairs(count, mean, z, math.erfc(abs(z) / math.sqrt(2)))


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
_MOST_BLOCKS = 1_000_000
"""A need of more is told as none."""
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
    recordings: Sequence[Hashable] | None = None
    """(utterances,) which recording each is of: copies of one share it. None: each is of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """What is independent: recordings, or all of a speaker's utterances together."""

    words: Floats
    """(units,)"""
    rise: Floats
    """(1 + intervals, units) errors after minus before: of what is judged, then of each interval."""
    blocked: bool
    """Whether they are speakers, or values of another field."""
    change: float = 1.0
    """Words by which a recording that changed typically does: what one more, unseen, would add."""
    least_error_pp: float = 0.0
    """Of blocks: the standard error of the rise, in points, were all recordings independent."""

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
    """Blocks if there are at least two of them, else recordings. ValueError when there is nothing to resample."""
    if len(errors.words) < 2 or not errors.words.sum() > 0:
        raise ValueError("it takes at least two utterances, and reference words")
    table = np.vstack([errors.words, errors.before, errors.after, errors.intervals])
    recordings = list(range(len(errors.words))) if errors.recordings is None else list(errors.recordings)
    single = _summed(table, recordings)
    rise = single[2:] - single[1]
    change = _typical_change(rise[0], single[1])
    if errors.blocks is not None:
        blocks = _summed(table, connected(errors.blocks, recordings))
        if blocks.shape[1] >= MINIMUM_BLOCKS:
            least = _error_of_recordings(single[0], rise[0], change)
            return Units(blocks[0], blocks[2:] - blocks[1], True, change, least)
    if single.shape[1] < 2:
        raise ValueError("all utterances are copies of one recording")
    return Units(single[0], rise, False, change)


def _summed(table: Floats, groups: Sequence[Hashable]) -> Floats:
    """The columns of `table` added up by group, in the order in which groups come first."""
    numbers: dict[Hashable, int] = {}
    member = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    if len(numbers) == len(groups):
        return table
    return np.vstack([np.bincount(member, row, len(numbers)) for row in table])


def connected(*partitions: Sequence[Hashable]) -> list[int]:
    """The finest partition of which each of `partitions` is a part: what shares a group in any is together."""
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while (above := parent.setdefault(node, node)) != node:
            parent[node] = parent[above]
            node = above
        return node

    nodes = [[(number, group) for number, group in enumerate(groups)] for groups in zip(*partitions, strict=True)]
    for first, *others in nodes:
        for other in others:
            parent[root(other)] = root(first)
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(root(first), len(numbers)) for first, *_ in nodes]


def _error_of_recordings(words: Floats, rise: Floats, change: float) -> float:
    """The standard error in points, were recordings independent, with one change either way beside those seen."""
    residual = rise - words * (rise.sum() / words.sum())
    squares = float(residual @ residual) + 2 * change**2
    return float(100 / words.sum() * math.sqrt(squares * len(words) / max(1, len(words) - 1)))


def _typical_change(rise: Floats, before: Floats) -> float:
    """Words by which a recording changes when it does (root mean square), at least one.

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
    """(resamples,) the rise in points in each resample; of speakers, as many equally likely values of it.

    Of recordings a bootstrap. Two units are added to those drawn from, average but for one change (`Units.change`) for
    the better and one for the worse: a set on which nothing changed is no proof that nothing ever will. Deviations are
    widened as Student's t is beside the normal distribution (the expanded percentile interval, Hesterberg 2015).
    """
    if units.blocked:
        error, degrees = over_blocks(units)
        return np.asarray(units.points[0] + error * quantiles(degrees, resamples))
    words, rise = _with_change_either_way(units.words, units.rise[0], units.change)
    table = np.column_stack([words, rise])
    sums = np.vstack([drawn @ table for drawn in draws(len(words), resamples, seed)])
    point = float(units.points[0])
    return np.asarray(point + widening(len(units)) * (100 * sums[:, 1] / sums[:, 0] - point))


def over_blocks(units: Units) -> tuple[float, float]:
    """(standard error of the rise in points, degrees of freedom of Student's t) over speakers or other blocks.

    The error is the jackknife's, each block left out in turn, about the estimate itself: what is called CR3 for
    clustered data, which is never too small on average, unlike that of the bare residuals (MacKinnon & White 1985;
    Bell & McCaffrey 2002). The degrees of freedom are Satterthwaite's for that variance (Bell & McCaffrey 2002; Imbens
    & Kolesár 2016), if it is the speakers that differ: blocks less one where all have as many words, fewer where some
    have most of them. What blocks happen to agree on is no proof that others would: the error is at least that of the
    recordings.
    """
    share = units.words / units.words.sum()
    if not (share < 1).all():
        return math.inf, 1.0
    rise = units.rise[0]
    residual = 100 * (rise - share * rise.sum()) / units.words.sum()
    weights = 1 / (1 - share)
    count = len(units)
    error = math.sqrt((count - 1) / count * float(np.sum((weights * residual) ** 2)))
    # Of residuals r = e - share Σe with Var(e) = share², Σ (weights r)² has the mean Σλ and the variance 2 Σλ², for λ
    # the eigenvalues of B = diag(weights² share²) - a b' - b a' + s a a'.
    spread = share**2
    a, b, s = weights * share, weights * spread, float(spread.sum())
    diagonal = weights**2 * spread
    aa, bb, ab = float(a @ a), float(b @ b), float(a @ b)
    trace = float(np.sum(diagonal - 2 * a * b + s * a**2))
    squares = float(diagonal @ diagonal + 2 * diagonal @ (s * a**2 - 2 * a * b))
    squares += 2 * aa * bb + 2 * ab**2 - 4 * s * aa * ab + s**2 * aa**2
    degrees = min(count - 1.0, trace**2 / squares) if squares > 0 else 1.0
    return max(error, units.least_error_pp), degrees


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


def half_interval(units: Units) -> float:
    """Half the interval of the rise at `LEVEL`, in points, by Student's t: without drawing what `rises` would resample.

    Of recordings the error is that of their residuals with the one change either way that `rises` adds.
    """
    if units.blocked:
        error, degrees = over_blocks(units)
    else:
        error, degrees = _error_of_recordings(units.words, units.rise[0], units.change), len(units) - 1.0
    return error * quantile(0.5 + LEVEL / 2, degrees)


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
    units: Units, distribution: Floats, estimate_pp: float, threshold_pp: float, have: int, level: float = LEVEL
) -> int | None:
    """How many units a decision at `level` needs, to be made with a chance of `POWER`, were the estimate true.

    `have`: how many utterances, or blocks, the figures are of. Of n the spread is √(have / n), and what one more
    change would move have / n, of what it is here; the distance from the threshold must hold the change and the
    quantiles of decision and chance. None: on it, or no number would do.
    """
    distance = abs(estimate_pp - threshold_pp)
    if distance < _TIE:
        return None
    if units.blocked:
        return _needed_blocks(units, distance, level)
    normal = NormalDist()
    spread = (normal.inv_cdf(level) + normal.inv_cdf(POWER)) * float(np.std(distribution)) * math.sqrt(have)
    root = (spread + math.sqrt(spread**2 + 4 * distance * units.margin_pp * have)) / (2 * distance)
    return math.ceil(root**2) if math.isfinite(root) else None


def _needed_blocks(units: Units, distance: float, level: float) -> int | None:
    """Blocks as large, and as unequal, as those there are: with them the quantile falls that a decision must hold."""
    error, degrees = over_blocks(units)
    have = len(units)

    def enough(count: int) -> bool:
        factors = quantile(level, (degrees + 1) * count / have - 1) + NormalDist().inv_cdf(POWER)
        return units.margin_pp * have / count + factors * error * math.sqrt(have / count) <= distance

    low, high = 1, MINIMUM_BLOCKS
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_BLOCKS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
