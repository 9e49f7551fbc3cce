"""The report as one HTML page that needs no network and runs no script; charts are in it. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from core.runs.headline import headline
from core.runs.matrix import verdict_word
from core.runs.row import NONE, Outcome, Row, Wer, duration, from_to, points, rate_of
from core.sanitise import sanitise
from core.scoring.certainty import sentence
from core.scoring.evidence import Criterion, Verdict
from lora_tui.progress import criterion_cells
from lora_tui.reports import svg, trade_off
from lora_tui.reports.clips import ClipReport, aligned_lines, heading
from lora_tui.reports.report import Report, ReportRow

TEXT_LENGTH = 4000
"""Characters of one text; longer ones end in an ellipsis."""
_STYLE = """\
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem;
  background: #fff; color: #1f2328; }
table { border-collapse: collapse; }
th, td { border-bottom: 1px solid #8886; padding: .3rem .6rem; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; } td.words, td:nth-child(5) { min-width: 11rem; } td:nth-child(2) { min-width: 6rem; }
.terms { display: grid; grid-template-columns: 11rem 1fr; gap: .1rem 1rem; } .terms dd { margin: 0; }
.lead { font-size: 1.25rem; } .lead span { opacity: .7; font-weight: 400; }
summary { cursor: pointer; padding: .3rem 0; } svg { max-width: 100%; height: auto; }
h2 { margin-top: 2.5rem; border-top: 2px solid #8886; padding-top: 1rem; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 1rem; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .5rem; border: 1px solid #8886; }
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
    """The whole page: what is recommended, a row a run, the trade-off and terms; all else is behind details."""
    title = "Which adapter ships"
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f'<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n'
        f"<style>\n{_STYLE}{svg.STYLE}{trade_off.STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    )
    accepted = any(row.line.outcome is Outcome.ACCEPTED for row in report.rows)
    date = f" <span>{report.date()}</span>" if report.date() else ""
    word = "accepted" if accepted else "rejected"
    head += f'<p class="lead {word}"><b>{_text(report.recommendation())}</b>{date}</p>\n'
    head += "".join(_remark(remark) for remark in report.remarks())
    rows = "".join(_row(group) for group in _by_run(report.rows))
    rate = rate_of([row.line for row in report.rows])
    sets = (f"Domain {rate} %", f"Heldout {rate} %")
    heads = _headings(("Run", "Verdict", *sets, "Where it stands", "Settings that differ"))
    table = f"<table>\n<tr>{heads}</tr>\n{rows}</table>\n" if rows else ""
    waiting = [row.line for row in report.rows if row.run is None]
    if waiting:
        told = "".join(f"<li>{_text(line.name)}: {_text(headline(line).text)}</li>" for line in waiting)
        table += f"<details><summary>{len(waiting)} rows without a run</summary><ul>{told}</ul></details>\n"
    if not report.rows:
        table += "<p>No experiments.</p>\n"
    table += "".join(f"<p>{_text(missing)}.</p>\n" for missing in report.left_out())
    sections = "".join(_section(row, row.line.verdict, same) for row, same in report.sectioned() if row.line.verdict)
    return f"{head}{table}{trade_off.render(report)}{_terms(rate)}{sections}</body>\n</html>\n"


def _by_run(rows: Iterable[ReportRow]) -> Iterable[Sequence[ReportRow]]:
    """The rows with a run, those that share one together."""
    found: dict[str, list[ReportRow]] = {}
    for row in rows:
        if row.run is not None:
            found.setdefault(row.run, []).append(row)
    return found.values()


def _row(group: Sequence[ReportRow]) -> str:
    """One run, by all names that the plan has for it."""
    line = group[0].line
    names = _text(line.name) + "".join(f"<br>also {_text(row.line.name)}" for row in group[1:])
    domain, heldout = line.figures.domain, line.figures.heldout
    decision = "" if line.verdict is None else line.verdict.decision.value
    cells = (
        f"<td>{names}</td>{_cell(verdict_word(line), decision)}<td>{_change(domain)}</td><td>{_change(heldout)}</td>"
        f"<td>{_text(headline(line).text)}</td>{_cell(line.settings or NONE, 'words')}"
    )
    return f"<tr>{cells}</tr>\n"


def _change(wer: Wer) -> str:
    if wer.now is None:
        return NONE
    told = from_to(wer.baseline, wer.now)
    return _text(told) if wer.change is None else f"{_text(told)} ({_text(points(wer.change))})"


def _terms(rate: str) -> str:
    facts = [
        (rate, "errors in 100 reference words (or what the gate counts): substitutions, deletions and insertions"),
        ("Domain, heldout", "the speech that the adapter is for, and ordinary speech that may not get worse"),
        ("Interval", "a step of training at which both sets are scored; the best one is the adapter that is judged"),
        ("Where it stands", "the change of both sets, how far heldout is from what is allowed, and the chance that "
         "both limits hold: that of the less sure of the two"),
        *_CRITERIA,
        ("PASS, FAIL, UNKNOWN", "UNKNOWN is missing evidence, which never passes; a run ships when all criteria pass"),
    ]  # fmt: skip
    return f'<h2>What the terms mean</h2><dl class="terms">{_facts(facts)}</dl>\n<h2>Each run</h2>\n'


_CRITERIA = (
    ("Convergence", "the domain loss falls over the run, and is lower at the best interval than before training"),
    ("Stability", "the domain error rate spans little over the last intervals, late enough in the run"),
    ("Artifact integrity", "the score is of the adapter on disk, whose hash still matches"),
    ("Domain change", "how the error rate on the domain set changes from base model to adapter: minus is fewer errors"),
    ("Heldout change", "on ordinary speech it makes at most so many more errors: the guardrail"),
    ("Parity", "another process, reading the adapter from disk, transcribes as the trainer did"),
)


def _remark(remark: str) -> str:
    return f'<p class="undecided">{_text(remark)}</p>\n'


def _headings(names: Iterable[str]) -> str:
    return "".join(f"<th>{_text(name)}</th>" for name in names)


def _cell(text: str, kind: str = "") -> str:
    if not kind:
        return f"<td>{_text(text)}</td>"
    # Lists such as q_proj+k_proj hold no space to break at.
    shown = _text(text).replace("+", "+<wbr>") if kind == "words" else _text(text)
    return f'<td class="{kind}">{shown}</td>'


def _section(row: ReportRow, verdict: Verdict, same: str | None) -> str:
    line = row.line
    if same is not None:
        return f"<p>{_text(line.name)}: the same run as {_text(same)}: {_text(row.run or NONE)}.</p>\n"
    lines = [f"<details><summary>{_text(line.name)}: {_text(headline(line).text)}</summary>"]
    decision = f'<b class="{verdict.decision.value}">{_text(verdict_word(line))}</b>'
    lines.append(f"<p>Run {_text(row.run or NONE)}: {decision}</p>")
    lines += [_remark(remark).rstrip() for remark in line.remarks]
    if line.note and all(line.note != criterion.reason for criterion in verdict.criteria):
        lines.append(f"<p>{_text(line.note)}</p>")
    titles = _headings(("Criterion", "State", "Measured", "Threshold", "Why"))
    criteria = "".join(_criterion(criterion) for criterion in verdict.criteria)
    lines.append(f"<table>\n<tr>{titles}</tr>\n{criteria}</table>")
    if row.problems:
        lines.append(f"<ul>{''.join(f'<li>Problem: {_text(problem)}</li>' for problem in row.problems)}</ul>")
    lines += [f"<h3>{_text(group.title)}</h3><dl>{_facts(group.facts)}</dl>" for group in row.findings]
    label = line.name
    drawn = "".join(svg.render(chart, label, standalone=False) for chart in row.charts)
    lines += [f'<div class="charts">{drawn}</div>'] if drawn else []
    lines += [_clip(clip) for clip in row.clips]
    if row.evidence:
        lines.append(f"<h3>Evidence</h3><dl>{_facts((*_figures(line), *row.evidence))}</dl>")
    return "\n".join([*lines, "</details>"]) + "\n"


def _figures(line: Row) -> list[tuple[str, str]]:
    figures = line.figures
    took = NONE if figures.duration_s is None else duration(figures.duration_s)
    return [("Settings that differ", line.settings or NONE), ("Steps", f"{figures.steps}"), ("Duration", took)]


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
