"""What `gate.selection_confidence` costs and buys: candidates of rising gain and regression, chosen on their own sets.

Four candidates, as interpolations of one run with its base are: the further from the base, the larger the true gain and
the true regression. They are drawn on the same utterances with the same chances, so that they are as alike as
candidates of one run. What is chosen is judged on the heldout set that a verdict is passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from benchmarks.calibration.decisions import CONFIDENCE, GAIN_PP, REGRESSION_PP, scored, spread_over_cores
from benchmarks.calibration.tables import Rate
from benchmarks.calibration.world import SETS, Population, World, manifest
from core.scoring.choice import choose
from core.scoring.evidence import Thresholds
from core.scoring.significance import PairedErrors, probability_up_to, rises, units_of

GAINS_PP = (2.0, 4.0, 6.0, 8.0)
RISES_PP = (-0.05, 0.05, 0.15, 0.4)
"""True: the last breaks the guardrail of 0.2, the one before it just keeps it."""
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
SIZES = (100, 400, 1000)
"""Utterances of the heldout selection set; that of the domain has half as many."""
JUDGED_ON = 1000
_WORLD = World("24 speakers, τ 0.3", 24, 0.3)


@dataclass(frozen=True, slots=True)
class Chosen:
    """One choice."""

    size: int
    level: float
    gain_pp: float
    """True."""
    keeps: bool
    """Whether it truly keeps the guardrail."""
    by_point: bool
    sure: bool
    """Whether the heldout criterion passes it by its point estimate, and at 0.95."""


def simulate(people: list[dict[str, Population]], trials: int, seed: int, sizes: Sequence[int] = SIZES) -> list[Chosen]:
    """All choices; each trial chooses with all levels."""
    work = partial(_trial, people, seed)
    todo = [(size, trial) for size in sizes for trial in range(trials)]
    return [one for found in spread_over_cores(work, todo) for one in found]


def _trial(people: list[dict[str, Population]], seed: int, which: tuple[int, int]) -> list[Chosen]:
    size, trial = which
    drawn = people[trial % len(people)]
    truth = {"domain": [-gain for gain in GAINS_PP], "heldout": list(RISES_PP)}
    chosen_on = {
        name: _alike(drawn[name], truth[name], size if name == "heldout" else max(50, size // 2), [seed, trial, number])
        for number, name in enumerate(SETS)
    }
    judged = [_judged(one) for one in _alike(drawn["heldout"], truth["heldout"], JUDGED_ON, [seed, trial, 2])]
    base = scored("base", [(sets[0], sets[0].before) for sets in chosen_on.values()])
    candidates = [
        scored(str(number), [(sets[number], sets[number].after) for sets in chosen_on.values()])
        for number in range(len(GAINS_PP))
    ]
    found = []
    for level in LEVELS:
        gate = Thresholds(GAIN_PP, REGRESSION_PP, selection_confidence=level)
        best = int(str(choose(base, candidates, gate).name))
        found.append(Chosen(size, level, GAINS_PP[best], RISES_PP[best] <= REGRESSION_PP, *judged[best]))
    return found


def _alike(people: Population, truths: Sequence[float], size: int, seed: Sequence[int]) -> list[PairedErrors]:
    """A manifest for each truth: the same utterances, speakers and chances."""
    return [manifest(_WORLD, people, truth, size, np.random.default_rng(list(seed))) for truth in truths]


def _judged(errors: PairedErrors) -> tuple[bool, bool]:
    """Whether the heldout criterion passes: by the point estimate, at 0.95."""
    units = units_of(replace(errors, intervals=np.zeros((0, len(errors.words)))))
    sure = probability_up_to(rises(units, 1000), REGRESSION_PP, units.margin_pp)
    return float(units.points[0]) <= REGRESSION_PP + 1e-9, sure >= CONFIDENCE


def table(chosen: Sequence[Chosen]) -> list[str]:
    """By size and level: mean true gain of what was chosen, how often it truly keeps the guardrail, and passes."""
    truths = ", ".join(f"{gain:g} / {rise:+g}" for gain, rise in zip(GAINS_PP, RISES_PP, strict=True))
    lines = ["", "## What is chosen", "", f"Candidates with a true gain / regression of {truths} points.", ""]
    heads = (
        "Utterances", "selection_confidence", "True gain", "Truly keeps the guardrail", "Heldout passes, point",
        "Heldout passes at 0.95",
    )  # fmt: skip
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for size in dict.fromkeys(one.size for one in chosen):
        for level in LEVELS:
            mine = [one for one in chosen if (one.size, one.level) == (size, level)]
            rates = [Rate(sum(getattr(o, name) for o in mine), len(mine)) for name in ("keeps", "by_point", "sure")]
            gain = sum(one.gain_pp for one in mine) / len(mine)
            lines.append(f"| {size} | {level:g} | {gain:.2f} | {' | '.join(map(str, rates))} |")
    return lines
