"""The queue as a table of text: which columns fit, what is in their cells, what is said without rows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from core.runs.headline import headline, verdict_of
from core.runs.row import NONE, Row, Wer, clock
from core.runs.status import Status
from core.sanitise import sanitise
from core.scoring.signs import signed
from core.scoring.units import Unit
from lora_tui.cells import Piece, cropped, padded, plain, verdict_piece, width_of
from lora_tui.dashboard.reading.snapshots import Board

_TROUBLE = frozenset(
    {
        Status.FAILED,
        Status.CRASHED,
        Status.DAMAGED,
        Status.DIVERGED,
        Status.OUT_OF_MEMORY,
        Status.DISK_FULL,
        Status.STALLED,
    }
)
_BAR_WIDTH = 8
_SHORTEST_ID, _LONGEST_ID = 5, 40
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Column:
    """One column. The ones with the lowest rank come first when room is short."""

    title: str
    width: int
    rank: int
    cell: Callable[[Row, bool], Piece]
    """(row, ASCII only) → text and role."""
    right: bool = False
    grows: int = 0
    """Share of the room that is left."""
    wide_from: int = 0
    """Columns of the table below which it is left out, so that what grows has the room."""


def _key(row: Row, ascii_only: bool) -> Piece:
    return row.key, "strong" if row.planned else "muted"


def _title(row: Row, ascii_only: bool) -> Piece:
    # the rows of a sweep have one title: what tells them apart stands first, where it is not cut off
    own = row.wanted.label if row.wanted is not None else ""
    parts = (own or row.settings, row.title) if "#" in row.key else (row.title, row.settings)
    return ", ".join(part for part in parts if part), "muted"


def _state(row: Row, ascii_only: bool) -> Piece:
    if row.status in _TROUBLE:
        return row.status.text, "fail"
    return row.status.text, "active" if row.active else ("" if row.run else "muted")


def _percent(row: Row, ascii_only: bool) -> Piece:
    share = progress(row)
    return (NONE if share is None else f"{100 * share:.0f}%"), ""


def _bar(row: Row, ascii_only: bool) -> Piece:
    share = progress(row)
    if share is None:
        return "", ""
    full, empty = ("#", ".") if ascii_only else ("━", "┄")
    filled = round(share * _BAR_WIDTH)
    return full * filled + empty * (_BAR_WIDTH - filled), "active" if row.active else "muted"


def _steps(row: Row, ascii_only: bool) -> Piece:
    return f"{NONE if row.figures.steps is None else row.figures.steps}/{row.figures.steps_planned or '?'}", ""


def _eta(row: Row, ascii_only: bool) -> Piece:
    return (NONE if row.figures.eta_s is None else clock(row.figures.eta_s)), ""


def _pace(row: Row, ascii_only: bool) -> Piece:
    return (NONE if row.figures.pace_s is None else f"{row.figures.pace_s:.2f}"), ""


def _domain(row: Row, ascii_only: bool) -> Piece:
    return wer_with_change(row.figures.domain), ""


def _heldout(row: Row, ascii_only: bool) -> Piece:
    return wer_with_change(row.figures.heldout), ""


def _verdict(row: Row, ascii_only: bool) -> Piece:
    return verdict_piece(verdict_of(row), row.seeds)


def _stands(row: Row, ascii_only: bool) -> Piece:
    return headline(row).text, "muted"


COLUMNS = (
    Column("id", 9, 0, _key),
    Column("title", 14, 9, _title, grows=2),
    Column("state", 13, 1, _state),
    Column("steps", 11, 10, _steps, right=True, wide_from=140),
    Column("progress", _BAR_WIDTH, 8, _bar),
    Column("done", 4, 4, _percent, right=True),
    Column("ETA", 7, 5, _eta, right=True),
    Column("s/step", 6, 7, _pace, right=True),
    Column("domain WER", 14, 2, _domain, right=True),
    Column("heldout WER", 14, 6, _heldout, right=True),
    Column("verdict", 13, 3, _verdict),
    Column("where it stands", 16, 11, _stands, grows=3),
)
_NARROW = {"id": (100, 8), "state": (110, 10), "domain WER": (220, 11), "heldout WER": (220, 11)}
"""Below so many columns a column is so wide."""

_SHORT_STATES = {"checkpointing": "checkpoint", "out of memory": "no memory", "stopped early": "early stop"}


def progress(row: Row) -> float | None:
    """Share of the planned steps that is done."""
    if row.figures.steps is None or not row.figures.steps_planned:
        return None
    return min(1.0, row.figures.steps / row.figures.steps_planned)


def wer_with_change(wer: Wer, nothing: str = NONE, decimals: int = 2) -> str:
    """`35.00 −5.00`: percent, and points against the base model."""
    if wer.now is None:
        return nothing
    told = f"{wer.now:.{decimals}f}"
    return told if wer.change is None else f"{told} {signed(wer.change, decimals)}"


def _rounded(wer: Wer, width: int) -> str:
    tries = (wer_with_change(wer, decimals=decimals) for decimals in (1, 0))
    return next((text for text in tries if len(text) <= width), wer_with_change(replace(wer, change=None), decimals=0))


def needs(rows: Sequence[Row]) -> Mapping[str, int]:
    """Cells that the ids and titles of these rows take, by the heading of their column; no more than is of use."""
    keys = max((width_of(row.key) for row in rows), default=0)
    titles = max((width_of(_title(row, False)[0]) for row in rows), default=0)
    return {"id": min(keys, _LONGEST_ID), "title": titles}


def fitting(width: int, needed: Mapping[str, int] | None = None, first: int = 0) -> list[tuple[Column, int]]:
    """The columns for a table `width` cells wide, each with its width; the important ones first to be in.

    `needed`: how wide what the rows have in a column is, where that is known. `first`: the column that follows the
    id, by its place; those behind it then stand in their order, whatever their importance. 0: nothing is scrolled.
    """
    known = needed or {}
    widths = {column.title: _width(column, width, known.get(column.title)) for column in COLUMNS}
    order = sorted(COLUMNS, key=lambda c: c.rank) if first == 0 else [COLUMNS[0], *COLUMNS[first:]]
    chosen: list[Column] = []
    left = width - 2
    for column in order:
        if widths[column.title] + 1 <= left and (first or width >= column.wide_from):
            chosen.append(column)
            left -= widths[column.title] + 1
        elif first:
            break
    for column in chosen:  # what has all that it needs leaves its share to the others
        if column.grows and (full := known.get(column.title)) is not None:
            more = max(0, min(left // 2 if column.grows < 3 else left, full - widths[column.title]))
            widths[column.title] += more
            left -= more
    growing = [column for column in chosen if column.grows and column.title not in known]
    total = sum(column.grows for column in growing)
    for column in growing:
        widths[column.title] += left * column.grows // total
    if not total and chosen:
        widths[chosen[0].title if needed is None else chosen[-1].title] += left
    return [(column, widths[column.title]) for column in sorted(chosen, key=COLUMNS.index)]


def _width(column: Column, width: int, needed: int | None) -> int:
    wide_from, narrow = _NARROW.get(column.title, (0, column.width))
    least = column.width if width >= wide_from else narrow
    if column.title != "id" or needed is None:
        return least
    # Ids are what rows are told apart by: they are whole as long as there is room for anything else.
    return max(_SHORTEST_ID, min(needed, max(least, width // 3)))


_VERDICTS: Mapping[str, int] = {word: number for number, word in enumerate(
    ("accepted", "on course", "open", "too early", "undecided", "off course", "cannot pass", "rejected", "failed")
)}  # fmt: skip
ORDERS: Mapping[str, Callable[[Row], float | str | None]] = {
    "id": lambda row: row.key,
    "state": lambda row: row.status.text,
    "done": progress,
    "domain WER": lambda row: row.figures.domain.change,
    "heldout WER": lambda row: row.figures.heldout.change,
    "verdict": lambda row: _VERDICTS.get(verdict_of(row) or "", len(_VERDICTS)) if verdict_of(row) else None,
}
"""Heading → what rows are sorted by; of error rates the change, the best one first."""


def sorted_rows(rows: Sequence[Row], by: str, *, descending: bool) -> tuple[Row, ...]:
    """By a heading of `ORDERS`, what has no value there last either way; in their own order by any other."""
    value = ORDERS.get(by)
    if value is None:
        return tuple(rows)
    known = [(found, row) for row in rows if (found := value(row)) is not None]
    known.sort(key=lambda one: one[0], reverse=descending)
    there = {row.id for _, row in known}
    return (*(row for _, row in known), *(row for row in rows if row.id not in there))


def heading(
    columns: Sequence[tuple[Column, int]], rate: str = Unit.WORD.rate, sort: str = "", *, ascii_only: bool = False
) -> list[Piece]:
    """The line above the rows. `rate`: what their error rates are called; `sort`: the column they are sorted by."""
    pieces: list[Piece] = [("  ", "")]
    for column, width in columns:
        title = column.title.replace(Unit.WORD.rate, rate)
        title += (" v" if ascii_only else "▼") if column.title == sort else ""
        pieces += [(_cell(title, width, column.right), "muted"), (" ", "")]
    return pieces


def row_pieces(
    row: Row, columns: Sequence[tuple[Column, int]], *, selected: bool, pinned: str, ascii_only: bool
) -> list[Piece]:
    """One row. `pinned`: the letter of a pinned run. The cursor is a glyph too, for screens without colour."""
    cursor = (">" if ascii_only else "▸") if selected else " "
    pieces: list[Piece] = [(cursor, "key"), (pinned or " ", "window")]
    for column, width in columns:
        text, role = column.cell(row, ascii_only)
        if width_of(text) > width:
            text = _shorter(text, row, column.title, width, ascii_only)
        text = plain(sanitise(text, _LONGEST), ascii_only)
        pieces += [(_cell(text, width, column.right, "~" if ascii_only else "…"), role), (" ", "")]
    return pieces


def _shorter(text: str, row: Row, title: str, width: int, ascii_only: bool) -> str:
    """A word that fits a narrow column, a number with fewer decimals, or an id with its end: its rows differ there."""
    if title == "id" and width > _SHORTEST_ID:
        tail = text[-(width // 2) :] if text.isascii() else ""
        return f"{text[: width - len(tail) - 1]}{'~' if ascii_only else '…'}{tail}" if tail else text
    if title == "domain WER":
        return _rounded(row.figures.domain, width)
    if title == "heldout WER":
        return _rounded(row.figures.heldout, width)
    return _SHORT_STATES.get(text, text)


def _cell(text: str, width: int, right: bool, ellipsis: str = "…") -> str:
    return padded(cropped(text, width, ellipsis), width, right=right)


def empty_state(board: Board) -> list[str]:
    """What to do when there is nothing to show."""
    if not board.where:
        return ["Reading the runs …"]
    if board.problems:
        return [
            "The plan cannot be read. Its problems:",
            *board.problems[:8],
            "Mend them: the board looks again by itself. P shows all of them.",
        ]
    if board.loading:
        return [f"Opening {board.plan}: {board.loading} …"]
    if board.plan is None:
        return [
            f"There is no run in {board.where}, and no plan in this folder.",
            "",
            "`lora-tui init` writes a plan for your model and manifests.",
            "`lora-tui PLAN` opens a plan of another folder.",
            "`lora-tui --runs DIR` shows the runs of another folder.",
            "`lora-tui --replay RUN_DIR` plays a recorded run.",
        ]
    return [
        "The plan has no experiment.",
        f"Add an [[experiment]] to {board.plan}; the board reads it again by itself.",
    ]
