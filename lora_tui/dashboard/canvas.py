"""A grid of terminal cells with dots in them: 2 × 4 dots a cell in braille, or the same dots told in ASCII.

Text and marks lie over the dots. Every cell has one role (`train`, `best`, …), which a theme turns into a colour.
"""

from __future__ import annotations

import math

Cell = tuple[str, str]
"""(character, role)."""

_BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of the dot in row 0–3, column 0–1 of a cell."""
_ROWS = (0x09, 0x12, 0x24, 0xC0)


class Canvas:
    """`width` × `height` cells. Dot coordinates start at the top left; dots outside are dropped."""

    def __init__(self, width: int, height: int, *, ascii_only: bool = False) -> None:
        self.width, self.height = width, height
        self.dots_wide, self.dots_high = 2 * width, 4 * height
        self._ascii = ascii_only
        self._bits = [[0] * width for _ in range(height)]
        self._roles = [[""] * width for _ in range(height)]
        self._text: dict[tuple[int, int], Cell] = {}

    def dot(self, x: int, y: int, role: str) -> None:
        """Set one dot; the cell takes the role of the dot set last."""
        if 0 <= x < self.dots_wide and 0 <= y < self.dots_high:
            self._bits[y >> 2][x >> 1] |= _BRAILLE[y & 3][x & 1]
            self._roles[y >> 2][x >> 1] = role

    def line(self, x0: float, y0: float, x1: float, y1: float, role: str) -> None:
        """A straight line; only the part inside is walked."""
        clipped = _clip(x0, y0, x1, y1, self.dots_wide - 1, self.dots_high - 1)
        if clipped is None:
            return
        x0, y0, x1, y1 = clipped
        steps = max(1, math.ceil(max(abs(x1 - x0), abs(y1 - y0))))
        for i in range(steps + 1):
            self.dot(round(x0 + (x1 - x0) * i / steps), round(y0 + (y1 - y0) * i / steps), role)

    def dashes(self, y: int, role: str) -> None:
        """A dashed line from edge to edge, below everything: dots that are there keep their role."""
        if not 0 <= y < self.dots_high:
            return
        for column in range(self.width):
            if column % 2 == 0 and not self._bits[y >> 2][column]:
                self._bits[y >> 2][column] |= _ROWS[y & 3]
                self._roles[y >> 2][column] = role

    def text(self, column: int, row: int, text: str, role: str) -> None:
        """Characters over the dots; those outside are dropped."""
        for i, character in enumerate(text):
            if 0 <= row < self.height and 0 <= column + i < self.width:
                self._text[row, column + i] = (character, role)

    def label(self, row: int, text: str, role: str) -> bool:
        """Text in this row where nothing but dashes is hidden by it, as far right as can be; whether there was room."""
        if not 0 <= row < self.height:
            return False
        for column in range(self.width - len(text), -1, -1):
            if not any(self._taken(row, column + i) for i in range(len(text))):
                self.text(column, row, text, role)
                return True
        return False

    def rows(self) -> list[list[Cell]]:
        """The cells, row by row."""
        return [[self._cell(row, column) for column in range(self.width)] for row in range(self.height)]

    def _taken(self, row: int, column: int) -> bool:
        dashed = self._roles[row][column].startswith("line-")
        return (row, column) in self._text or (self._bits[row][column] != 0 and not dashed)

    def _cell(self, row: int, column: int) -> Cell:
        if (row, column) in self._text:
            return self._text[row, column]
        bits = self._bits[row][column]
        if not bits:
            return " ", ""
        return _ascii(bits) if self._ascii else chr(0x2800 + bits), self._roles[row][column]


def _ascii(bits: int) -> str:
    """`'`, `-` or `.` by the height of the dots in the cell; `|` where they fill it from top to bottom."""
    rows = [i for i, mask in enumerate(_ROWS) if bits & mask]
    if len(rows) >= 3:
        return "|"
    middle = sum(rows) / len(rows)
    return "'" if middle < 1 else ("-" if middle <= 2 else ".")


def _clip(
    x0: float, y0: float, x1: float, y1: float, right: float, bottom: float
) -> tuple[float, float, float, float] | None:
    """The part of a line inside the rectangle from (0, 0) (Liang–Barsky); None if there is none."""
    dx, dy, start, end = x1 - x0, y1 - y0, 0.0, 1.0
    for p, q in ((-dx, x0), (dx, right - x0), (-dy, y0), (dy, bottom - y0)):
        if p == 0:
            if q < 0:
                return None
        elif p < 0:
            start = max(start, q / p)
        else:
            end = min(end, q / p)
    if start > end:
        return None
    return x0 + start * dx, y0 + start * dy, x0 + end * dx, y0 + end * dy
