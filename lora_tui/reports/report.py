"""The one object that every report renders: the run matrix with each run's verdict, charts and clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from core.errors import ExitCode
from core.queue.execution import PlanExecution
from core.queue.report import RowReport, matrix_rows
from core.runs.matrix import MatrixRow
from core.runs.paths import RunPaths
from core.scoring.evidence import Thresholds
from core.scoring.verdict import thresholds_of

if TYPE_CHECKING:
    from lora_tui.reports.clips import ClipReport
    from lora_tui.reports.curves import Chart


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One row of the matrix, and what is shown below it."""

    line: MatrixRow
    outcome: str | None = None
    """accepted, rejected, undecided, pending or skipped; None for history."""
    folder: str | None = None
    """The run folder's path."""
    charts: tuple[Chart, ...] = ()
    clips: tuple[ClipReport, ...] = ()


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
            yield row, None if line.run is None else first.get(line.run)
            if line.run is not None:
                first.setdefault(line.run, line.experiment)

    def remarks(self) -> tuple[str, ...]:
        """What must be known before the verdicts are believed, a sentence each with the rows that it is true of."""
        told: dict[str, list[str]] = {}
        judged = [row.line for row in self.rows if row.line.verdict is not None]
        for line in judged:
            for remark in line.remarks:
                told.setdefault(remark, []).append(line.experiment)
        return tuple(
            remark if len(names) == len(judged) else f"{', '.join(dict.fromkeys(names))}: {remark}"
            for remark, names in told.items()
        )

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


def assemble(execution: PlanExecution, reports: Sequence[RowReport], code: ExitCode, *, details: bool = True) -> Report:
    """Everything that a report of this plan shows. Without `details` there are no charts and clips."""
    thresholds = thresholds_of(asdict(execution.plan.gate))
    by_line = {id(item.matrix): item for item in reports}
    lines = matrix_rows(execution, reports)
    clips: dict[RunPaths, tuple[ClipReport, ...]] = {}
    rows = [_row(line, by_line.get(id(line)), thresholds, clips, details=details) for line in lines]
    return Report(tuple(rows), code)


def of_lines(lines: Sequence[MatrixRow], code: ExitCode = ExitCode.ACCEPTED) -> Report:
    """A report of nothing but the matrix."""
    return Report(tuple(ReportRow(line) for line in lines), code)


def _row(
    line: MatrixRow,
    item: RowReport | None,
    thresholds: Thresholds,
    clips: dict[RunPaths, tuple[ClipReport, ...]],
    *,
    details: bool,
) -> ReportRow:
    """`clips`: those of the runs that earlier rows had, too."""
    if item is None:
        return ReportRow(line)
    folder = None if item.run is None else str(item.run.root)
    row = ReportRow(line, item.outcome.value, folder)
    if not details or item.run is None or item.snapshot is None or item.verdict is None:
        return row
    from lora_tui.reports.clips import chosen_clips
    from lora_tui.reports.curves import charts, position_charts

    drawn = charts(item.snapshot, thresholds, item.verdict.best_step) + position_charts(line.positions)
    if item.run not in clips:
        clips[item.run] = chosen_clips(item.run)
    return replace(row, charts=drawn, clips=clips[item.run])


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
