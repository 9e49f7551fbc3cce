"""How often the gate is wrong, and how often it cannot say: simulated decisions on the real errors of finished runs.

    python benchmarks/calibration/calibration.py RUN_DIR… [--short] [--seed N] [-o calibration.md]

The runs' utterances (reference words, errors of the base model, change of errors at a trained interval) are the
population. A simulated manifest draws utterances from it; each takes its change, the opposite of it, or none, with
probabilities that make the population's true gain (or regression) exactly the planted one. So word counts, error
rates and the way changes come in clumps are real, and the truth is known. Four worlds:

- independent: utterances are drawn one by one, and resampled so
- speakers: 40 speakers, each with a gain of their own around the true one, resampled by speaker
- speakers, unknown: the same, but the manifest names no speakers, so that utterances are resampled
- selection: ten intervals of equal truth; the best on domain that keeps the guardrail is judged

Judged with the gate's own figures: `confidence = 0.95` (wrong if sure of the wrong side) and the point policy.
Without --short: 12,240 decisions on each criterion, some minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.scoring.significance import PairedErrors, interval, optimism, rises, share_up_to, units_of

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
GAIN_PP, REGRESSION_PP = 1.0, 0.2
EDGE_PP = 1e-6
"""Planted so near to the threshold, on the wrong side: where errors are the most likely."""
PLANTED = {
    "domain": (0.0, 0.5, GAIN_PP - EDGE_PP, GAIN_PP, 1.5, 2.5),
    "heldout": (0.0, 0.1, REGRESSION_PP, REGRESSION_PP + EDGE_PP, 0.6, 1.2),
}
AT_EDGE = (2, 3)
WORLDS = ("independent", "speakers", "speakers, unknown", "selection")
SPEAKERS, INTERVALS = 40, 10
SPEAKER_SPREAD = 6.0
"""Concentration of the speakers' own gains around the true one (Beta distribution): smaller is more different."""
BACKWARDS = 0.08
"""Share of the utterances that change the other way: no adapter only mends."""


@dataclass(frozen=True, slots=True)
class Population:
    """Utterances of a real evaluation. `change`: errors after minus before."""

    words: Floats
    before: Floats
    change: Floats

    @property
    def points(self) -> float:
        """Points that WER changes by if every utterance takes its change."""
        return float(100 * self.change.sum() / self.words.sum())


def population(runs: Sequence[Path], name: str) -> Population:
    """All runs' utterances, at the interval of each where the set's WER had moved the most."""
    parts: list[tuple[Floats, Floats, Floats]] = []
    for run in runs:
        steps = sorted((run / "evals").glob("step-*"))
        words, before = counts(steps[0] / f"{name}.json")
        later = [counts(step / f"{name}.json")[1] for step in steps[1:]]
        parts.append((words, before, max((after - before for after in later), key=lambda c: abs(c.sum()))))
    words, before, change = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Population(words, before, change)


def counts(file: Path) -> tuple[Floats, Floats]:
    """(reference words, errors) of each utterance of a score document."""
    utterances = json.loads(file.read_text())["utterances"]
    errors = [u["substitutions"] + u["deletions"] + u["insertions"] for u in utterances]
    return np.array([u["reference_words"] for u in utterances], float), np.array(errors, float)


def manifest(world: str, people: Population, rise_pp: float, size: int, random: np.random.Generator) -> PairedErrors:
    """A simulated manifest of which the true rise is `rise_pp`. The judged one is the first row of `intervals`."""
    drawn = random.integers(0, len(people.words), size)
    forwards = rise_pp / people.points + BACKWARDS
    if not 0 < forwards < 1 - BACKWARDS:
        raise ValueError(f"{rise_pp} points cannot be planted: the runs moved by {people.points:.2f}")
    share, speakers = np.full(size, forwards), None
    if world.startswith("speakers"):
        mean = forwards / (1 - BACKWARDS)
        own = random.beta(mean * SPEAKER_SPREAD, (1 - mean) * SPEAKER_SPREAD, SPEAKERS) * (1 - BACKWARDS)
        share = own[np.arange(size) % SPEAKERS]
        speakers = [f"s{i % SPEAKERS}" for i in range(size)] if world == "speakers" else None
    chance = random.random((INTERVALS if world == "selection" else 1, size))
    direction = (chance < share).astype(float) - (chance >= 1 - BACKWARDS)
    after = people.before[drawn] + direction * people.change[drawn]
    return PairedErrors(people.words[drawn], people.before[drawn], after[0], after, speakers)


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


def decide(
    world: str, people: dict[str, Population], planted: int, size: int, seed: list[int], resamples: int
) -> Iterator[Decision]:
    """Both criteria of one simulated run, judged as the gate judges."""
    random = np.random.default_rng(seed)
    truth = {"domain": -PLANTED["domain"][planted], "heldout": PLANTED["heldout"][planted]}
    errors = {name: manifest(world, people[name], truth[name], size, random) for name in truth}
    flattered = {"domain": 0.0, "heldout": 0.0}
    if world == "selection":
        units = {name: units_of(item) for name, item in errors.items()}
        wer = {name: units[name].points[1:] for name in units}
        kept = wer["heldout"] <= REGRESSION_PP
        best = int(np.argmin(np.where(kept | (not kept.any()), wer["domain"], np.inf)))
        errors = {n: PairedErrors(e.words, e.before, e.intervals[best], e.intervals) for n, e in errors.items()}
        found = optimism(units["domain"], units["heldout"], REGRESSION_PP, resamples=resamples // 2, seed=[*seed, 1])
        flattered = {n: max(0.0, f) for n, f in zip(flattered, found or (0.0, 0.0), strict=True)}
    for number, name in enumerate(errors):
        units_now = units_of(errors[name])
        limit = -GAIN_PP if name == "domain" else REGRESSION_PP
        spread = rises(units_now, resamples, [*seed, 2 + number]) + flattered[name]
        sure = share_up_to(spread, limit)
        low, high = interval(spread)
        yield Decision(
            world, name, size, planted,
            "PASS" if sure >= CONFIDENCE else "FAIL" if sure <= 1 - CONFIDENCE else "UNKNOWN",
            "PASS" if float(units_now.points[0]) <= limit + 1e-9 else "FAIL",
            "PASS" if truth[name] <= limit + EDGE_PP / 2 else "FAIL",
            low <= truth[name] <= high,
        )  # fmt: skip


def simulate(
    people: dict[str, Population], sizes: Sequence[int], at_edge: int, elsewhere: int, resamples: int, seed: int
) -> list[Decision]:
    """All worlds, sizes and planted values; the edges of the thresholds more often than the others."""
    decisions: list[Decision] = []
    for w, world in enumerate(WORLDS):
        for size in sizes:
            for planted in range(len(PLANTED["domain"])):
                for trial in range(at_edge if planted in AT_EDGE else elsewhere):
                    cell = [seed, w, size, planted, trial]
                    decisions += decide(world, people, planted, size, cell, resamples)
            print(f"{world}, {size} utterances: {len(decisions) // 2} decisions", file=sys.stderr, flush=True)
    return decisions


def percent(part: int, whole: int) -> str:
    """`4.2 ± 0.9 %`: two Monte-Carlo standard errors."""
    if not whole:
        return "–"
    rate = part / whole
    return f"{100 * rate:.1f} ± {200 * math.sqrt(max(rate * (1 - rate), 0.25 / whole) / whole):.1f} %"


def report(decisions: Sequence[Decision], people: dict[str, Population]) -> str:
    """The tables as Markdown."""
    lines = [
        "# Calibration of the gate",
        "",
        f"{len(decisions) // 2} decisions on each criterion; population: {len(people['domain'].words)} domain and "
        f"{len(people['heldout'].words)} heldout utterances of finished runs. ± are two Monte-Carlo standard errors.",
        "",
        "## Wrong decisions where the truth is on the threshold",
        "",
        "The worst case. A PASS is wrong where the truth just misses the threshold, a FAIL where it just meets it.",
        "",
        "| World | Criterion | Utterances | Wrong PASS at 0.95 | Wrong FAIL at 0.95 | Wrong PASS, point | Wrong FAIL, "
        "point | Interval covers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cells: dict[tuple[str, str, int], list[Decision]] = defaultdict(list)
    for item in decisions:
        cells[item.world, item.name, item.size].append(item)
    for (world, name, size), items in cells.items():
        edge = [i for i in items if i.planted in AT_EDGE]
        bad, good = ([i for i in edge if i.truth == truth] for truth in ("FAIL", "PASS"))
        lines.append(
            f"| {world} | {name} | {size} | {percent(sum(i.by_confidence == 'PASS' for i in bad), len(bad))} "
            f"| {percent(sum(i.by_confidence == 'FAIL' for i in good), len(good))} "
            f"| {percent(sum(i.by_point == 'PASS' for i in bad), len(bad))} "
            f"| {percent(sum(i.by_point == 'FAIL' for i in good), len(good))} "
            f"| {percent(sum(i.covered for i in items), len(items))} |"
        )
    lines += ["", "## Decisions by what is true", "", "At confidence 0.95: PASS / FAIL / UNKNOWN in percent.", ""]
    for name, values in PLANTED.items():
        what = "true gain" if name == "domain" else "true regression"
        lines += [f"| {name}: world | Utterances | " + " | ".join(f"{what} {v:.2f}" for v in values) + " |"]
        lines += ["|---|---|" + "---|" * len(values)]
        for (world, cell_name, size), items in cells.items():
            if cell_name == name:
                shown = " | ".join(_shares([i for i in items if i.planted == p]) for p in range(len(values)))
                lines.append(f"| {world} | {size} | {shown} |")
        lines.append("")
    return "\n".join(lines)


def _shares(items: Sequence[Decision]) -> str:
    found = Counter(item.by_confidence for item in items)
    return " / ".join(f"{100 * found[state] / len(items):.0f}" for state in ("PASS", "FAIL", "UNKNOWN"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, and write the tables to stdout or a file."""
    parser = argparse.ArgumentParser(description="How often the gate is wrong, by simulation on real errors.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="finished runs on the same manifests")
    parser.add_argument("--short", action="store_true", help="a few decisions, to see that it works")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.md")
    args = parser.parse_args(arguments)
    people = {name: population(args.runs, name) for name in PLANTED}
    if args.short:
        decisions = simulate(people, [250], 10, 2, 400, args.seed)
    else:
        decisions = simulate(people, [250, 500, 1000], 400, 55, 1000, args.seed)
    text = report(decisions, people)
    if args.output is None:
        print(text)
    else:
        args.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
