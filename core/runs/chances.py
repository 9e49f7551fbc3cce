"""How sure the changes of a run's intervals are, and that the best so far meets the thresholds, without a tuned score.

By the utterances' counts in the documents of its intervals, with the method and the correction of the verdict
(`core.scoring.significance`), but without its checks of the texts: nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from core.runs.choice import chooses_apart
from core.runs.consistency import counted_by
from core.runs.paths import RunPaths
from core.runs.scores import read_score
from core.runs.snapshot import RunSnapshot
from core.scoring.evidence import Thresholds
from core.scoring.units import Unit
from core.system.files import stamp

if TYPE_CHECKING:
    from core.scoring.significance import Units

_Utterance = tuple[str, int, int, str | None]
"""Id, reference words, errors, and the speaker or another field."""
_RESAMPLES = 2_000
_CHOICES = 500


def chances_so_far(snapshot: RunSnapshot, step: int | None, thresholds: Thresholds) -> tuple[float, float] | None:
    """(that the gain of interval `step` meets its threshold, that its rise does), or None where it cannot be told."""
    steps = tuple(interval.step for interval in snapshot.intervals)
    if not step or 0 not in steps or step not in steps or not snapshot.state.active:
        return None
    sets: tuple[str, ...] = ("domain", "heldout")
    apart = chooses_apart(snapshot.intervals)
    if not apart and all(interval.selection is not None for interval in snapshot.intervals):
        sets = (*sets, "selection")
    try:
        stamps = tuple(stamp(snapshot.paths.evaluation(one, name).lstat()) for name in sets for one in steps)
        return _chances(snapshot.paths, tuple(sorted(steps)), step, sets, thresholds, stamps, apart)
    except (OSError, ValueError):
        return None


def half_interval(paths: RunPaths, name: str, at: int | str, thresholds: Thresholds) -> float | None:
    """Half the 95 % interval of a set's change from interval 0, in points; None where its documents do not tell.

    `at`: the step of an interval, or the name of another candidate.
    """
    first, last = paths.evaluation(0, name), paths.evaluation(at, name)
    try:
        stamps = stamp(first.lstat()), stamp(last.lstat())
        return _half_interval(first, last, thresholds.unit, thresholds.block_by, *stamps)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=512)
def _half_interval(
    first: Path, last: Path, unit: Unit, block_by: str, before: tuple[int, ...], after: tuple[int, ...]
) -> float:
    from core.scoring import significance  # numpy, for runs at work

    base, tuned = _utterances(first, unit, block_by, before), _utterances(last, unit, block_by, after)
    return significance.half_interval(_paired(base, [tuned], 0))


@lru_cache(maxsize=64)
def _chances(
    paths: RunPaths,
    steps: tuple[int, ...],
    best: int,
    sets: tuple[str, ...],
    thresholds: Thresholds,
    _stamps: tuple[tuple[int, ...], ...],
    apart: bool,
) -> tuple[float, float]:
    """`apart`: sets on which nothing is judged chose the interval, which flatters nothing.

    ValueError or OSError where a document cannot be read, or is not of the utterances of step 0.
    """
    from core.scoring.significance import SEED, optimism, probability_up_to, rises  # numpy, for runs at work

    units: dict[str, Units] = {name: _units(paths, steps, best, name, thresholds) for name in sets}
    allowed, gain = thresholds.heldout_regression_pp, thresholds.domain_gain_pp
    chosen_on = units.get("selection")
    flattered = None if apart else optimism(units["domain"], units["heldout"], allowed, chosen_on, _CHOICES, (SEED, 0))
    found = []
    for number, (name, limit) in enumerate((("domain", -gain), ("heldout", allowed))):
        shift = max(0.0, flattered[number]) if flattered is not None else 0.0
        spread = rises(units[name], _RESAMPLES, (SEED, number + 1)) + shift
        found.append(probability_up_to(spread, limit, units[name].margin_pp))
    return found[0], found[1]


def _units(paths: RunPaths, steps: tuple[int, ...], best: int, name: str, thresholds: Thresholds) -> Units:
    documents = [paths.evaluation(step, name) for step in steps]
    base, *later = [_utterances(path, thresholds.unit, thresholds.block_by, stamp(path.lstat())) for path in documents]
    return _paired(base, later, steps.index(best) - 1)


def _paired(base: Sequence[_Utterance], later: Sequence[Sequence[_Utterance]], best: int) -> Units:
    """`later`: of intervals after step 0, of which `best` is judged. ValueError: they are of other utterances."""
    import numpy as np

    from core.scoring.significance import PairedErrors, units_of

    names = [one[0] for one in base]
    rows = []
    for utterances in later:
        errors = {identity: count for identity, _, count, _ in utterances}
        if errors.keys() != set(names):
            raise ValueError("not the utterances of step 0")
        rows.append([errors[identity] for identity in names])
    table = np.array(rows, dtype=np.float64)
    said = [one[3] for one in base]
    blocks = [one for one in said if one is not None]
    return units_of(
        PairedErrors(
            np.array([one[1] for one in base], dtype=np.float64),
            np.array([one[2] for one in base], dtype=np.float64),
            table[best],
            table,
            blocks if len(blocks) == len(said) else None,
        )
    )


@lru_cache(maxsize=256)
def _utterances(path: Path, unit: Unit, block_by: str, _stamp: tuple[int, ...]) -> tuple[_Utterance, ...]:
    score, problem = read_score(path)
    if score is None:
        raise ValueError(problem)
    counts = counted_by(score, unit)
    return tuple(
        (one.id, counts[one.id].reference_words, counts[one.id].errors, _block(one.speaker, one.fields, block_by))
        for one in score.utterances
    )


def _block(speaker: str | None, fields: Mapping[str, object], block_by: str) -> str | None:
    value = speaker if block_by == "speaker" else fields.get(block_by)
    return None if value is None or not str(value).strip() else str(value)
