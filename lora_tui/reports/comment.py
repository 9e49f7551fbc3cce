"""The report as a comment on a pull or merge request, of GitHub and of GitLab: at most 60 lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from core.runs.headline import headline
from core.runs.matrix import verdict_word
from core.runs.row import NONE, Wer, from_to, points, rate_of
from core.sanitise import escape_markdown, escape_markdown_cell
from core.scoring.evidence import Criterion
from lora_tui.progress import criterion_cells
from lora_tui.reports.report import Report, ReportRow

MARK = "<!-- lora-tui: verdict -->"
"""By which a pipeline finds the comment that it wrote before."""
MOST_LINES = 60
_ROWS, _REMARKS, _CRITERIA = 25, 5, 12
"""Shown of each; what is left out is counted."""


def render(report: Report) -> str:
    """What is recommended, a row a run, what must be known first, and the criteria of the first run behind a fold."""
    date = f" ({report.date()})" if report.date() else ""
    lines = [MARK, f"### {escape_markdown(report.recommendation())}{date}", ""]
    remarks = report.remarks()
    for remark in remarks[:_REMARKS]:
        lines.append(f"- {escape_markdown(remark)}")
    lines += [f"- {len(remarks) - _REMARKS} more remarks"] if len(remarks) > _REMARKS else []
    lines += [""] if remarks else []
    runs = _by_run(report.rows)
    rate = rate_of([row.line for row in report.rows])
    if runs:
        lines += _table(("Run", "Verdict", f"Domain {rate} %", f"Heldout {rate} %", "Where it stands"))
        lines += [_line(_cells(group)) for group in runs[:_ROWS]]
    left = [f"{len(runs) - _ROWS} more runs"] if len(runs) > _ROWS else []
    without = sum(row.run is None for row in report.rows)
    left += [f"{without} rows without a run"] if without else []
    lines += ["", f"Not shown: {', '.join([*left, *report.left_out()])}."] if left or report.left_out() else []
    shown = next((group[0].line for group in runs if group[0].line.verdict is not None), None)
    if shown is not None and shown.verdict is not None:
        criteria = shown.verdict.criteria
        lines += ["", f"<details><summary>Criteria of {escape_markdown(shown.key)}</summary>", ""]
        lines += _table(("Criterion", "State", "Measured", "Threshold", "How sure"))
        lines += [_line(_criterion(one)) for one in criteria[:_CRITERIA]]
        lines += ["", "</details>"]
    return "\n".join(lines[:MOST_LINES]) + "\n"


def _by_run(rows: Sequence[ReportRow]) -> list[list[ReportRow]]:
    """Rows that share a run together; those that were accepted first."""
    found: dict[str, list[ReportRow]] = {}
    for row in rows:
        if row.run is not None:
            found.setdefault(row.run, []).append(row)
    return sorted(found.values(), key=lambda group: group[0].line.outcome.value != "accepted")


def _cells(group: Sequence[ReportRow]) -> tuple[str, ...]:
    line = group[0].line
    name = ", ".join(row.line.key for row in group)
    wers = _change(line.figures.domain), _change(line.figures.heldout)
    return name, verdict_word(line), *wers, headline(line).text


def _change(wer: Wer) -> str:
    if wer.now is None:
        return NONE
    return from_to(wer.baseline, wer.now) + ("" if wer.change is None else f" ({points(wer.change)})")


def _criterion(criterion: Criterion) -> tuple[str, ...]:
    state, title, number, limit, sure = criterion_cells(criterion)
    return title, state, number, limit or NONE, sure or NONE


def _table(heads: Sequence[str]) -> list[str]:
    return [_line(heads), _line(["---"] * len(heads))]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell if cell == '---' else escape_markdown_cell(cell) for cell in cells)} |"
