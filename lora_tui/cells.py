"""Text in the cells of a terminal: a Chinese character takes two, a combining mark none. Pure.

All text that is fitted to columns or to a width is measured here, by the tables that Textual writes by.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import groupby

from core.runs.row import NONE
from core.terminal import PLAIN

Piece = tuple[str, str]
"""(text, role)."""
Pieces = Sequence[Piece]
"""A line."""
_NARROWEST = 10
"""Cells below which a line is cut rather than broken."""
_ASCII = str.maketrans(PLAIN)
_DECISIONS = {
    "accepted": ("✓", "pass"),
    "rejected": ("✗", "fail"),
    "failed": ("✗", "fail"),
    "cannot pass": ("✗", "fail"),
    "on course": ("▲", "pass"),
    "off course": ("▼", "fail"),
}
_UNKNOWN = ("?", "unknown")


def width_of(text: str) -> int:
    """How many cells the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # most commands print ASCII only, and start sooner without it

    return cell_len(text)


def in_cells(text: str) -> list[str]:
    """One string for each cell: a character with its marks, then nothing for the second cell of a wide one.

    Marks without a character before them are left out.
    """
    if text.isascii():
        return list(text)
    from rich.cells import split_graphemes

    found: list[str] = []
    for start, end, width in split_graphemes(text)[0]:
        if width:
            found += [text[start:end], *[""] * (width - 1)]
    return found


def head(cells: Sequence[str], width: int) -> list[str]:
    """The first `width` cells; a blank for a wide character of which only the first half is among them."""
    cut = list(cells[:width])
    if cut and len(cells) > width and not cells[width]:
        cut[-1] = " "
    return cut


def padded(text: str, width: int, *, right: bool = False) -> str:
    """The text with blanks behind it, or before it, up to `width` cells; longer text stays whole."""
    blanks = " " * (width - width_of(text))
    return blanks + text if right else text + blanks


def cropped(text: str, width: int, ellipsis: str = "…") -> str:
    """The text in at most `width` cells, the last of them `ellipsis` when it is cut."""
    return text if width_of(text) <= width else begun(text, width, ellipsis)


def begun(text: str, width: int, ellipsis: str = "…") -> str:
    """The beginning of a text that goes on: all of `width` cells, `ellipsis` in the last one."""
    return "".join(head(in_cells(text), width - 1)) + ellipsis if width > 0 else ""


def table(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), paint: Callable[[int, int, str], str] | None = None
) -> list[str]:
    """The rows as lines with aligned columns, two blanks between them. `right`: columns that end flush.

    A column without any text is left out. `paint`: (row, column, padded cell) → the cell in its colour.
    """
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)]
    lines = []
    for number, row in enumerate(rows):
        parts = [padded(cell, widths[i], right=i in right) for i, cell in enumerate(row) if widths[i]]
        if paint is not None:
            there = [i for i, width in enumerate(widths) if width]
            parts = [paint(number, i, part) for i, part in zip(there, parts, strict=True)]
        lines.append("  ".join(parts).rstrip())
    return lines


def cut(pieces: Pieces, width: int, ellipsis: str) -> Pieces:
    """A line of at most `width` cells, that says so when it is cut."""
    if sum(width_of(text) for text, _ in pieces) <= width:
        return list(pieces)
    kept: list[Piece] = []
    left = width
    for text, role in pieces:
        if width_of(text) >= left - 1:
            return [*kept, (begun(text, left, ellipsis), role)]
        kept.append((text, role))
        left -= width_of(text)
    return kept


def broken(line: Pieces, width: int) -> list[Pieces]:
    """The line in parts of at most `width` cells, broken at spaces, each part below the line's last column. Pure.

    Where that column is far to the right, or the line has one piece only, the parts stand below its beginning.
    """
    length = sum(width_of(text) for text, _ in line)
    if length <= width or width < _NARROWEST:
        return [line]
    hanging = length - width_of(line[-1][0])
    if len(line) == 1 or hanging > width // 2:
        first = line[0][0]
        hanging = min(len(first) - len(first.lstrip()), width // 2)
    left = [(cell, role) for text, role in line for cell in in_cells(text)]
    parts: list[Pieces] = []
    room = width
    while len(left) > room:
        start = hanging + 1 if not parts else 1
        spaces = [i for i in range(start, room + 1) if left[i][0] == " "]
        spaces = [i for i in spaces if left[i + 1 : i + 2] == [] or left[i + 1][0] != "%"] or spaces  # `50 %` is one
        end = spaces[-1] if spaces else room
        if not left[end][0]:
            end -= 1  # no wide character is parted
        parts.append(_pieces(left[:end], 0 if not parts else hanging))
        while end < len(left) and left[end][0] == " ":
            end += 1
        left, room = left[end:], width - hanging
    return [*parts, _pieces(left, hanging)] if left else parts


def headline_pieces(word: str, text: str, role: str) -> Pieces:
    """The sentence of where a row stands, its first word in the colour of its kind."""
    if not text.startswith(word):
        return [(text, "strong")]
    return [(word, role or "strong"), (text.removeprefix(word), "strong")]


def _pieces(cells: Pieces, indent: int) -> Pieces:
    pieces = [(" " * indent, "")] if indent else []
    return [
        *pieces,
        *(("".join(c for c, _ in group), role) for role, group in groupby(cells, key=lambda cell: cell[1])),
    ]


def plain(text: str, ascii_only: bool) -> str:
    """`text` without anything but ASCII, when asked for."""
    if ascii_only:
        # As wide as before, so that what follows stays in its column.
        text = text.replace("≥ ", ">=").replace("≤ ", "<=").replace(" ±", "+-")
    return text.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else text


def verdict_piece(verdict: str | None, seeds: tuple[int, int] | None = None) -> Piece:
    """`✓ accepted`, `▲ on course`, `? seeds 1/2`; a dash without a verdict. `verdict`: of `core.runs.headline`."""
    if verdict is None:
        return NONE, "muted"
    glyph, role = _DECISIONS.get(verdict, _UNKNOWN)
    return f"{glyph} {verdict if seeds is None else f'seeds {seeds[0]}/{seeds[1]}'}", role
