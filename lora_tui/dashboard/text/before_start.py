"""The plan before its runs: what runs after what, under which condition, how long that takes, what ends it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from statistics import median
from typing import Any

from core.plan.schema import Row as PlanRow
from core.runs.row import Row, duration
from core.runs.status import Status
from core.sanitise import sanitise
from lora_tui.cells import Piece, Pieces, broken, cropped, padded, width_of
from lora_tui.dashboard.reading.snapshots import Board

NOT_KNOWN = "time not known"
_TITLE = 28
"""Cells of a title."""
_SHOWN = 3
"""Keys that a question names."""
Lengths = Mapping[str, float]
"""What tells how long a run takes → seconds that such a run took on this machine."""


def plan_lines(board: Board, selected: Row, width: int, height: int) -> list[Pieces]:
    """The plan as a tree in at most `height` lines, the selected row among them; what ends it stands first."""
    rows = [row for row in board.rows if row.planned and row.wanted is not None]
    if not rows or height < 1:
        return []
    head: list[Pieces] = [[(f"ends {_and(board.ends)}", "muted")]] if board.ends else []
    about = [selected.title, selected.settings, "" if selected.wanted is None else _conditions(selected.wanted)]
    told = sanitise("; ".join(filter(None, about)), 600)
    if told:
        head = [
            *broken([(f"{sanitise(selected.key, 40)}  ", "strong"), (told, "")], width)[: max(1, height // 4)],
            *head,
        ]
    room = max(1, height - len(head))
    known = lengths(board.rows)
    lines = _tree(rows, known, selected, width if len(rows) < room else None)
    if len(lines) > room:
        lines = _tree(rows, known, selected)
    at = next((number for number, (row, _) in enumerate(lines) if row.id == selected.id), 0)
    first = max(0, min(at - room // 2, len(lines) - room))
    shown = [pieces for _, pieces in lines[first : first + room]]
    return [*head, *shown][:height]


def start_question(board: Board) -> tuple[str, str]:
    """(what `s` asks, what it would do and how long that takes)."""
    known = lengths(board.rows)
    due = [row for row in board.rows if row.planned and not row.queued.submission and row.status is not Status.DONE]
    runs = [row for row in due if not row.same_as]
    plan = PurePath(board.plan or "the plan").name
    count = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    if not runs:
        goes_on = "Its rows are queued already; a supervisor is started."
        return f"Let the queue go on with {sanitise(plan, 60)}?", goes_on
    names = ", ".join(sanitise(row.key, 40) for row in runs[:_SHOWN])
    more = f" and {len(runs) - _SHOWN} more" if len(runs) > _SHOWN else ""
    told = [f"{names}{more}: {_all_together(runs, known)}."]
    told += [f"It ends {_and(board.ends)}."] if board.ends else []
    return f"Start {count} of {sanitise(plan, 60)}?", " ".join([*told, "Closing the dashboard stops nothing."])


def lengths(rows: Sequence[Row]) -> Lengths:
    """From the runs that were made on this machine: the median of those that take equally long by their settings."""
    found: dict[str, list[float]] = {}
    for row in rows:
        figures = row.figures
        whole = figures.steps is not None and figures.steps == figures.steps_planned
        if not figures.measured_here or figures.duration_s is None or not (whole or figures.eta_s is not None):
            continue
        key, steps = _kind(figures.settings), figures.steps_planned
        if key and steps:
            found.setdefault(key, []).append((figures.duration_s + (figures.eta_s or 0.0)) / steps)
    return {key: median(each) for key, each in found.items()}


def seconds_of(row: Row, known: Lengths) -> float | None:
    """How long the row's run would take, its evaluations included; None where no such run was made here."""
    steps, each = row.figures.steps_planned, known.get(_kind(row.figures.settings))
    return None if not steps or each is None else each * steps


def _kind(settings: Mapping[str, Any]) -> str:
    """What a step and its share of the evaluations depend on."""
    train, model = settings.get("train"), settings.get("model")
    if not isinstance(train, Mapping) or not isinstance(model, Mapping):
        return ""
    of_train = [train.get(name) for name in ("batch_seconds", "epochs", "eval_every", "precision", "base_precision")]
    of_train.append(train.get("steps") if train.get("epochs") is not None else None)
    data = settings.get("data")
    sets = [data.get(name) for name in ("train", "domain", "heldout")] if isinstance(data, Mapping) else []
    return repr((model.get("id"), of_train, sets))


def _all_together(runs: Sequence[Row], known: Lengths) -> str:
    each = [seconds_of(row, known) for row in runs]
    told = [seconds for seconds in each if seconds is not None]
    if not told:
        return "how long it takes is not known, no such run was made on this machine"
    unknown = f", {len(each) - len(told)} not known" if len(told) < len(each) else ""
    return f"about {duration(sum(told))} one after the other, by runs of this machine{unknown}"


def _tree(rows: Sequence[Row], known: Lengths, selected: Row, width: int | None = None) -> list[tuple[Row, Pieces]]:
    """Each row below the one that it comes after.

    `width`: what a row depends on has a line of its own where the row's line is too short for it.
    """
    places = {row.key: number for number, row in enumerate(rows)}
    keys = {row.experiment: row.key for row in reversed(rows)}
    below: dict[str | None, list[Row]] = {}
    for row in rows:
        below.setdefault(_parent(row, places, keys), []).append(row)
    cells: list[tuple[Row, str, tuple[str, ...]]] = []

    def add(parent: str | None, indent: str) -> None:
        children = below.get(parent, [])
        for number, row in enumerate(children):
            last = number == len(children) - 1
            branch = "" if parent is None else f"{indent}{'└' if last else '├'} "
            cells.append((row, f"{branch}{sanitise(row.key, 40)}", _cells(row, known)))
            if len(indent) < _TITLE:  # a chain that is deeper is drawn flat
                add(row.key, "" if parent is None else f"{indent}{' ' if last else '│'} ")
            else:
                deeper = below.get(row.key, [])
                cells.extend((one, f"{indent}  {sanitise(one.key, 40)}", _cells(one, known)) for one in deeper)

    add(None, "")
    widths = [max(width_of(c[2][i]) for c in cells) for i in range(len(cells[0][2]))] if cells else []
    first = max((width_of(name) for _, name, _ in cells), default=0)
    lines: list[tuple[Row, Pieces]] = []
    for row, name, texts in cells:
        whole = _line(row, name, texts, first, widths, row.id == selected.id)
        if width is None or sum(width_of(text) for text, _ in whole) <= width:
            lines.append((row, whole))
            continue
        lines.append((row, whole[:-1]))
        if texts[-1]:
            own = [(f"{' ' * (first + 4)}{texts[-1]}", "muted")]
            lines += [(row, part) for part in broken(own, width)]
    return lines


def _line(row: Row, name: str, texts: Sequence[str], first: int, widths: Sequence[int], selected: bool) -> Pieces:
    pieces: list[Piece] = [("▸ " if selected else "  ", "key"), (padded(name, first), "strong")]
    pieces += [(f"  {padded(text, width)}", "") for text, width in zip(texts[:-1], widths[:-1], strict=True) if width]
    return [*pieces, (f"  {texts[-1]}", "muted")]


def _parent(row: Row, places: Mapping[str, int], keys: Mapping[str, str]) -> str | None:
    """The row that it stands below: the last of those that it comes after, if that stands above it."""
    wanted = row.wanted
    if wanted is None:
        return None
    if wanted.confirms in places:
        return wanted.confirms
    found = [keys.get(name, name) for name in wanted.after]
    above = [key for key in found if places.get(key, len(places)) < places[row.key]]
    return above[-1] if above else None


def _cells(row: Row, known: Lengths) -> tuple[str, ...]:
    """How long, steps, learning rate, method and rank, title, and what it depends on."""
    wanted = row.wanted
    if wanted is None:
        return ("",) * 6
    train, adapter = wanted.settings.train, wanted.settings.adapter
    seconds = seconds_of(row, known)
    long = row.status.text if row.run is not None else NOT_KNOWN if seconds is None else f"about {duration(seconds)}"
    title = (wanted.label or row.settings if "#" in row.key else "") or row.title
    return (
        f"same run as {row.same_as}" if row.same_as else long,
        f"{train.steps} steps",
        f"lr {train.learning_rate:g}",
        f"{adapter.method} rank {adapter.rank}",
        cropped(sanitise(title, 200), _TITLE),
        sanitise(_conditions(wanted), 300),
    )


def _conditions(wanted: PlanRow) -> str:
    said = [f"after {', '.join(wanted.after)}"] if wanted.after else []
    said += [f"if {wanted.when}"] if wanted.when is not None else []
    said += [f"modules of the best of {', '.join(wanted.adapter_from)}"] if wanted.adapter_from else []
    return ", ".join(said)


def _and(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + (" or " if len(parts) > 1 else "") + parts[-1] if parts else ""
