"""The page of a run's verdict: how an accepted adapter is taken away, and how it was judged. Pure."""

from __future__ import annotations

from core.runs.headline import headline
from core.runs.row import Outcome, Row
from core.runs.shipping import Part, how_to_ship
from core.sanitise import sanitise
from core.scoring.certainty import sentence
from core.scoring.evidence import Criterion, State
from lora_tui.cells import Pieces, broken
from lora_tui.dashboard.reading.snapshots import RunView
from lora_tui.progress import criterion_cells

_LONGEST = 2000
_ROLES = {State.PASS: "pass", State.FAIL: "fail", State.UNKNOWN: "unknown"}
_GLYPHS = {State.PASS: "✓", State.FAIL: "✗", State.UNKNOWN: "?"}


def ship_lines(view: RunView, row: Row, width: int) -> list[Pieces]:
    """The commands, if the row was accepted; then each criterion with its reason and how sure it is."""
    lines: list[Pieces] = []
    for part in _parts(view, row):
        lines += [[(part.title, "title")], *([("  ", ""), (sanitise(text, _LONGEST), "")] for text in part.lines), []]
    if not lines:
        lines = [[("It does not ship: ", "title"), (sanitise(headline(row).text, _LONGEST), "")], []]
    lines.append([("How it was judged", "title")])
    lines += [[("  ", ""), (sanitise(remark, _LONGEST), "unknown")] for remark in view.verdict.remarks]
    for criterion in view.verdict.criteria:
        lines += _criterion(criterion)
    return [part for line in lines for part in (broken(line, width) if line else [line])]


def ship_text(view: RunView, row: Row) -> str:
    """The same to be copied: what stands below a heading as it is typed, the headings as comments."""
    lines = [f"# {sanitise(headline(row).text, _LONGEST)}"]
    for part in _parts(view, row):
        note = "# " if part.title == "Adapter" else ""
        lines += ["", f"# {part.title}", *(f"{note}{sanitise(text, _LONGEST)}" for text in part.lines)]
    lines += ["", "# How it was judged"]
    lines += [f"# {' '.join(filter(None, criterion_cells(one)))}" for one in view.verdict.criteria]
    return "\n".join(lines) + "\n"


def _parts(view: RunView, row: Row) -> tuple[Part, ...]:
    return how_to_ship(view.judged) if row.outcome is Outcome.ACCEPTED else ()


def _criterion(criterion: Criterion) -> list[Pieces]:
    state, title, number, limit, _ = criterion_cells(criterion)
    role = _ROLES[criterion.state]
    lines: list[Pieces] = [
        [
            (f"  {_GLYPHS[criterion.state]} {state:<8}", role),
            (f"{title}  ", "strong"),
            (f"{number} {limit}".rstrip(), ""),
        ],
        [("      ", ""), (sanitise(criterion.reason, _LONGEST), "muted")],
    ]
    if criterion.certainty is not None:
        lines.append([("      ", ""), (sentence(criterion.certainty, criterion.name), "muted")])
    return lines
