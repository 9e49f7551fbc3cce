"""The report as one HTML page that needs no network and runs no script; charts are in it. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from core.runs.matrix import cells, verdict_word
from core.runs.row import NONE
from core.sanitise import sanitise
from core.scoring.certainty import sentence
from core.scoring.evidence import Criterion, Verdict
from lora_tui.progress import criterion_cells
from lora_tui.reports import svg
from lora_tui.reports.clips import ClipReport, aligned_lines, heading
from lora_tui.reports.report import Report, ReportRow

TEXT_LENGTH = 4000
"""Characters of one text; longer ones end in an ellipsis."""
_FIRST = ("Experiment", "Verdict")
"""The table is wider than most windows: what one looks for first stands where it is seen."""
_STYLE = """\
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem;
  background: #fff; color: #1f2328; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { border-bottom: 1px solid #8886; padding: .3rem .6rem; text-align: left; vertical-align: top; }
.matrix td { white-space: nowrap; } .matrix td.note { white-space: normal; min-width: 18rem; }
.matrix td.words { white-space: normal; min-width: 11rem; }
.matrix th { vertical-align: bottom; }
h2 { margin-top: 2.5rem; border-top: 2px solid #8886; padding-top: 1rem; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 1rem; overflow-wrap: anywhere; }
pre { overflow-x: auto; padding: .5rem; border: 1px solid #8886; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; } .charts svg { width: 37rem; max-width: 100%; height: auto; }
.PASS, .accepted { color: #1a7f37; } .FAIL, .rejected { color: #cf222e; font-weight: 600; }
.UNKNOWN, .undecided { color: #9a6700; font-weight: 600; }
.broken { color: #cf222e; font-weight: 600; }
.sure { opacity: .8; }
@media (prefers-color-scheme: dark) {
  body { background: #0d1117; color: #e6edf3; }
  .PASS, .accepted { color: #3fb950; } .FAIL, .rejected, .broken { color: #ff7b72; }
  .UNKNOWN, .undecided { color: #d29922; }
}
"""


def render(report: Report) -> str:
    """The whole page: the table, then for each run its criteria, charts, clips, and what they rest on."""
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n<title>Run matrix</title>\n'
        f"<style>\n{_STYLE}{svg.STYLE}</style>\n</head>\n<body>\n<h1>Run matrix</h1>\n"
    )
    head += "".join(_remark(remark) for remark in report.remarks())
    headings = report.headings
    columns = (*_FIRST, *(name for name in headings if name not in _FIRST))
    rows = "".join(_row(row, report, columns) for row in report.rows)
    table = f'<div class="wide"><table class="matrix">\n<tr>{_headings(columns)}</tr>\n{rows}</table></div>\n'
    if not report.rows:
        table += "<p>No experiments.</p>\n"
    table += "".join(f"<p>{_text(missing)}.</p>\n" for missing in report.left_out())
    sections = "".join(_section(row, row.line.verdict, same) for row, same in report.sectioned() if row.line.verdict)
    return f"{head}{table}{sections}</body>\n</html>\n"


def _remark(remark: str) -> str:
    return f'<p class="undecided">{_text(remark)}</p>\n'


def _headings(names: Iterable[str]) -> str:
    return "".join(f"<th>{_text(name)}</th>" for name in names)


def _row(row: ReportRow, report: Report, columns: Sequence[str]) -> str:
    line, criteria = row.line, report.criteria
    states = {c.name: c.state.value for c in line.verdict.criteria} if line.verdict is not None else {}
    # Words, not colours alone: PASS, FAIL and UNKNOWN stand in every cell.
    kinds = {criteria[name]: state for name, state in states.items() if name in criteria}
    kinds |= {"Verdict": line.verdict.decision.value if line.verdict is not None else "", "Note": "note"}
    kinds |= dict.fromkeys(("Experiment", "Settings"), "words")
    texts = dict(zip(report.headings, cells(line, criteria), strict=True))
    return f"<tr>{''.join(_cell(texts[name], kinds.get(name, '')) for name in columns)}</tr>\n"


def _cell(text: str, kind: str = "") -> str:
    if not kind:
        return f"<td>{_text(text)}</td>"
    # Lists such as q_proj+k_proj hold no space to break at.
    shown = _text(text).replace("+", "+<wbr>") if kind == "words" else _text(text)
    return f'<td class="{kind}">{shown}</td>'


def _section(row: ReportRow, verdict: Verdict, same: str | None) -> str:
    line = row.line
    lines = [f"<h2>{_text(line.name)}</h2>"]
    if same is not None:
        return f"{lines[0]}\n<p>The same run as {_text(same)}: {_text(row.run or NONE)}.</p>\n"
    decision = f'<b class="{verdict.decision.value}">{_text(verdict_word(line))}</b>'
    lines.append(f"<p>Run {_text(row.run or NONE)}: {decision}</p>")
    lines += [_remark(remark).rstrip() for remark in line.remarks]
    if line.note and all(line.note != criterion.reason for criterion in verdict.criteria):
        lines.append(f"<p>{_text(line.note)}</p>")
    titles = _headings(("Criterion", "State", "Measured", "Threshold", "Why"))
    criteria = "".join(_criterion(criterion) for criterion in verdict.criteria)
    lines.append(f'<div class="wide"><table>\n<tr>{titles}</tr>\n{criteria}</table></div>')
    if row.problems:
        lines.append(f"<ul>{''.join(f'<li>Problem: {_text(problem)}</li>' for problem in row.problems)}</ul>")
    lines += [f"<h3>{_text(group.title)}</h3><dl>{_facts(group.facts)}</dl>" for group in row.findings]
    label = line.name
    drawn = "".join(svg.render(chart, label, standalone=False) for chart in row.charts)
    lines += [f'<div class="charts">{drawn}</div>'] if drawn else []
    lines += [_clip(clip) for clip in row.clips]
    if row.evidence:
        lines.append(f"<details><summary>Evidence</summary><dl>{_facts(row.evidence)}</dl></details>")
    return "\n".join(lines) + "\n"


def _criterion(criterion: Criterion) -> str:
    state, title, number, limit, _ = criterion_cells(criterion)
    sure = ""
    if criterion.certainty is not None:
        sure = f'<br><span class="sure">{_text(sentence(criterion.certainty, criterion.name))}</span>'
    why = f"<td>{_text(criterion.reason)}{sure}</td>"
    return f"<tr>{_cell(title)}{_cell(state, state)}{_cell(number)}{_cell(limit or NONE)}{why}</tr>\n"


def _clip(clip: ClipReport) -> str:
    blocks = [
        "\n".join("".join(_word(*cell) for cell in line).rstrip() for line in block)
        for block in aligned_lines(clip.columns)
    ]
    text = "\n\n".join(blocks)
    return f"<p>{_text(heading(clip))}</p>" + (f"\n<pre>{text}</pre>" if blocks else "")


def _word(text: str, role: str) -> str:
    return f'<span class="broken">{_text(text)}</span>' if role else _text(text)


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts)


def _text(text: str) -> str:
    return html.escape(sanitise(text, TEXT_LENGTH))
