"""A grid of terminal cells with dots in them: 2 × 4 dots a cell in braille, or the same dots told in ASCII.

Text and marks lie over the dots. Every cell has one role (`train`, `best`, …), which a theme turns into a colour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lora_tui.dashboard.plots.series import Floats

Cell = tuple[str, str]
"""(character, role)."""

DOTS_WIDE, DOTS_HIGH = 2, 4
"""Dots of a cell."""
_BRAILLE = np.array([(0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80)], np.uint8)
"""Bit of the dot in row 0–3, column 0–1 of a cell."""
_ROWS = (0x09, 0x12, 0x24, 0xC0)
_LINE = "line-"
"""Begins the role of a dashed line."""
_MARK, _BESIDE = 1000, 20
"""What it costs a label to hide a mark, or to stand beside one, in dotted cells of curves."""


class Canvas:
    """`width` × `height` cells. Dot coordinates start at the top left; dots outside are dropped."""

    def __init__(self, width: int, height: int, *, ascii_only: bool = False) -> None:
        self.width, self.height = width, height
        self.dots_wide, self.dots_high = 2 * width, 4 * height
        self._characters = _ASCII if ascii_only else _DOTS
        self._bits = np.zeros((height, width), np.uint8)
        self._role = np.zeros((height, width), np.int16)
        self._names = [""]
        """Role number → role."""
        self._text: dict[tuple[int, int], Cell] = {}
        self._below: dict[tuple[int, int], Cell] = {}

    def dot(self, x: int, y: int, role: str) -> None:
        """Set one dot; the cell takes the role of the dot set last."""
        if 0 <= x < self.dots_wide and 0 <= y < self.dots_high:
            self._bits[y >> 2, x >> 1] |= _BRAILLE[y & 3, x & 1]
            self._role[y >> 2, x >> 1] = self._number(role)

    def line(self, x0: float, y0: float, x1: float, y1: float, role: str) -> None:
        """A straight line; only the part inside is walked."""
        self.polyline(np.array([x0, x1]), np.array([y0, y1]), np.array([False, True]), role)

    def polyline(self, xs: Floats, ys: Floats, joined: NDArray[np.bool_], role: str) -> None:
        """Points, each joined to the one before where `joined` says so. Shapes (points,)."""
        if not len(xs):
            return
        alone = ~joined
        alone[:-1] &= ~joined[1:]
        ends = np.flatnonzero(joined)
        lines = _clip(xs[ends - 1], ys[ends - 1], xs[ends], ys[ends], self.dots_wide - 1, self.dots_high - 1)
        across, down = _walk(*lines)
        self._set(np.concatenate([xs[alone], across]), np.concatenate([ys[alone], down]), role)

    def _set(self, xs: Floats, ys: Floats, role: str) -> None:
        with np.errstate(invalid="ignore"):
            inside = (xs >= -0.5) & (xs <= self.dots_wide - 0.5) & (ys >= -0.5) & (ys <= self.dots_high - 0.5)
        x, y = np.rint(xs[inside]).astype(np.int64), np.rint(ys[inside]).astype(np.int64)
        x, y = np.clip(x, 0, self.dots_wide - 1), np.clip(y, 0, self.dots_high - 1)
        dots = np.zeros((self.dots_high, self.dots_wide), np.uint8)
        dots[y, x] = 1
        for row in range(4):
            for column in range(2):
                self._bits |= dots[row::4, column::2] * _BRAILLE[row, column]
        self._role[y >> 2, x >> 1] = self._number(role)

    def dashes(self, y: int, role: str) -> None:
        """A dashed line from edge to edge, below everything: dots that are there keep their role."""
        if not 0 <= y < self.dots_high:
            return
        row, roles = self._bits[y >> 2], self._role[y >> 2]
        free = row[::2] == 0
        row[::2][free] |= _ROWS[y & 3]
        roles[::2][free] = self._number(role)

    def below(self, column: int, row: int, character: str, role: str) -> None:
        """A character that is seen where there is neither dot nor text."""
        if 0 <= row < self.height and 0 <= column < self.width:
            self._below[row, column] = (character, role)

    def text(self, column: int, row: int, text: str, role: str) -> None:
        """Characters over the dots; those outside are dropped."""
        for i, character in enumerate(text):
            if 0 <= row < self.height and 0 <= column + i < self.width:
                self._text[row, column + i] = (character, role)

    def label(self, row: int, text: str, role: str) -> None:
        """Text in this row, where it hides least: no mark while there is room, few dots of curves; far to the right."""
        if not 0 <= row < self.height:
            return
        text = text[: self.width]
        lines = [number for number, name in enumerate(self._names) if name.startswith(_LINE)]
        hidden = np.where((self._bits[row] != 0) & ~np.isin(self._role[row], lines), 1, 0)
        for column in range(self.width):
            hidden[column] += _MARK * ((row, column) in self._text)
        # A mark beside it would read as a part of it.
        beside = np.concatenate([hidden[1:], [0]]) + np.concatenate([[0], hidden[:-1]])
        cost = hidden + np.where(beside >= _MARK, _BESIDE, 0)
        sums = np.convolve(cost, np.ones(len(text), np.int64), "valid")
        self.text(int(np.flatnonzero(sums == sums.min())[-1]), row, text, role)

    def free(self, column: int, row: int, text: str) -> bool:
        """Whether this text would lie inside, and over no other."""
        places = [(row, column + i) for i in range(len(text))]
        inside = 0 <= row < self.height and column >= 0 and column + len(text) <= self.width
        return inside and not any(place in self._text for place in places)

    def empty(self, column: int, row: int, width: int) -> bool:
        """Whether neither dots nor text are in these cells."""
        return self.free(column, row, " " * width) and not self._bits[row, column : column + width].any()

    def rows(self) -> list[list[Cell]]:
        """The cells, row by row."""
        characters, names = self._characters, self._names
        cells = [
            [(characters[bits], names[number] if bits else "") for bits, number in zip(*both, strict=True)]
            for both in zip(self._bits.tolist(), self._role.tolist(), strict=True)
        ]
        for (row, column), cell in self._below.items():
            if cells[row][column][0] == " ":
                cells[row][column] = cell
        for (row, column), cell in self._text.items():
            cells[row][column] = cell
        return cells

    def _number(self, role: str) -> int:
        if role not in self._names:
            self._names.append(role)
        return self._names.index(role)


def _ascii(bits: int) -> str:
    """`'`, `-` or `.` by the height of the dots in the cell; `|` where they fill it from top to bottom."""
    rows = [i for i, mask in enumerate(_ROWS) if bits & mask]
    if len(rows) >= 3:
        return "|"
    middle = sum(rows) / len(rows)
    return "'" if middle < 1 else ("-" if middle <= 2 else ".")


def _clip(x0: Floats, y0: Floats, x1: Floats, y1: Floats, right: float, bottom: float) -> tuple[Floats, ...]:
    """The parts of lines inside the rectangle from (0, 0) (Liang–Barsky); those without one are left out."""
    dx, dy = x1 - x0, y1 - y0
    start, end = np.zeros(len(x0)), np.ones(len(x0))
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.isfinite(dx) & np.isfinite(dy)
        for p, q in ((-dx, x0), (dx, right - x0), (-dy, y0), (dy, bottom - y0)):
            seen &= (p != 0) | (q >= 0)
            start = np.where(p < 0, np.maximum(start, q / p), start)
            end = np.where(p > 0, np.minimum(end, q / p), end)
    seen &= start <= end
    x0, y0, dx, dy, start, end = (values[seen] for values in (x0, y0, dx, dy, start, end))
    return x0 + start * dx, y0 + start * dy, x0 + end * dx, y0 + end * dy


def _walk(x0: Floats, y0: Floats, x1: Floats, y1: Floats) -> tuple[Floats, Floats]:
    """Points on the lines, a dot apart at most, both ends among them; line after line."""
    steps = np.maximum(1, np.ceil(np.maximum(np.abs(x1 - x0), np.abs(y1 - y0)))).astype(np.int64)
    line = np.repeat(np.arange(len(steps)), steps + 1)
    step = np.arange(len(line)) - (np.cumsum(steps + 1) - steps - 1)[line]
    share = step / steps[line]
    return x0[line] + (x1 - x0)[line] * share, y0[line] + (y1 - y0)[line] * share


_DOTS = [" ", *(chr(0x2800 + bits) for bits in range(1, 256))]
_ASCII = [" ", *(_ascii(bits) for bits in range(1, 256))]
