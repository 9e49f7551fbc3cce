"""The gate's decisions on simulated manifests, with the gate's own figures, on all cores that it may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from benchmarks.calibration.world import SETS, WORLDS, Floats, Population, World, manifest
from core.scoring.choice import Scored, SetErrors, choose
from core.scoring.evidence import Thresholds
from core.scoring.significance import (
    PairedErrors,
    interval,
    needed_units,
    optimism,
    probability_up_to,
    rises,
    units_of,
)

Todo = TypeVar("Todo")
Result = TypeVar("Result")

CONFIDENCE = 0.95
GAIN_PP, REGRESSION_PP = 1.0, 0.2
EDGE_PP = 1e-6
"""Planted so near to the threshold, on the wrong side: where errors are the most likely."""
PLANTED = {
    "domain": (0.0, 0.5, GAIN_PP - EDGE_PP, GAIN_PP, 2.0, 3.0),
    "heldout": (1.2, 0.6, REGRESSION_PP + EDGE_PP, REGRESSION_PP, 0.0, -0.5),
}
"""True gain, true regression: from what must fail to what must pass."""
AT_EDGE = (2, 3)


@dataclass(frozen=True, slots=True)
class Decision:
    """One criterion judged once."""

    world: str
    name: str
    size: int
    planted: int
    by_confidence: str
    by_point: str
    truth: str
    covered: bool
    need: int | None
    """Speakers or utterances that a decision would need in all, by the set's own figures."""
    population: int = 0
    """Which of the populations it was drawn from."""


def limit_of(name: str) -> float:
    """The rise that the criterion allows."""
    return -GAIN_PP if name == "domain" else REGRESSION_PP


def rise_of(name: str, planted: int) -> float:
    """The true rise of a planted value."""
    return -PLANTED[name][planted] if name == "domain" else PLANTED[name][planted]


def decide(
    world: World, people: dict[str, Population], planted: int, size: int, seed: Sequence[int], resamples: int
) -> Iterator[Decision]:
    """Both criteria of one simulated run, judged as the gate judges."""
    random = np.random.default_rng(list(seed))
    truth = {name: rise_of(name, planted) for name in SETS}
    errors = {name: manifest(world, people[name], truth[name], size, random) for name in SETS}
    flattered = {"domain": 0.0, "heldout": 0.0}
    if world.apart:
        best = _chosen_apart(world, people, truth, size, random)
        errors = {n: replace(e, after=e.intervals[best]) for n, e in errors.items()}
    elif world.intervals > 1:
        units = {name: units_of(item) for name, item in errors.items()}
        wer = {name: units[name].points[1:] for name in units}
        kept = wer["heldout"] <= REGRESSION_PP + 1e-9
        best = int(np.argmin(np.where(kept | (not kept.any()), wer["domain"], np.inf)))
        errors = {n: replace(e, after=e.intervals[best]) for n, e in errors.items()}
        found = optimism(units["domain"], units["heldout"], REGRESSION_PP, resamples=resamples // 2, seed=[*seed, 1])
        flattered = {n: max(0.0, f) for n, f in zip(SETS, found or (0.0, 0.0), strict=True)}
    for number, name in enumerate(SETS):
        units_now = units_of(errors[name])
        limit, margin = limit_of(name), units_now.margin_pp
        raw = float(units_now.points[0])
        spread = rises(units_now, resamples, [*seed, 2 + number]) + flattered[name]
        sure = probability_up_to(spread, limit, margin)
        low, high = interval(spread)
        have = len(units_now) if units_now.blocked else size
        yield Decision(
            world.name, name, size, planted,
            "PASS" if sure >= CONFIDENCE else "FAIL" if sure <= 1 - CONFIDENCE else "UNKNOWN",
            "PASS" if raw <= limit + 1e-9 else "FAIL",
            "PASS" if truth[name] <= limit + EDGE_PP / 2 else "FAIL",
            low <= truth[name] <= high,
            needed_units(units_now, spread, raw + flattered[name], limit, have),
        )  # fmt: skip


def _chosen_apart(
    world: World, people: dict[str, Population], truth: dict[str, float], size: int, random: np.random.Generator
) -> int:
    """Which interval selection sets of half the size give, of other utterances and other speakers."""
    chosen_on = {name: manifest(world, people[name], truth[name], size // 2, random) for name in SETS}

    sets = list(chosen_on.values())
    base = scored("base", [(one, one.before) for one in sets])
    candidates = [scored(f"{row:03d}", [(one, one.intervals[row]) for one in sets]) for row in range(world.intervals)]
    gate = Thresholds(domain_gain_pp=GAIN_PP, heldout_regression_pp=REGRESSION_PP)
    return int(str(choose(base, candidates, gate).name))


def scored(name: str, sets: Sequence[tuple[PairedErrors, Floats]]) -> Scored:
    """A candidate on both selection sets: each a manifest, and the errors of its utterances."""
    found = []
    for one, errors in sets:
        blocks = tuple(one.blocks) if one.blocks is not None else (None,) * len(one.words)
        found.append(SetErrors(tuple(map(int, one.words)), tuple(map(int, errors)), blocks))
    return Scored(name, *found)


@dataclass(frozen=True, slots=True)
class Cell:
    """Trials of one world, size and planted value."""

    world: World
    size: int
    planted: int
    trials: int


def cells(sizes: Sequence[int], at_edge: int, elsewhere: int, worlds: Sequence[World] = WORLDS) -> list[Cell]:
    """Some worlds, all sizes and planted values; the edges of the thresholds more often than the others."""
    return [
        Cell(world, size, planted, at_edge if planted in AT_EDGE else elsewhere)
        for world in worlds
        for size in sizes
        for planted in range(len(PLANTED["domain"]))
    ]


def simulate(people: list[dict[str, Population]], todo: Sequence[Cell], resamples: int, seed: int) -> list[Decision]:
    """All decisions of the cells; the populations take turns."""
    work = partial(_cell, people, resamples, seed)
    return [decision for found in spread_over_cores(work, todo) for decision in found]


def _cell(people: list[dict[str, Population]], resamples: int, seed: int, cell: Cell) -> list[Decision]:
    decisions: list[Decision] = []
    for trial in range(cell.trials):
        key = [seed, WORLDS.index(cell.world), cell.size, cell.planted, trial]
        drawn = trial % len(people)
        found = decide(cell.world, people[drawn], cell.planted, cell.size, key, resamples)
        decisions += [replace(item, population=drawn) for item in found]
    return decisions


def spread_over_cores(work: Callable[[Todo], Result], todo: Sequence[Todo]) -> list[Result]:
    """`work` on each, in their order; a bar says how far it is."""
    # The cores are all taken: threads of the linear algebra library would only wait for each other. It reads this when
    # it is loaded, which a spawned process does anew.
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    with get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        return list(tqdm(pool.imap(work, todo), total=len(todo), unit="cell"))
