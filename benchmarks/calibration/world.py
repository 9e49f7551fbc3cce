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
INTERVALS = 10
BACKWARDS, FEW_BACKWARDS = 0.08, 0.02
"""Share of the utterances that change the other way: no adapter only mends."""
ALIKE = 0.7
"""Share of the utterances that behave alike in all intervals of one run, in the world of that name."""
FURTHEST = 2.5
"""Standard deviations (before they are scaled to one) from the mean beyond which no speaker is."""
_SCALE = 0.9546
"""The standard deviation of a normal distribution that is cut there."""
MOVED = 0.5
"""Share of the utterances that can change, at least, where there are speakers: some move more than the runs did."""


@dataclass(frozen=True, slots=True)
class World:
    """How simulated manifests come about."""

    name: str
    speakers: int = 0
    """0: utterances are independent, and no speaker is named."""
    tau_pp: float = 0.0
    """Standard deviation of the speakers' own rises around the true one (normal), in points."""
    named: bool = True
    """Whether the manifest names the speakers."""
    unequal: bool = False
    """The first speaker has half of all utterances; else all have as many."""
    backwards: float = BACKWARDS
    intervals: int = 1
    """So many of equal truth; the best is judged."""
    alike: float = 0.0
    """Share of the utterances that behave alike in all intervals."""
    own: bool = False
    """Whether the speakers' own rises are others at each interval."""
    apart: bool = False
    """Whether what is judged is chosen on sets of their own, of half the size, and nothing is corrected for it."""
    copies: int = 1
    """Every second recording is so many utterances."""

    @property
    def promised(self) -> bool:
        """Whether the gate promises its rates here: not where speakers differ whom nobody named."""
        return self.named or not self.speakers

    @property
    def simple(self) -> bool:
        """Whether intervals are to hold the truth as often as they say: nothing chosen, no limits widened."""
        return self.intervals == 1 and not self.speakers and self.copies == 1


FEW_SPEAKERS = tuple(
    World(f"{speakers} speakers, τ {tau:g}", speakers, tau)
    for speakers in (6, 12, 19, 24, 40)
    for tau in (0.0, 0.5, 1.0)
)
WORLDS = (
    World("independent"),
    World("few changes", backwards=FEW_BACKWARDS),
    World("copies", copies=4),
    *FEW_SPEAKERS,
    World("2 speakers, τ 0.5", 2, 0.5),
    World("few changes, 6 speakers", 6, 0.0, backwards=FEW_BACKWARDS),
    World("12 speakers, one has half", 12, 0.5, unequal=True),
    World("40 speakers, one has half", 40, 0.5, unequal=True),
    World("40 speakers, unknown", 40, 0.5, named=False),
    World("selection", intervals=INTERVALS),
    World("selection, alike", intervals=INTERVALS, alike=ALIKE),
    World("selection, 6 speakers", 6, 0.5, intervals=INTERVALS, alike=ALIKE),
    World("selection, 12 speakers", 12, 0.5, intervals=INTERVALS, alike=ALIKE),
    World("selection, 12 speakers, others each time", 12, 0.5, intervals=INTERVALS, alike=ALIKE, own=True),
    World("chosen apart", intervals=INTERVALS, apart=True),
    World("chosen apart, alike", intervals=INTERVALS, alike=ALIKE, apart=True),
    World("chosen apart, 12 speakers", 12, 0.5, intervals=INTERVALS, alike=ALIKE, apart=True),
    World(
        "chosen apart, 24 speakers, others each time", 24, 0.5, intervals=INTERVALS, alike=ALIKE, own=True, apart=True
    ),
)


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

    @property
    def moved(self) -> float:
        """Share of the utterances that do change."""
        return float(np.mean(self.change != 0))

    def widened(self) -> Population:
        """With the changes of other utterances for some of those that did not change, up to `MOVED`."""
        still, moving = np.flatnonzero(self.change == 0), np.flatnonzero(self.change != 0)
        if self.moved >= MOVED:
            return self
        random = np.random.default_rng(0)
        chosen = random.choice(still, round((MOVED - self.moved) * len(self.words)), replace=False)
        change = self.change.copy()
        borrowed = self.change[random.choice(moving, len(chosen))]
        change[chosen] = np.clip(borrowed, -self.before[chosen], self.words[chosen])
        return Population(self.words, self.before, change)


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


def manifest(world: World, people: Population, rise_pp: float, size: int, random: np.random.Generator) -> PairedErrors:
    """A simulated manifest of which the true rise is `rise_pp`. The judged one is the first row of `intervals`.

    Each utterance takes its change, the opposite of it, or none, with probabilities that make the population's true
    rise exactly the planted one: word counts, error rates and the clumps of changes are real, and the truth is known.
    """
    recordings = _recordings(world, size)
    first = np.unique(recordings, return_index=True)[1]
    wide = people.widened() if world.speakers else people
    backwards = world.backwards * people.moved / wide.moved  # as many of all utterances as without
    people, drawn = wide, random.integers(0, len(people.words), len(first))
    rises = np.full((world.intervals, len(first)), rise_pp)
    who = None
    if world.speakers:
        who = _speakers(world, len(first))
        own = random.standard_normal((world.intervals if world.own else 1, 2 * world.speakers + 40))
        # Symmetric, so that the mean stays: those too far out are replaced by the next.
        kept = np.array([row[np.abs(row) < FURTHEST][: world.speakers] for row in own])
        rises = rises + world.tau_pp / _SCALE * kept[:, who]
    net = rises / people.points
    if np.abs(net).max() > 1 - 2 * backwards:
        raise ValueError(f"{rise_pp} points cannot be planted: the runs moved by {people.points:.2f}")
    forwards = backwards + np.maximum(net, 0.0)
    against = backwards + np.maximum(-net, 0.0)
    chance = random.random((world.intervals, len(first)))
    alike = random.random(len(first)) < world.alike
    chance[:, alike] = chance[0, alike]
    direction = (chance < forwards).astype(float) - (chance >= 1 - against)
    after = (people.before[drawn] + direction * people.change[drawn])[:, recordings]
    blocks = [f"s{i}" for i in who[recordings]] if who is not None and world.named else None
    words, before = people.words[drawn][recordings], people.before[drawn][recordings]
    return PairedErrors(words, before, after[0], after, blocks, recordings.tolist())


def _recordings(world: World, size: int) -> NDArray[np.intp]:
    """(utterances,) the recording of each."""
    return np.repeat(np.arange(size), [world.copies if i % 2 else 1 for i in range(size)])[:size]


def _speakers(world: World, size: int) -> NDArray[np.intp]:
    """(recordings,) the speaker of each."""
    if world.unequal:
        return np.array([0 if i % 2 else 1 + i // 2 % (world.speakers - 1) for i in range(size)])
    return np.arange(size) % world.speakers
