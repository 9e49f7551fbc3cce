"""The report as GitHub Markdown: a table, then a section for each run. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from core.runs.headline import headline
from core.runs.matrix import cells
from core.runs.row import NONE
from core.sanitise import escape_markdown, escape_markdown_cell
from core.scoring.certainty import sentence
from core.scoring.evidence import Criterion, Verdict
from lora_tui.progress import criterion_cells
from lora_tui.reports.report import Pictures, Report, ReportRow

if TYPE_CHECKING:
    from lora_tui.reports.clips import ClipReport

_CRITERION_HEADINGS = ("Criterion", "State", "Measured", "Threshold", "How sure", "Why")


def render(report: Report, pictures: Pictures | None = None, title: str = "Run matrix", *, short: bool = False) -> str:
    """The same report gives the same text. `pictures`: relative paths of the charts that lie beside the text.

    `short`: for a terminal, without charts and clips.
    """
    lines = [f"# {escape_markdown(title)}", ""]
    lines += [line for remark in report.remarks() for line in (f"**{escape_markdown(remark)}**", "")]
    lines += _table(report.headings, (cells(row.line, report.criteria) for row in report.rows))
    if not report.rows:
        lines += ["", "No experiments."]
    for missing in report.left_out():
        lines += ["", f"{missing}."]
    for row, same in report.sectioned():
        if row.line.verdict is not None:
            shown = replace(row, charts=(), clips=()) if short else row
            lines += ["", *_section(shown, row.line.verdict, same, pictures or {})]
    return "\n".join(lines) + "\n"


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = [escape_markdown_cell(cell) for cell in headings]
    body = [[escape_markdown_cell(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]


def _section(row: ReportRow, verdict: Verdict, same: str | None, pictures: Pictures) -> list[str]:
    line = row.line
    lines = [f"## {escape_markdown(line.name)}", ""]
    if same is not None:
        return [*lines, f"The same run as {escape_markdown(same)}: {escape_markdown(row.run or '')}."]
    if row.run is not None:
        lines += [f"Run {escape_markdown(row.run)}: **{escape_markdown(headline(line).text)}**.", ""]
    lines += [text for remark in line.remarks for text in (f"**{escape_markdown(remark)}**", "")]
    if line.note and all(line.note != criterion.reason for criterion in verdict.criteria):
        lines += [escape_markdown(line.note), ""]
    lines += _table(_CRITERION_HEADINGS, (_criterion(criterion) for criterion in verdict.criteria))
    sure = [(c.title, sentence(c.certainty, c.name)) for c in verdict.criteria if c.certainty is not None]
    lines += _facts("How sure", sure)
    lines += _facts("Problems", [("Problem", problem) for problem in row.problems])
    for findings in row.findings:
        lines += _facts(findings.title, findings.facts)
    lines += _pictures(row, pictures)
    lines += [text for clip in row.clips for text in _clip(clip)]
    lines += _facts("Evidence", row.evidence)
    return lines


def _criterion(criterion: Criterion) -> list[str]:
    state, title, number, limit, sure = criterion_cells(criterion)
    return [title, state, number, limit or NONE, sure or NONE, criterion.reason]


def _facts(title: str, facts: Iterable[tuple[str, str]]) -> list[str]:
    items = [f"- {escape_markdown(name)}: {escape_markdown(value)}" for name, value in facts]
    return ["", f"{escape_markdown(title)}:", "", *items] if items else []


def _pictures(row: ReportRow, pictures: Pictures) -> list[str]:
    found = [(chart.title, pictures.get((row.run or "", chart.key))) for chart in row.charts]
    images = [f"![{escape_markdown(title)}]({quote(path)})" for title, path in found if path is not None]
    return ["", *images] if images else []


def _clip(clip: ClipReport) -> list[str]:
    from lora_tui.reports.clips import aligned_lines, heading

    lines = ["", f"{escape_markdown(heading(clip))}:"]
    if not clip.columns:
        return lines
    text = [
        "".join(cell for cell, _ in line).rstrip()
        for number, block in enumerate(aligned_lines(clip.columns))
        for line in ([[("", "")]] if number else []) + block
    ]
    # A fence longer than any run of backticks in it cannot be closed from within.
    longest = max((len(run) for piece in text for run in _backticks(piece)), default=0)
    fence = "`" * max(3, longest + 1)
    return [*lines, "", f"{fence}text", *text, fence]


def _backticks(text: str) -> list[str]:
    return "".join(c if c == "`" else " " for c in text).split()
