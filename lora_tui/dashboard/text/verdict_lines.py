"""The verdict panel: one line a criterion with state, number, threshold and distance, and its reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.runs.data_health import headline
from core.runs.row import NONE
from core.sanitise import sanitise
from core.scoring.criteria import SIGNS
from core.scoring.evidence import Criterion, State
from lora_tui.cells import Piece, decision_pieces
from lora_tui.dashboard.reading.snapshots import RunView

_GLYPHS = {State.PASS: "✓", State.FAIL: "✗", State.UNKNOWN: "?"}
_ROLES = {State.PASS: "pass", State.FAIL: "fail", State.UNKNOWN: "unknown"}
_SHORT_UNITS = {"points": "points", "nats per 1000 steps": "nats/1000", "transcripts": "differ"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the panel, in pieces."""

    pieces: tuple[Piece, ...]


def verdict_lines(
    view: RunView,
    *,
    compact: bool = False,
    shortest: bool = False,
    seeds: tuple[Piece, ...] = (),
    goes_on: bool = False,
) -> list[Line]:
    """The whole panel, its heading first. `compact`: one line a criterion; `shortest`: and remarks behind the heading.

    `seeds`: of its repeats with other seeds. `goes_on`: the queue has the run go on later.
    """
    compact = compact or shortest
    decision, active = view.verdict.word, goes_on or view.snapshot.state.active
    best = view.verdict.best_step
    heading: list[Piece] = [("verdict  ", "title"), *decision_pieces(decision, active)]
    if best is not None:
        heading.append((f"  best interval: step {best}", "muted"))
    heading += seeds
    if view.verdict.guardrail_kept is False:
        heading.append(("  no interval keeps the guardrail", "fail"))
    if compact:
        # the panel's last line is the first to go where there is no room
        glyph, *_ = health_pieces(view)
        heading.append((f"  {glyph[0].replace('data ok', 'data').replace('UNKNOWN', 'data')}", glyph[1]))
    remarks = [(sanitise(remark), "unknown") for remark in view.verdict.remarks]
    if view.judged.evidence.failure:
        remarks.append((sanitise(view.judged.evidence.failure), "fail"))
    if shortest:
        heading += [(f"  {text}", role) for text, role in remarks]
        remarks = []
    lines = [Line(tuple(heading)), *(Line((remark,)) for remark in remarks)]
    for criterion in view.verdict.criteria:
        # its own folder is the one thing that everybody knows of a run
        short = replace(criterion, reason=criterion.reason.replace(f"{view.snapshot.paths.root}/", ""))
        lines += _criterion_lines(short, view.so_far.get(criterion.name), compact)
    lines.append(Line(health_pieces(view)))
    return lines


def health_pieces(view: RunView) -> tuple[Piece, ...]:
    """The data's health, in the columns of a criterion."""
    evidence = view.judged.evidence
    state, told = headline(evidence.data_health, view.positions, view.thresholds.accept_leakage, evidence.caps)
    word = "data ok" if state is State.PASS else state.value
    return ((f"{_GLYPHS[state]} {word:<8}", _ROLES[state]), (f"{'Data health':<19}", ""), (sanitise(told), "muted"))


def _criterion_lines(criterion: Criterion, so_far: Criterion | None, compact: bool) -> list[Line]:
    shown = criterion if criterion.value is not None or so_far is None else so_far
    role = _ROLES[criterion.state]
    pieces: list[Piece] = [
        (f"{_GLYPHS[criterion.state]} {criterion.state.value:<8}", role),
        (f"{criterion.title:<19}", ""),
        (f"{_value(shown):>9}", "strong"),
        (f"  {_threshold(shown):<17}", "muted"),
    ]
    distance = _distance(shown)
    if compact and criterion.state is State.UNKNOWN and shown.value is None:
        # No number, and a line only: what is missing has all the room.
        return [Line((*pieces[:2], (sanitise(criterion.reason), "muted")))]
    if shown is so_far and so_far is not None:
        word = so_far.state.value if so_far.state is not State.UNKNOWN else ""
        pieces.append((f"so far {word}: {distance}" if word else f"so far: {distance}", "muted"))
    elif criterion.state is State.UNKNOWN:
        missing = sanitise(criterion.reason) if compact else "not known yet; what is missing:"
        pieces.append((missing, "muted"))
    else:
        pieces.append((distance, role if criterion.state is State.FAIL else "muted"))
    line = Line(tuple(pieces))
    return [line] if compact else [line, Line(((" " * 10, ""), (sanitise(criterion.reason), "muted")))]


def _value(criterion: Criterion) -> str:
    if criterion.value is None:
        return NONE
    if criterion.unit == "transcripts":
        return f"{criterion.value:.0f}"
    return f"{criterion.value:+.2f}" if criterion.unit == "points" else f"{criterion.value:+.3g}"


def _threshold(criterion: Criterion) -> str:
    if criterion.threshold is None or criterion.kind not in SIGNS:
        return ""
    unit = _SHORT_UNITS.get(criterion.unit, criterion.unit)
    return f"{SIGNS[criterion.kind]} {criterion.threshold:g} {unit}"


def _distance(criterion: Criterion) -> str:
    """How far the number is from its threshold: `1.02 to spare`, `0.40 too much`."""
    if criterion.value is None or criterion.threshold is None or criterion.unit == "transcripts":
        return ""
    gap = abs(criterion.value - criterion.threshold)
    if SIGNS.get(criterion.kind) == "≥":
        return f"{gap:.2f} to spare" if criterion.value >= criterion.threshold else f"{gap:.2f} short"
    if criterion.name == "convergence":
        return "falling" if criterion.value < criterion.threshold else f"{gap:.3g} too much"
    return f"{gap:.2f} to spare" if criterion.value <= criterion.threshold else f"{gap:.2f} too much"
