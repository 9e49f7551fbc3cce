"""The run matrix as one HTML page that needs no network and runs no script. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from core.runs.figures import NONE, duration, from_to, points
from core.runs.matrix import CRITERIA, MatrixRow, verdict_word
from core.sanitise import sanitise
from core.scoring.certainty import sentence
from core.scoring.evidence import Verdict

TEXT_LENGTH = 4000
"""Characters of one text; longer ones end in an ellipsis."""
_HEADINGS = ("Experiment", "Settings", "Domain WER %", "Gain, points", "Heldout WER %", "Change, points")
_STYLE = """\
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8886; padding: .3rem .6rem; text-align: left; vertical-align: top; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 1rem; overflow-wrap: anywhere; }
.PASS, .accepted { color: #1a7f37; } .FAIL, .rejected { color: #cf222e; font-weight: 600; }
.UNKNOWN, .undecided { color: #9a6700; font-weight: 600; }
.sure { opacity: .8; }
"""


def render(rows: Sequence[MatrixRow], left_out: int = 0) -> str:
    """The whole page: the table, then for each run its criteria, how sure they are, and what they rest on."""
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n<title>Run matrix</title>\n'
        f"<style>\n{_STYLE}</style>\n</head>\n<body>\n<h1>Run matrix</h1>\n"
    )
    headings = (*_HEADINGS, *CRITERIA.values(), "Verdict", "Duration", "Note")
    table = "<table>\n<tr>" + "".join(f"<th>{_text(h)}</th>" for h in headings) + "</tr>\n"
    table += "".join(_row(row) for row in rows) + "</table>\n"
    if not rows:
        table += "<p>No experiments.</p>\n"
    if left_out:
        table += f"<p>{left_out} rows left out.</p>\n"
    sections = "".join(_section(row, row.verdict) for row in rows if row.verdict is not None)
    return f"{head}{table}{sections}</body>\n</html>\n"


def _row(row: MatrixRow) -> str:
    states = {c.name: c.state.value for c in row.verdict.criteria} if row.verdict is not None else {}
    plain = [
        f"{row.experiment} {row.title}".strip(),
        row.settings or NONE,
        from_to(row.baseline_domain, row.tuned_domain),
        points(row.tuned_domain, row.baseline_domain),
        from_to(row.baseline_heldout, row.tuned_heldout),
        points(row.baseline_heldout, row.tuned_heldout),
    ]
    cells = [f"<td>{_text(cell)}</td>" for cell in plain]
    # Words, not colours alone: PASS, FAIL and UNKNOWN stand in every cell.
    cells += [f'<td class="{states.get(name, "")}">{states.get(name, NONE)}</td>' for name in CRITERIA]
    decision = row.verdict.decision.value if row.verdict is not None else ""
    cells.append(f'<td class="{decision}">{_text(verdict_word(row))}</td>')
    cells.append(f"<td>{NONE if row.duration_s is None else duration(row.duration_s)}</td>")
    cells.append(f"<td>{_text(row.note) or NONE}</td>")
    return f"<tr>{''.join(cells)}</tr>\n"


def _section(row: MatrixRow, verdict: Verdict) -> str:
    lines = [f"<h2>{_text(f'{row.experiment} {row.title}'.strip())}</h2>"]
    lines.append(f'<p>Run {_text(row.run or NONE)}: <b class="{verdict.decision.value}">')
    lines[-1] += f"{_text(verdict_word(row))}</b></p>"
    if row.note:
        lines.append(f"<p>{_text(row.note)}</p>")
    lines.append("<ul>")
    for criterion in verdict.criteria:
        sure = ""
        if criterion.certainty is not None:
            sure = f'<br><span class="sure">{_text(sentence(criterion.certainty, criterion.name))}</span>'
        state = f'<span class="{criterion.state.value}">{criterion.state.value}</span>'
        lines.append(f"<li>{_text(criterion.title)}: {state}. {_text(criterion.reason)}{sure}</li>")
    lines += [f"<li>Problem: {_text(problem)}</li>" for problem in row.problems]
    lines.append("</ul>")
    if row.evidence:
        lines.append(f"<details><summary>Evidence</summary><dl>{_facts(row.evidence)}</dl></details>")
    return "\n".join(lines) + "\n"


def _facts(evidence: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in evidence)


def _text(text: str) -> str:
    return html.escape(sanitise(text, TEXT_LENGTH))
