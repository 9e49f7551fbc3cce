"""The one object that every report renders: the run matrix with each run's verdict, charts and clips."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from core.errors import ExitCode
from core.queue.execution import PlanExecution
from core.runs.data_health import health_facts
from core.runs.headline import headline
from core.runs.judged import Fact, exports_found, origin
from core.runs.matrix import criteria_of, headings, history_row
from core.runs.paths import RunPaths
from core.runs.position import Position, read_positions
from core.runs.row import Outcome, Row
from core.runs.status import Status
from core.scoring.units import Unit

if TYPE_CHECKING:
    from lora_tui.reports.clips import ClipReport
    from lora_tui.reports.curves import Chart


_LATEST = 1e11
"""Seconds since 1970 that a calendar still knows."""


@dataclass(frozen=True, slots=True)
class Findings:
    """A titled list of facts that every format of a report shows under the run."""

    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A row, and what is shown below it."""

    line: Row
    problems: tuple[str, ...] = ()
    evidence: tuple[Fact, ...] = ()
    """What the verdict rests on."""
    findings: tuple[Findings, ...] = ()
    """What else a reader must know of the run: a heading and its facts each, such as the health of the data."""
    positions: tuple[Position, ...] = ()
    """What the order of the evaluation sets does to their error rates."""
    charts: tuple[Chart, ...] = ()
    clips: tuple[ClipReport, ...] = ()

    @property
    def outcome(self) -> str | None:
        """accepted, rejected, undecided, pending or skipped; None for history."""
        return None if self.line.status is Status.HISTORY else self.line.outcome.value

    @property
    def run(self) -> str | None:
        """Name of the run folder."""
        return None if self.line.run is None else self.line.run.name


@dataclass(frozen=True, slots=True)
class Report:
    """Assembled once; the formats only read it."""

    rows: tuple[ReportRow, ...]
    exit_code: ExitCode = ExitCode.ACCEPTED
    rows_left_out: int = 0
    """Rows that are not among `rows`, for want of room."""
    sections: int | None = None
    """How many rows have their section below the table; None: all."""

    def sectioned(self) -> Iterator[tuple[ReportRow, str | None]]:
        """The rows with a verdict that have a section. With each the row that shows the same run already, if any."""
        first: dict[str, str] = {}
        for row in self.rows[: self.sections]:
            line = row.line
            if line.verdict is None:
                continue
            yield row, None if row.run is None else first.get(row.run)
            if row.run is not None:
                first.setdefault(row.run, line.key)

    def remarks(self) -> tuple[str, ...]:
        """What must be known before the verdicts are believed, a sentence each with the rows that it is true of."""
        told: dict[str, list[str]] = {}
        judged = [row.line for row in self.rows if row.line.verdict is not None]
        for line in judged:
            for remark in line.remarks:
                told.setdefault(remark, []).append(line.key)
        return tuple(
            remark if len(names) == len(judged) else f"{', '.join(dict.fromkeys(names))}: {remark}"
            for remark, names in told.items()
        )

    @property
    def criteria(self) -> dict[str, str]:
        """The criteria that have a column, and its heading."""
        return criteria_of(row.line for row in self.rows)

    def recommendation(self) -> str:
        """One sentence for who decides: which run ships, or why none does. Of several, that of the largest gain."""
        lines = [row.line for row in self.rows if row.line.planned and row.line.confirms is None]
        ships = [line for line in lines if line.outcome is Outcome.ACCEPTED]
        if ships:
            best = min(ships, key=lambda line: line.figures.domain.change or 0.0)
            more = len({line.id if line.run is None else line.run.name for line in ships}) - 1  # rows may share a run
            others = f"; {more} more accepted" if more else ""
            return f"{headline(best).text}{others}"
        counted = Counter(line.outcome.value for line in lines)
        told = [f"{counted[word]} {word}" for word in ("rejected", "undecided", "pending", "skipped") if counted[word]]
        nearest = [line for line in lines if line.figures.standing is not None]
        why = f". {headline(nearest[0]).text}" if len(nearest) == 1 else ""
        return f"nothing ships: {', '.join(told) or 'there is no run'}{why}"

    def date(self) -> str:
        """Of the newest event of its runs, as `2026-11-30`, in UTC; nothing where there is none."""
        judged = [row.line.judged for row in self.rows if row.line.judged is not None]
        times = [at for one in judged if (at := one.snapshot.last_event_time) is not None]
        return time.strftime("%Y-%m-%d", time.gmtime(max(times))) if times and max(times) < _LATEST else ""

    @property
    def headings(self) -> tuple[str, ...]:
        """What stands over the cells of its table."""
        return headings([row.line for row in self.rows])

    @property
    def loosened(self) -> tuple[str, ...]:
        """The thresholds weaker than the defaults that verdicts were passed by."""
        verdicts = [row.line.verdict for row in self.rows if row.line.verdict is not None]
        return tuple(dict.fromkeys(phrase for verdict in verdicts for phrase in verdict.loosened))

    def left_out(self) -> tuple[str, ...]:
        """What is missing, in words."""
        said = [f"{self.rows_left_out} rows left out"] if self.rows_left_out else []
        hidden = [] if self.sections is None else self.rows[self.sections :]
        runs = sum(row.line.verdict is not None for row in hidden)
        return (*said, f"the details of {runs} rows left out") if runs else tuple(said)


def assemble(execution: PlanExecution, rows: Sequence[Row], code: ExitCode, *, details: bool = True) -> Report:
    """Everything that a report of this plan shows, earlier results first. Without `details` no charts and clips."""
    unit = Unit(execution.plan.gate.unit)
    history = [history_row(number, entry, unit) for number, entry in enumerate(execution.plan.history)]
    clips: dict[RunPaths, tuple[ClipReport, ...]] = {}
    told = [_row(row) for row in (*history, *rows)]
    return Report(tuple(_with_details(row, clips) if details else row for row in told), code)


def of_lines(lines: Sequence[Row], code: ExitCode = ExitCode.ACCEPTED) -> Report:
    """A report of nothing but the matrix, and of what the verdicts rest on."""
    return Report(tuple(map(_row, lines)), code)


def _row(line: Row) -> ReportRow:
    found = line.judged
    if found is None:
        return ReportRow(line)
    positions, _ = read_positions(found.snapshot.paths)
    facts = health_facts(found.evidence, line.verdict or found.verdict, found.thresholds, positions)
    findings = [Findings("Data health", facts)]
    if exports := exports_found(found):
        findings.append(Findings("Exports", exports))
    return ReportRow(line, found.problems, origin(found), tuple(findings), positions)


def _with_details(row: ReportRow, clips: dict[RunPaths, tuple[ClipReport, ...]]) -> ReportRow:
    """`clips`: those of the runs that earlier rows had, too."""
    found = row.line.judged
    if found is None or row.line.verdict is None:
        return row
    from lora_tui.reports.clips import chosen_clips
    from lora_tui.reports.curves import charts, position_charts

    run = found.snapshot.paths
    drawn = charts(found.snapshot, found.thresholds, row.line.verdict.best_step) + position_charts(row.positions)
    if run not in clips:
        clips[run] = chosen_clips(run)
    return replace(row, charts=drawn, clips=clips[run])


def fit(report: Report, limit: int, render: Callable[[Report], str]) -> str:
    """The rendered report in at most `limit` bytes: last sections first, then last rows are left out, and counted."""
    text = render(report)
    sections = len(report.rows)
    while sections and (size := _bytes(text)) > limit:
        sections = min(sections - 1, int(sections * limit / size))
        text = render(replace(report, sections=sections))
    kept = len(report.rows)
    while kept and (size := _bytes(text)) > limit:
        kept = min(kept - 1, int(kept * limit / size))
        text = render(replace(report, rows=report.rows[:kept], sections=0, rows_left_out=len(report.rows) - kept))
    return text


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


Pictures = Mapping[tuple[str, str], str]
"""(run, key of the chart) → where a format finds the picture."""
