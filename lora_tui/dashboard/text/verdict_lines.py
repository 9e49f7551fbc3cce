"""The verdict panel: one line a criterion with state, number, threshold and distance, and its reason. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from core.runs.data_health import headline
from core.runs.evidence import planned_intervals
from core.runs.row import no_number
from core.sanitise import sanitise
from core.scoring.certainty import probability, short
from core.scoring.criteria import SIGNS
from core.scoring.evidence import Criterion, State
from core.scoring.luck import Tried
from core.scoring.outlook import never_known
from core.scoring.signs import MINUS, change, is_gain, signed
from core.scoring.signs import limit as shown_limit
from lora_tui.cells import Piece, width_of
from lora_tui.dashboard.reading.snapshots import RunView

_GLYPHS = {State.PASS: "✓", State.FAIL: "✗", State.UNKNOWN: "?"}
_ROLES = {State.PASS: "pass", State.FAIL: "fail", State.UNKNOWN: "unknown"}
_SHORT_UNITS = {"points": "points", "nats per 1000 steps": "nats/1000", "transcripts": "differ"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the panel, in pieces."""

    pieces: tuple[Piece, ...]


def verdict_lines(view: RunView, *, width: int = 1000, height: int = 1000, seeds: tuple[Piece, ...] = ()) -> list[Line]:
    """The criteria, what must be known first before them: in `height` lines if a line each is enough for that.

    Reasons stand below those that fail or are unknown, then below the others, as far as there are lines. `width`: cells
    of a line, by which it is chosen how much is said of how sure a number is. `seeds`: of its repeats with other seeds.
    """
    remarks: list[Piece] = [(sanitise(remark), "unknown") for remark in view.verdict.remarks]
    said = [*([seeds] if seeds else []), *([remark] for remark in remarks)]
    behind = [Line(health_pieces(view))]
    if view.tried is not None and view.tried.runs > 1:
        behind.append(Line(_luck_pieces(view.tried, width)))
    criteria = view.verdict.criteria
    never = _never(view)
    long = [_lines_of(view, criterion, width, never.get(criterion.name, ""), compact=False) for criterion in criteria]
    room = height - len(behind) - len(said)
    if sum(map(len, long)) > room:
        short = [_lines_of(view, one, width, never.get(one.name, ""), compact=True) for one in criteria]
        if len(short) > room and said:
            said = [[piece for one in said for piece in (*one, ("  ", ""))]]
            room = height - len(behind) - len(said)
        urgent = sorted(range(len(criteria)), key=lambda n: _urgency(criteria[n], view.so_far, never))
        if len(short) > room:
            # What passes goes first.
            long = [short[n] for n in sorted(urgent[: max(1, height - len(said))])]
        else:
            # Where the short line is the reason already, nothing more is to be said.
            open_ = [n for n in urgent if not any(criteria[n].reason in text for text, _ in short[n][0].pieces)]
            more = set(open_[: room - len(short)])
            long = [long[n] if n in more else short[n] for n in range(len(criteria))]
    return [*(Line(tuple(pieces)) for pieces in said), *(line for lines in long for line in lines), *behind]


def _urgency(criterion: Criterion, so_far: Mapping[str, Criterion], never: Mapping[str, str]) -> int:
    """0: it fails, would now, or cannot pass; 1: it is unknown; 2: it passes."""
    now = so_far.get(criterion.name)
    if criterion.state is State.FAIL or criterion.name in never or (now is not None and now.state is State.FAIL):
        return 0
    return 1 if criterion.state is State.UNKNOWN else 2


def _never(view: RunView) -> dict[str, str]:
    """Criteria that stay unknown whatever comes, each with why."""
    found = never_known(view.judged.evidence, view.thresholds, planned_intervals(view.snapshot))
    unknown = [one.name for one in view.verdict.criteria if one.state is State.UNKNOWN]
    return {name: found.why for name in found.criteria if name in unknown}


def _lines_of(view: RunView, criterion: Criterion, width: int, never: str, *, compact: bool) -> list[Line]:
    # its own folder is the one thing that everybody knows of a run
    local = replace(criterion, reason=criterion.reason.replace(f"{view.snapshot.paths.root}/", ""))
    return _criterion_lines(local, view.so_far.get(criterion.name), compact, width, never)


def _luck_pieces(tried: Tried, width: int) -> tuple[Piece, ...]:
    """The chance that one of the runs judged on these sets passes by luck, in the columns of a criterion."""
    before = " " * 10, f"{'Passing by luck':<19}"
    long, short = tried.brief
    told = long if sum(map(width_of, (*before, long))) <= width else short
    return (*((text, "") for text in before), (told, "muted"))


def health_pieces(view: RunView) -> tuple[Piece, ...]:
    """The data's health, in the columns of a criterion."""
    evidence = view.judged.evidence
    state, told = headline(evidence.data_health, view.positions, view.thresholds.accept_leakage, evidence.caps)
    word = "data ok" if state is State.PASS else state.value
    return ((f"{_GLYPHS[state]} {word:<8}", _ROLES[state]), (f"{'Data health':<19}", ""), (sanitise(told), "muted"))


def _criterion_lines(
    criterion: Criterion, so_far: Criterion | None, compact: bool, width: int, never: str
) -> list[Line]:
    """`never`: why the run cannot pass by it: then it has the mark and the colour of what fails."""
    shown = criterion if criterion.value is not None or so_far is None else so_far
    seen = State.FAIL if never else criterion.state
    role = _ROLES[seen]
    pieces: list[Piece] = [
        (f"{_GLYPHS[seen]} {criterion.state.value:<8}", role),
        (f"{criterion.title:<19}", ""),
        (f"{_value(shown):>8}", "strong"),
        (f"  {_threshold(shown):<15}", "muted"),
    ]
    reason, distance = sanitise(criterion.reason), _distance(shown)
    if never and not distance:
        return [Line((*pieces[:2], (f"cannot pass: {sanitise(never)}", role)))]
    if compact and criterion.state is not State.PASS and not distance:
        # No number that says it, and a line only: the reason has all the room.
        return [Line((*pieces[:2], (reason, role if criterion.state is State.FAIL else "muted")))]
    if shown is so_far and so_far is not None:
        word = so_far.state.value if so_far.state is not State.UNKNOWN else ""
        said = f"so far {word}: {distance}" if word else f"so far: {distance}"
        pieces.append((said, "fail" if so_far.state is State.FAIL else "muted"))
    elif criterion.state is State.UNKNOWN:
        # One line is enough where it has room for what is missing; without a threshold there is no number to come.
        before = pieces if _threshold(shown) else pieces[:2]
        if compact or sum(width_of(text) for text, _ in before) + width_of(reason) <= width:
            return [Line((*before, (reason, "muted")))]
    else:
        pieces.append((distance, role if criterion.state is State.FAIL else "muted"))
        pieces += _sureness(shown, width - sum(width_of(text) for text, _ in pieces))
    line = Line(tuple(pieces))
    return [line] if compact else [line, Line(((" " * 10, ""), (reason, "muted")))]


def _sureness(criterion: Criterion, room: int) -> list[Piece]:
    """How sure the number is, with its interval where there is room.

    `1.00 too much, 99.5 % sure`: of a missed threshold it is told how sure it is that it is missed.
    """
    certainty = criterion.certainty
    if certainty is None:
        return []
    chance = probability(1 - certainty.probability if _missed(criterion) else certainty.probability)
    said = (f"  {short(certainty, criterion.name)}", f", {chance} sure", f", {chance}")
    return [(text, "muted") for text in said if width_of(text) <= room][:1]


def _missed(criterion: Criterion) -> bool:
    """Whether the number itself is beyond its threshold."""
    value, limit = criterion.value, criterion.threshold
    if value is None or limit is None:
        return False
    return value < limit if is_gain(criterion.name) else value > limit


def _value(criterion: Criterion) -> str:
    if criterion.value is None:
        return no_number(criterion)
    if criterion.unit == "transcripts":
        return f"{criterion.value:.0f}"
    if criterion.unit != "points":
        return f"{criterion.value:.3g}".replace("-", MINUS)
    if criterion.kind == "stability":  # how far an error rate spans is no change
        return f"{criterion.value:.2f}"
    return signed(change(criterion.kind, criterion.value))


def _threshold(criterion: Criterion) -> str:
    if criterion.threshold is None or criterion.kind not in SIGNS:
        return ""
    unit = _SHORT_UNITS.get(criterion.unit, criterion.unit)
    return f"{SIGNS[criterion.kind]} {shown_limit(change(criterion.kind, criterion.threshold))} {unit}"


def _distance(criterion: Criterion) -> str:
    """How far the number is from its threshold: `1.02 to spare`, `0.40 too much`."""
    if criterion.value is None or criterion.threshold is None or criterion.unit == "transcripts":
        return ""
    gap = abs(criterion.value - criterion.threshold)
    if is_gain(criterion.name):
        return f"{gap:.2f} to spare" if criterion.value >= criterion.threshold else f"{gap:.2f} short"
    if criterion.name == "convergence":
        return "falling" if criterion.value < criterion.threshold else f"{gap:.3g} too much"
    return f"{gap:.2f} to spare" if criterion.value <= criterion.threshold else f"{gap:.2f} too much"
