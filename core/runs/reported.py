"""What events, run.json and the data audit say of a run's score documents, and whether the documents say the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from core.runs.data_health import read_health
from core.runs.paths import RunPaths
from core.runs.scores import Score, read_score
from core.runs.snapshot import RunSnapshot
from core.sanitise import quoted
from core.scoring.data_health import TAKEN_FROM, Together
from core.scoring.evidence import Interval, SetScore
from core.scoring.units import ErrorCounts, Unit, total
from core.system.files import stamp

Hashes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ScoreKey:
    """Where a score document lies. `step` None: the tuned score."""

    dataset: str
    step: int | None

    def path(self, paths: RunPaths) -> Path:
        """The document's file."""
        return paths.tuned(self.dataset) if self.step is None else paths.evaluation(self.step, self.dataset)

    @property
    def baseline(self) -> ScoreKey:
        """The base model's score on the same set."""
        return ScoreKey(self.dataset, 0)


@dataclass(frozen=True, slots=True)
class Reported:
    """What is said of the score documents elsewhere."""

    intervals: tuple[Interval, ...]
    """By the events, interval 0 among them."""
    hashes: Hashes
    """Of each manifest, by run.json: texts and audio."""
    lines: Hashes
    """Of each manifest, by run.json: what else is used of it (core.manifests.hashing)."""
    together: tuple[Together, ...] = ()
    """Utterances that are of one recording, by the audit of the data."""
    unit: Unit = Unit.WORD
    """What the run's errors were counted by."""

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets that are scored at every interval."""
        choosing = [name for name in TAKEN_FROM if any(getattr(one, name) is not None for one in self.intervals)]
        return ("domain", "heldout", *choosing)

    @property
    def score_keys(self) -> list[ScoreKey]:
        """Of all documents; a set's baseline before the others."""
        tuned = [ScoreKey("domain", None), ScoreKey("heldout", None)]
        return [*(place for name in self.sets for place in self.intervals_of(name)), *tuned]

    def intervals_of(self, dataset: str) -> list[ScoreKey]:
        """Of a set's document at each interval; at interval 0 whether or not the events have it."""
        return [ScoreKey(dataset, step) for step in sorted({0, *(interval.step for interval in self.intervals)})]

    def set_score(self, place: ScoreKey) -> SetScore | None:
        """What the event of the interval says of the set."""
        interval = next((one for one in self.intervals if one.step == place.step), None)
        found: SetScore | None = getattr(interval, place.dataset, None)
        return found


def reported_by(snapshot: RunSnapshot) -> Reported:
    """What events, run.json and the audit of the data say of the run's scores."""
    config = snapshot.config or {}
    health, _ = read_health(snapshot.paths, config)
    together = () if health is None else health.together
    hashes, lines = _hashes(config.get("hashes")), _hashes(config.get("lines"))
    return Reported(snapshot.intervals, hashes, lines, together, snapshot.unit)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Unit) else value


def _hashes(value: object) -> Hashes:
    return tuple(sorted((str(name), str(digest)) for name, digest in value.items())) if isinstance(value, dict) else ()


def wrong_score(
    paths: RunPaths, place: ScoreKey, score: Score, base: Score | None, reported: Reported
) -> Iterator[str]:
    """One sentence for each thing in a score document that events, run.json or the base model's score do not say.

    `base` None: it is the base model's score itself, which must be of the lines that run.json records.
    """
    path = place.path(paths)
    wanted: dict[str, Any] = {"dataset": place.dataset, "unit": reported.unit}
    hashes = dict(reported.hashes)
    if place.dataset in hashes:
        wanted["manifest_sha256"] = hashes[place.dataset]
    if place.step is not None:
        wanted["step"] = place.step
    reported_score = reported.set_score(place)
    if reported_score is not None:
        wanted["loss"] = reported_score.loss
    for key, value in wanted.items():
        if getattr(score, key) != value:
            yield f"{path}: its {key} is {quoted(_plain(getattr(score, key)))}, the run's is {quoted(_plain(value))}"
    if reported_score is not None and score.counts.plain != reported_score.counts:
        yield f"{path}: its counts are not those of the interval event of step {place.step}"
    if base is None:
        lines = dict(reported.lines)
        if place.dataset in lines and score.lines_sha256 != lines[place.dataset]:
            yield f"{path}: its texts, slices, speakers or fields are not those that run.json records of the manifest"
        return
    for key, value in score.conditions.items():
        if base.conditions[key] != value:
            yield f"{path}: does not compare with the baseline, which has another {key}"
            return
    differing = base.differing_clip(score)
    if differing is not None:
        yield f"{path}: not the clips of the base model's score: {differing}"


# Errors counted again from the texts of score documents, where a gate counts by another unit than the run's
#
# Transcripts do not depend on the unit, so nothing is decoded. What was chosen by the run's own unit, its best
# interval, stays as it is: that adapter is the one that is judged.


def counted_by(score: Score, unit: Unit) -> Mapping[str, ErrorCounts]:
    """The errors of each utterance by `unit`, by its id. ValueError where this version cannot normalise its texts."""
    if score.unit is unit:
        return {utterance.id: utterance.counts for utterance in score.utterances}
    # Aligning takes jiwer and rapidfuzz, which a gate of the run's own unit does without.
    from core.scoring.alignment import count_errors
    from core.scoring.text import normaliser

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
