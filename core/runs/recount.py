"""Errors counted again from the texts of score documents, where a gate counts by another unit than a run was scored by.

Transcripts do not depend on the unit, so nothing is decoded. What was chosen by the run's own unit, its best interval,
stays as it is: that adapter is the one that is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

from core.runs.paths import RunPaths
from core.runs.reported import Reported, ScoreKey
from core.runs.scores import Score, read_score
from core.scoring.counts import ErrorCounts, total
from core.scoring.evidence import Interval
from core.scoring.units import Unit
from core.system.files import stamp


def counted_by(score: Score, unit: Unit) -> Mapping[str, ErrorCounts]:
    """The errors of each utterance by `unit`, by its id. ValueError where this version cannot normalise its texts."""
    if score.unit is unit:
        return {utterance.id: utterance.counts for utterance in score.utterances}
    # Aligning takes jiwer and rapidfuzz, which a gate of the run's own unit does without.
    from core.scoring.text import normaliser
    from core.scoring.wer import count_errors

    text = normaliser(score.normaliser.name)
    if text.version != score.normaliser.version:
        raise ValueError(
            f"scored with version {score.normaliser.version} of the normaliser {text.name}, this is {text.version}"
        )
    apply = cache(text.apply)
    return {u.id: count_errors(apply(u.reference), apply(u.hypothesis), unit) for u in score.utterances}


def total_of(path: Path, unit: Unit) -> ErrorCounts:
    """The errors in a score document by `unit`. ValueError, with the reason, where they cannot be counted."""
    try:
        return _total(path, unit, stamp(path.lstat()))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


@lru_cache(maxsize=4096)
def _total(path: Path, unit: Unit, _stamp: tuple[int, ...]) -> ErrorCounts:
    # A dashboard asks again every second; the stamp makes the answer cacheable.
    score, problem = read_score(path)
    if score is None:
        raise ValueError(problem)
    try:
        return total(counted_by(score, unit).values())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def intervals_by(paths: RunPaths, reported: Reported, unit: Unit) -> tuple[tuple[Interval, ...], str | None]:
    """(the intervals with errors counted by `unit`, None); or with no counts at all, and why they cannot be had."""

    def again(interval: Interval, *, known: bool) -> Interval:
        sets = {
            name: replace(
                score,
                counts=total_of(ScoreKey(name, interval.step).path(paths), unit) if known else ErrorCounts(),
            )
            for name in reported.sets
            if (score := getattr(interval, name)) is not None
        }
        return replace(interval, **sets)

    try:
        return tuple(again(interval, known=True) for interval in reported.intervals), None
    except ValueError as error:
        return tuple(again(interval, known=False) for interval in reported.intervals), str(error)
