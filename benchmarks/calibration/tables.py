"""What the simulated decisions come to: rates of wrong ones, coverage, power, as Markdown and as limits kept or not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.calibration.decisions import AT_EDGE, PLANTED, Decision
from benchmarks.calibration.world import SETS, WORLDS, Population

WRONG = 0.05
COVERAGE = (0.93, 0.97)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of simulated decisions."""

    part: int
    whole: int

    @property
    def value(self) -> float:
        """The share itself."""
        return self.part / self.whole if self.whole else 0.0

    @property
    def error(self) -> float:
        """Two Monte-Carlo standard errors."""
        if not self.whole:
            return 1.0
        return 2 * math.sqrt(max(self.value * (1 - self.value), 0.25 / self.whole) / self.whole)

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ± {100 * self.error:.1f} %" if self.whole else "–"


@dataclass(frozen=True, slots=True)
class Summary:
    """One criterion in one world, at one size or at all."""

    wrong_pass: Rate
    wrong_fail: Rate
    wrong_pass_point: Rate
    wrong_fail_point: Rate
    covered: Rate


def summary(decisions: Sequence[Decision]) -> Summary:
    """Rates where the truth is on the threshold; coverage everywhere."""
    edge = [item for item in decisions if item.planted in AT_EDGE]
    bad, good = ([item for item in edge if item.truth == truth] for truth in ("FAIL", "PASS"))
    return Summary(
        Rate(sum(i.by_confidence == "PASS" for i in bad), len(bad)),
        Rate(sum(i.by_confidence == "FAIL" for i in good), len(good)),
        Rate(sum(i.by_point == "PASS" for i in bad), len(bad)),
        Rate(sum(i.by_point == "FAIL" for i in good), len(good)),
        Rate(sum(i.covered for i in decisions), len(decisions)),
    )


def failures(decisions: Sequence[Decision]) -> list[str]:
    """The limits that are not kept, where the method promises them: not where speakers differ whom nobody named."""
    found: list[str] = []
    for world, name in ((w, n) for w in WORLDS for n in SETS if w.promised):
        rates = summary([item for item in decisions if (item.world, item.name) == (world.name, name)])
        for word, rate in (("PASS", rates.wrong_pass), ("FAIL", rates.wrong_fail)):
            if rate.value > WRONG + rate.error:
                found.append(f"{world.name}, {name}: {rate} wrong {word}")
        low, high = COVERAGE
        covered = rates.covered
        if world.simple and not low - covered.error <= covered.value <= high + covered.error:
            found.append(f"{world.name}, {name}: intervals cover {covered}")
    return found


def report(decisions: Sequence[Decision], people: Sequence[dict[str, Population]]) -> str:
    """The tables of errors and of power."""
    drawn = "; ".join(" and ".join(f"{len(one[n].words)} {n} utterances" for n in SETS) for one in people)
    lines = [
        "# Calibration of the gate",
        "",
        f"{len(decisions) // 2} decisions on each criterion; populations: {drawn} of finished runs. ± are two "
        "Monte-Carlo standard errors.",
        "",
        "## Wrong decisions where the truth is on the threshold",
        "",
        "The worst case. A PASS is wrong where the truth just misses the threshold, a FAIL where it just meets it.",
        "",
        "| World | Criterion | Utterances | Wrong PASS at 0.95 | Wrong FAIL at 0.95 | Wrong PASS, point | Wrong FAIL, "
        "point | Interval covers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += _errors(decisions)
    lines += _by_population(decisions, people)
    lines += ["", "## Power: decisions by what is true", "", "At confidence 0.95: PASS / FAIL / UNKNOWN, percent.", ""]
    for name, values in PLANTED.items():
        what = "gain" if name == "domain" else "regression"
        lines += [f"| World | Utterances | {' | '.join(f'true {what} {v:.2f}' for v in values)} |"]
        lines += ["|---|---|" + "---|" * len(values)]
        for world, size, items in _by_size(decisions, name):
            shown = " | ".join(_shares([i for i in items if i.planted == p]) for p in range(len(values)))
            lines.append(f"| {world} | {size} | {shown} |")
        lines.append("")
    return "\n".join(lines)


def _errors(decisions: Sequence[Decision]) -> Iterator[str]:
    for world in WORLDS:
        for name in SETS:
            mine = [item for item in decisions if (item.world, item.name) == (world.name, name)]
            sizes = sorted({item.size for item in mine})
            for size in (*sizes, None) if mine else ():
                rates = summary([item for item in mine if size in (item.size, None)])
                by_point = (rates.wrong_pass_point, rates.wrong_fail_point)
                shown = map(str, (rates.wrong_pass, rates.wrong_fail, *by_point, rates.covered))
                yield f"| {world.name} | {name} | {size or 'all'} | {' | '.join(shown)} |"


def _by_population(decisions: Sequence[Decision], people: Sequence[dict[str, Population]]) -> Iterator[str]:
    """The same, all sizes, of each population on its own: a method may suit the one that it was chosen on."""
    if len(people) < 2:
        return
    yield from ("", "## The same by population, all sizes", "")
    yield "| World | Criterion | Population | Wrong PASS at 0.95 | Wrong FAIL at 0.95 | Interval covers |"
    yield "|---|---|---|---|---|---|"
    for world in WORLDS:
        for name in SETS:
            for number, population in enumerate(people):
                rates = summary([i for i in decisions if (i.world, i.name, i.population) == (world.name, name, number)])
                shown = " | ".join(map(str, (rates.wrong_pass, rates.wrong_fail, rates.covered)))
                yield f"| {world.name} | {name} | {len(population[name].words)} utterances | {shown} |"


def _by_size(decisions: Sequence[Decision], name: str) -> Iterator[tuple[str, int, list[Decision]]]:
    for world in WORLDS:
        for size in sorted({item.size for item in decisions}):
            found = [i for i in decisions if (i.world, i.name, i.size) == (world.name, name, size)]
            if found:
                yield world.name, size, found


def _shares(items: Sequence[Decision]) -> str:
    found = Counter(item.by_confidence for item in items)
    return " / ".join(f"{100 * found[state] / max(1, len(items)):.0f}" for state in ("PASS", "FAIL", "UNKNOWN"))
