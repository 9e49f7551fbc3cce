"""Plans of many runs on the same sets: how often one is accepted that should not be, without and with a reserve.

All runs of a plan have the same truth: a gain that is met for certain, and a regression that breaks the guardrail, or
just keeps it. With a reserve each accepted run is judged again, on a fresh part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from benchmarks.calibration.decisions import CONFIDENCE, EDGE_PP, REGRESSION_PP, spread_over_cores
from benchmarks.calibration.tables import WRONG, Rate
from benchmarks.calibration.world import ALIKE, Floats, Population, World, manifest
from core.scoring.luck import by_luck
from core.scoring.significance import PairedErrors, probability_up_to, rises, units_of

RUNS = 20
SPEAKERS = 24
TRUE_PP = (REGRESSION_PP + EDGE_PP, 0.3, REGRESSION_PP)
"""Just above the guardrail, beyond it, and just kept."""
POLICIES = {"point": None, "0.95": CONFIDENCE}
Judged = tuple[float, bool]
"""(how sure it is that the guardrail is kept, whether it is by the point estimate)."""


@dataclass(frozen=True, slots=True)
class Plans:
    """Simulated plans of one world and truth."""

    world: World
    true_pp: float
    size: int
    trials: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one plan came to by one policy."""

    world: str
    true_pp: float
    policy: str
    single: bool
    """Whether its first run alone was accepted."""
    accepted: bool
    """Whether one of its runs was."""
    accepted_again: bool
    """Whether one of its runs was, and on its part of the reserve, too."""
    first_failed: bool
    """Whether a part of the reserve FAILs its first run."""


def worlds() -> tuple[World, ...]:
    """Runs of one plan are alike in most utterances, as intervals are."""
    return (
        World("independent", intervals=RUNS, alike=ALIKE),
        World(f"{SPEAKERS} speakers, τ 0.5", SPEAKERS, 0.5, intervals=RUNS, alike=ALIKE),
    )


def cells(trials: int, size: int = 1000) -> list[Plans]:
    """All worlds and truths."""
    return [Plans(world, true, size, trials) for world in worlds() for true in TRUE_PP]


def simulate(people: list[dict[str, Population]], todo: Sequence[Plans], resamples: int, seed: int) -> list[Outcome]:
    """All plans; the populations take turns."""
    work = partial(_cell, people, resamples, seed)
    return [outcome for found in spread_over_cores(work, todo) for outcome in found]


def _cell(people: list[dict[str, Population]], resamples: int, seed: int, cell: Plans) -> list[Outcome]:
    found: list[Outcome] = []
    for trial in range(cell.trials):
        key = [seed, len(cell.world.name), round(1e7 * cell.true_pp), trial]
        found += _plan(cell, people[trial % len(people)]["heldout"], key, resamples)
    return found


def _plan(cell: Plans, people: Population, seed: Sequence[int], resamples: int) -> Iterator[Outcome]:
    random = np.random.default_rng(list(seed))
    errors = manifest(cell.world, people, cell.true_pp, cell.size, random)
    runs = [_judged(replace(errors, after=after), [*seed, n], resamples) for n, after in enumerate(errors.intervals)]
    known: dict[int, Judged] = {}

    def on_reserve(number: int) -> Judged:
        if number not in known:
            # other utterances and other speakers, the same truth
            part = manifest(replace(cell.world, intervals=1), people, cell.true_pp, cell.size, random)
            known[number] = _judged(part, [*seed, 100 + number], resamples)
        return known[number]

    for name, level in POLICIES.items():
        passed = [number for number, run in enumerate(runs) if _passes(run, level)]
        yield Outcome(
            cell.world.name,
            cell.true_pp,
            name,
            single=0 in passed,
            accepted=bool(passed),
            accepted_again=any(_passes(on_reserve(number), level) for number in passed),
            first_failed=_fails(on_reserve(0), level),
        )


def _judged(errors: PairedErrors, seed: Sequence[int], resamples: int) -> Judged:
    none: Floats = np.zeros((0, len(errors.words)))
    units = units_of(replace(errors, intervals=none))
    spread = rises(units, resamples, seed)
    return probability_up_to(spread, REGRESSION_PP, units.margin_pp), float(units.points[0]) <= REGRESSION_PP + 1e-9


def _passes(run: Judged, level: float | None) -> bool:
    return run[1] if level is None else run[0] >= level


def _fails(run: Judged, level: float | None) -> bool:
    return not run[1] if level is None else run[0] <= 1 - level


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Acceptances of single runs, of plans, and of plans with a reserve; and what a part of the reserve FAILs."""
    heads = (
        "World", "True regression", "Policy", "First run accepted", "One of the runs", "Bound",
        "One on a reserve, too", "Bound", "Reserve FAILs the first",
    )  # fmt: skip
    lines = ["", f"## Plans of {RUNS} runs", "", "All of the same truth, with a gain that is met for certain.", ""]
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for (world, true, policy), mine in _groups(outcomes):
        rates = [
            Rate(sum(getattr(one, name) for one in mine), len(mine))
            for name in ("single", "accepted", "accepted_again", "first_failed")
        ]
        bounds = ("–", "–")
        if true > REGRESSION_PP:
            once, twice = (by_luck(RUNS, POLICIES[policy], reserve=reserve) for reserve in (False, True))
            bounds = (f"{100 * once:.0f} %", f"{100 * twice:.0f} %")
        told = (world, f"{true:.6g}", policy, *rates[:2], bounds[0], rates[2], bounds[1], rates[3])
        lines.append(f"| {' | '.join(map(str, told))} |")
    return lines


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """Where plans with a reserve accept wrongly at 0.95, or a reserve rejects wrongly, in more than 5 %."""
    found = []
    for (world, true, policy), mine in _groups(outcomes):
        accepted, failed = (
            Rate(sum(getattr(o, n) for o in mine), len(mine)) for n in ("accepted_again", "first_failed")
        )
        rate, what = (accepted, "accepted") if true > REGRESSION_PP else (failed, "failed")
        if policy != "point" and rate.value > WRONG + rate.error:
            found.append(f"{world}, true regression {true:.6g}: {rate} wrongly {what} with a reserve")
    return found


def _groups(outcomes: Sequence[Outcome]) -> list[tuple[tuple[str, float, str], list[Outcome]]]:
    groups: dict[tuple[str, float, str], list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault((one.world, one.true_pp, one.policy), []).append(one)
    return list(groups.items())
