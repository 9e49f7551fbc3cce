"""The end of a trainer's log as a terminal would have left it: escapes resolved, carriage returns too. Plain text."""

from __future__ import annotations

import re
from pathlib import Path

from core.sanitise import sanitise
from core.system.files import tail
from lora_tui.cells import in_cells

TAIL_BYTES = 256 << 10
LONGEST_LINE = 2000
_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS and their like, to their end
    r"|\x1b[ -/]*[0-~]"  # the short ones
)
_BACK = re.compile("([\r\b])")


def read_tail(path: Path, size: int = TAIL_BYTES) -> list[str]:
    """The lines in the last `size` bytes, resolved and sanitised; none without a file. Never raises."""
    try:
        data = tail(path, size + 1)
    except OSError:
        return []
    lines = data[-size:].decode("utf-8", "replace").split("\n")
    if len(data) > size:
        lines = lines[1:]  # its beginning is not there
    return [resolved(line) for line in lines]


def last_lines(path: Path, most: int = 40) -> tuple[str, ...]:
    """The last lines with anything on them, the newest last."""
    return tuple([line for line in read_tail(path, 8 << 10) if line.strip()][-most:])


def resolved(line: str) -> str:
    """What is left of a line after its carriage returns, backspaces and escapes; safe for a terminal."""
    line = _ESCAPE.sub("", line).replace("\t", "    ")
    if "\r" in line or "\b" in line:
        line = _overwritten(line)
    return sanitise(line, LONGEST_LINE)


def _overwritten(line: str) -> str:
    """What a terminal shows of a line that goes back and writes over itself."""
    shown: list[str] = []
    column = 0
    for part in _BACK.split(line):
        if part == "\r":
            column = 0
        elif part == "\b":
            column = max(0, column - 1)
        elif part:
            new = in_cells(part)
            end = column + len(new)
            if column < len(shown) and not shown[column]:
                shown[column - 1] = " "  # half of a wide character is none
            if end < len(shown) and not shown[end]:
                shown[end] = " "
            shown[column:end] = new
            column = end
    return "".join(shown)
