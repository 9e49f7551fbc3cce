"""Simulated manifests with a planted truth, drawn from the real per-utterance errors of finished runs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.scoring.significance import PairedErrors

Floats = NDArray[np.float64]

SETS = ("domain", "heldout")
WORLDS = ("independent", "few changes", "speakers", "speakers, unknown", "selection", "selection, alike")
INDEPENDENT = ("independent", "few changes", "speakers")
"""Worlds in which what is resampled really is independent, and nothing is chosen."""
SPEAKERS, INTERVALS = 40, 10
SPEAKER_SPREAD = 6.0
"""Concentration of the speakers' own gains around the true one (Beta distribution): smaller is more different."""
BACKWARDS, FEW_BACKWARDS = 0.08, 0.02
"""Share of the utterances that change the other way: no adapter only mends."""
ALIKE = 0.7
"""Share of the utterances that behave alike in all intervals of one run, in the world of that name."""


@dataclass(frozen=True, slots=True)
class Population:
    """Utterances of real evaluations. `change`: errors after minus before, where an utterance does change."""

    words: Floats
    before: Floats
    change: Floats

    @property
    def points(self) -> float:
        """Points that WER changes by if every utterance takes its change."""
        return float(100 * self.change.sum() / self.words.sum())

    def share(self, rise_pp: float, backwards: float) -> float:
        """Share of the utterances that must take their change for a true rise. ValueError: they moved too little."""
        share = rise_pp / self.points + backwards
        if not 0 < share < 1 - backwards:
            raise ValueError(f"{rise_pp} points cannot be planted: the runs moved by {self.points:.2f}")
        return share


def populations(runs: Sequence[Path]) -> list[dict[str, Population]]:
    """One for each pair of manifests that the runs were scored on."""
    groups: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for run in runs:
        files = [run / "evals" / "step-000000" / f"{name}.json" for name in SETS]
        groups[tuple(json.loads(file.read_text())["manifest_sha256"] for file in files)].append(run)
    return [{name: _population(group, name) for name in SETS} for group in groups.values()]


def _population(runs: Sequence[Path], name: str) -> Population:
    """Of each utterance the change at the interval where it changed the most, in the direction of the whole set."""
    parts: list[tuple[Floats, Floats, Floats]] = []
    for run in runs:
        steps = sorted((run / "evals").glob("step-*"))
        words, before = _counts(steps[0] / f"{name}.json")
        changes = np.array([_counts(step / f"{name}.json")[1] - before for step in steps[1:]])
        way = np.sign(changes[np.argmax(np.abs(changes.sum(axis=1)))].sum())
        parts.append((words, before, way * (way * changes).max(axis=0)))
    words, before, change = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Population(words, before, change)


def _counts(file: Path) -> tuple[Floats, Floats]:
    """(reference words, errors) of each utterance of a score document."""
    utterances = json.loads(file.read_text())["utterances"]
    errors = [u["substitutions"] + u["deletions"] + u["insertions"] for u in utterances]
    return np.array([u["reference_words"] for u in utterances], float), np.array(errors, float)


def manifest(world: str, people: Population, rise_pp: float, size: int, random: np.random.Generator) -> PairedErrors:
    """A simulated manifest of which the true rise is `rise_pp`. The judged one is the first row of `intervals`.

    Each utterance takes its change, the opposite of it, or none, with probabilities that make the population's true
    rise exactly the planted one: word counts, error rates and the clumps of changes are real, and the truth is known.
    """
    drawn = random.integers(0, len(people.words), size)
    backwards = FEW_BACKWARDS if world == "few changes" else BACKWARDS
    forwards = people.share(rise_pp, backwards)
    share, speakers = np.full(size, forwards), None
    if world.startswith("speakers"):
        mean = forwards / (1 - backwards)
        own = random.beta(mean * SPEAKER_SPREAD, (1 - mean) * SPEAKER_SPREAD, SPEAKERS) * (1 - backwards)
        share = own[np.arange(size) % SPEAKERS]
        speakers = [f"s{i % SPEAKERS}" for i in range(size)] if world == "speakers" else None
    chance = random.random((INTERVALS if world.startswith("selection") else 1, size))
    if world == "selection, alike":
        alike = random.random(size) < ALIKE
        chance[:, alike] = chance[0, alike]
    direction = (chance < share).astype(float) - (chance >= 1 - backwards)
    after = people.before[drawn] + direction * people.change[drawn]
    return PairedErrors(people.words[drawn], people.before[drawn], after[0], after, speakers)
