"""Whether "a decision would need about N utterances" is about right: sets of that size are drawn and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import quantiles

import numpy as np

from benchmarks.calibration.decisions import PLANTED, Decision, decide, limit_of, rise_of, spread_over_cores
from benchmarks.calibration.world import SETS, WORLDS, Population, manifest
from core.scoring.significance import POWER, needed_units, rises, units_of

LARGE = 20_000
"""Utterances of a set whose spread is as good as the population's."""
LEAST, MOST = 50, 6_000
"""Needs outside are not simulated."""


@dataclass(frozen=True, slots=True)
class Need:
    """One planted truth off the threshold."""

    name: str
    planted: int
    utterances: int
    """What the population's own spread asks for."""
    decided: int
    trials: int


def needs(people: list[dict[str, Population]], trials: int, resamples: int, seed: int) -> list[Need]:
    """For each planted truth off the threshold: how many of `trials` sets of the size asked for allow a decision."""
    todo = [(name, planted) for name in SETS for planted in range(len(PLANTED[name]))]
    found = spread_over_cores(partial(_need, people[0], trials, resamples, seed), todo)
    return [need for need in found if need is not None]


def _need(people: dict[str, Population], trials: int, resamples: int, seed: int, what: tuple[str, int]) -> Need | None:
    name, planted = what
    random = np.random.default_rng([seed, 98, SETS.index(name), planted])
    units = units_of(manifest(WORLDS[0], people[name], rise_of(name, planted), LARGE, random))
    spread = rises(units, 200, [seed])
    size = needed_units(units, spread, rise_of(name, planted), limit_of(name), LARGE)
    if size is None or not LEAST <= size <= MOST:
        return None
    decided = 0
    for trial in range(trials):
        found = decide(WORLDS[0], people, planted, size, [seed, 99, planted, trial], resamples)
        decided += sum(item.name == name and item.by_confidence != "UNKNOWN" for item in found)
    return Need(name, planted, size, decided, trials)


def table(found: Sequence[Need], decisions: Sequence[Decision]) -> list[str]:
    """The needs in Markdown, and how the needs told by undecided sets compare with them."""
    lines = [
        "## How many utterances a decision needs",
        "",
        f"The number said is meant for a decision in {POWER:.0%} of all sets of that size, if the estimate is true. "
        "Told from a set that is undecided it is as uncertain as the estimate: median, and the middle half, by size of "
        "that set, as a multiple of what the truth asks for.",
        "",
        "| Criterion | Truth | Asks for | Sets of that size that decide | Told by undecided sets |",
        "|---|---|---|---|---|",
    ]
    for need in found:
        truth = PLANTED[need.name][need.planted]
        told = [
            f"{size}: {_factors(need, [d for d in decisions if _undecided(d, need, size)])}"
            for size in sorted({d.size for d in decisions})
        ]
        share = f"{100 * need.decided / need.trials:.0f} %"
        lines.append(f"| {need.name} | {truth:.2f} | {need.utterances} | {share} | {'; '.join(told)} |")
    return lines


def _undecided(decision: Decision, need: Need, size: int) -> bool:
    return (decision.world, decision.name, decision.planted, decision.size, decision.by_confidence) == (
        WORLDS[0].name, need.name, need.planted, size, "UNKNOWN",
    )  # fmt: skip


def _factors(need: Need, decisions: Sequence[Decision]) -> str:
    factors = [d.need / need.utterances for d in decisions if d.need is not None]
    if len(factors) < 4:
        return "–"
    low, middle, high = quantiles(factors, n=4)
    return f"× {middle:.1f} ({low:.1f} to {high:.1f})"
