"""The end of a trainer's log as a terminal would have left it: escapes resolved, carriage returns too. Plain text."""

from __future__ import annotations

import re
from pathlib import Path

from core.sanitise import sanitise
from core.system.files import tail

TAIL_BYTES = 256 << 10
LONGEST_LINE = 2000
_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS and their like, to their end
    r"|\x1b[ -/]*[0-~]"  # the short ones
)


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


def last_line(path: Path) -> str:
    """The last line with anything on it, or nothing."""
    return next((line for line in reversed(read_tail(path, 8 << 10)) if line.strip()), "")


def resolved(line: str) -> str:
    """What is left of a line after its carriage returns, backspaces and escapes; safe for a terminal."""
    shown: list[str] = []
    for part in _ESCAPE.sub("", line).split("\r"):
        column = 0
        for character in part:
            if character == "\b":
                column = max(0, column - 1)
                continue
            shown[column : column + 1] = [character]
            column += 1
    return sanitise("".join(shown).replace("\t", "    "), LONGEST_LINE)
