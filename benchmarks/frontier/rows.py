"""What the rows of a plan came to, read from their run folders by the code that judges them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from core.plan.rows import expand
from core.runs.judged import judged
from core.runs.paths import RunPaths
from core.runs.store import read_run
from core.scoring.certainty import LEVEL
from core.scoring.significance import quantile
from core.scoring.verdict import thresholds_of
from lora_tui.request import load_plan

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference in points with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a run could have shipped, by its selection sets; of a run without them by domain and heldout."""

    name: str
    gain: float
    rise: float
    keeps: float | None
    """The probability that it keeps the guardrail; None: not known."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One run: a setting with one seed."""

    run: str
    steps: int
    minutes: float
    chosen: str
    """The candidate that it ships."""
    base_domain: float
    base_heldout: float
    gain: Estimate
    rise: Estimate
    meets: tuple[float, float]
    """The probabilities that the gain is asked for, and that the regression is allowed."""
    outcome: str
    """accepted, rejected or undecided by the plan's own gate."""
    sure: str
    """The same at `confidence = 0.95`."""
    in_the_way: tuple[str, ...]
    """The criteria that do not pass at 0.95."""
    end: tuple[float, float] | None
    """(gain, rise) of the last interval, on domain and heldout."""
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the plan."""

    cell: str
    """Its experiment."""
    title: str
    seed: int
    status: str
    ran: Ran | None


@dataclass(frozen=True, slots=True)
class Cell:
    """A setting with all its seeds."""

    name: str
    title: str
    rows: tuple[Row, ...]

    @property
    def ran(self) -> list[Ran]:
        """Those of its runs that have a verdict."""
        return [row.ran for row in self.rows if row.ran is not None]


@dataclass(frozen=True, slots=True)
class Study:
    """A plan and what there is of it."""

    name: str
    title: str
    cells: tuple[Cell, ...]


def study(plan: Path, runs: Path) -> Study:
    """Every row of the plan; those that were run, with their figures."""
    wanted = load_plan(plan)
    told = {line["experiment"]: line for line in _told(plan, runs)}
    titles = {one.id: one.title for one in wanted.experiments}
    rows: dict[str, list[Row]] = {}
    for row in expand(wanted):
        line = told.get(row.key, {})
        ran = of_run(runs / line["run"], line["outcome"]) if line.get("run") and line.get("tuned_domain") else None
        status = str(line.get("status", "not run"))
        entry = Row(row.experiment, titles[row.experiment], row.settings.train.seed, status, ran)
        rows.setdefault(row.experiment, []).append(entry)
    cells = tuple(Cell(name, titles[name], tuple(found)) for name, found in rows.items())
    return Study(plan.stem, plan.read_text().splitlines()[0].lstrip("# "), cells)


def _told(plan: Path, runs: Path) -> list[dict[str, Any]]:
    """The rows of the plan as `lora-tui --json` tells them."""
    command = [sys.executable, "-m", "lora_tui", "--headless", "--no-train", "--json", str(plan), "--runs", str(runs)]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    rows: list[dict[str, Any]] = json.loads(told)["rows"] if told.strip() else []
    return rows


def of_run(folder: Path, outcome: str) -> Ran | None:
    """The run in `folder`; None where it has no scores to judge. `outcome`: what its plan made of it."""
    snapshot = read_run(RunPaths(folder))
    gate = thresholds_of(snapshot.settings.get("gate") or {})
    found = judged(snapshot, replace(gate, confidence=LEVEL))
    gain, rise = (found.verdict.criterion(name) for name in ("domain_gain", "heldout"))
    if gain.certainty is None or rise.certainty is None:
        return None
    evidence = found.evidence
    base, last = evidence.baseline_domain, snapshot.intervals[-1]
    heldout = evidence.baseline_heldout
    assert base is not None
    assert heldout is not None
    rates = [float(counts.wer_percent or 0.0) for counts in (base, heldout, last.domain.counts, last.heldout.counts)]
    choice = evidence.choice
    return Ran(
        run=folder.name,
        steps=snapshot.steps_completed,
        minutes=round(snapshot.duration_s / 60, 1),
        chosen=found.verdict.chosen or f"step-{found.verdict.best_step:06d}",
        base_domain=rates[0],
        base_heldout=rates[1],
        gain=Estimate(gain.certainty.raw_pp, gain.certainty.low_pp, gain.certainty.high_pp),
        rise=Estimate(rise.certainty.raw_pp, rise.certainty.low_pp, rise.certainty.high_pp),
        meets=(gain.certainty.probability, rise.certainty.probability),
        outcome=outcome,
        sure=found.verdict.decision.value,
        in_the_way=tuple(f"{c.title} {c.state.value}" for c in found.verdict.criteria if c.state.value != "PASS"),
        end=(rates[0] - rates[2], rates[3] - rates[1]),
        candidates=tuple(
            Candidate(one.name, one.gain_pp, one.rise_pp, one.keeps)
            for one in (() if choice is None else choice.standings)
        ),
    )


def over_seeds(values: Sequence[float]) -> Estimate | None:
    """Their mean with its 95 % interval by Student's t, as another seed would have it. None: fewer than two."""
    if len(values) < 2:
        return None
    mean = fmean(values)
    half = quantile(0.5 + LEVEL / 2, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return Estimate(mean, mean - half, mean + half)


def document(studies: Sequence[Study]) -> str:
    """All of it as JSON."""
    return json.dumps({"schema": SCHEMA_VERSION, "studies": [asdict(one) for one in studies]}, indent=1) + "\n"
