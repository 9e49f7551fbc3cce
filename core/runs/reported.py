"""What events, run.json and the data audit say of a run's score documents, and whether the documents say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.runs.data_health import read_health
from core.runs.paths import RunPaths
from core.runs.scores import Score
from core.runs.snapshot import RunSnapshot
from core.sanitise import quoted
from core.scoring.data_health import Together
from core.scoring.evidence import Interval, SetScore
from core.scoring.units import Unit

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
        more = ("selection",) if any(interval.selection is not None for interval in self.intervals) else ()
        return ("domain", "heldout", *more)

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
