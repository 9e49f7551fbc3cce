"""On which line each key of a TOML text stands. tomli gives values without positions; problems need lines.

The scanner expects text that tomli accepted. On anything else it goes on as well as it can and never raises.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping

import tomli

KeyPath = tuple[str | int, ...]
"""`("train", "steps")`; elements of arrays by index: `("experiment", 0, "id")`."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STRINGS = (
    re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\\n])*"'),
    re.compile(r"'[^'\n]*'"),
)
_MAX_DEPTH = 100


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of each key, table header and array element in `text`."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def nearest_line(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of `path`, or of the nearest table around it; None where there is none."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._array_tables: dict[KeyPath, int] = {}
        """Index of the last `[[table]]` of each array of tables."""

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return
            start = self.at
            if self.text.startswith("[", start):
                table = self._header(table)
            else:
                self._pair(table, 0)
            if self.at == start:
                self._to_line_end()

    def _header(self, current: KeyPath) -> KeyPath:
        """`[a.b]` or `[[a.b]]`; gives the path of the table that follows."""
        line = self._line()
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        keys = self._key()
        if not keys:
            self._to_line_end()
            return current
        path: KeyPath = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            self.lines.setdefault(path, line)
            if is_array and position == len(keys) - 1:
                self._array_tables[path] = self._array_tables.get(path, -1) + 1
            if path in self._array_tables:
                path = (*path, self._array_tables[path])
        self.lines.setdefault(path, line)
        self._to_line_end()
        return path

    def _pair(self, table: KeyPath, depth: int) -> None:
        """`key = value`, in a table or an inline table."""
        line = self._line()
        keys = self._key()
        if not keys:
            return
        for length in range(1, len(keys) + 1):
            self.lines.setdefault((*table, *keys[:length]), line)
        self._skip(_SPACE)
        if self.text.startswith("=", self.at):
            self.at += 1
            self._value((*table, *keys), depth)

    def _value(self, path: KeyPath, depth: int) -> None:
        self._skip(_SPACE)
        opening = self.text[self.at : self.at + 1]
        if opening in ("[", "{"):
            if depth >= _MAX_DEPTH:
                self.at = len(self.text)
                return
            self.at += 1
            self._items(path, "]" if opening == "[" else "}", depth + 1)
            return
        if opening in ('"', "'") and self._string() is not None:
            return
        self._skip(_SCALAR)

    def _items(self, path: KeyPath, closing: str, depth: int) -> None:
        """The rest of an array or an inline table, after its opening bracket."""
        index = 0
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return
            start = self.at
            if self.text.startswith(closing, start):
                self.at += 1
                return
            if self.text.startswith(",", start):
                self.at += 1
                index += 1
            elif closing == "]":
                self.lines.setdefault((*path, index), self._line())
                self._value((*path, index), depth)
            else:
                self._pair(path, depth)
            if self.at == start:
                self.at += 1

    def _key(self) -> list[str]:
        """A dotted key; empty where none stands here."""
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            if self.text[self.at : self.at + 1] in ('"', "'"):
                raw = self._string()
                if raw is None:
                    return keys
                keys.append(_decoded(raw))
            else:
                match = _BARE_KEY.match(self.text, self.at)
                if match is None:
                    return keys
                keys.append(match.group())
                self.at = match.end()
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def _string(self) -> str | None:
        """The quoted string that stands here, with its quotes; None where it has no end."""
        for pattern in _STRINGS:
            match = pattern.match(self.text, self.at)
            if match is not None:
                self.at = match.end()
                return match.group()
        return None

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def _to_line_end(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end + 1

    def _line(self) -> int:
        return bisect_right(self._line_starts, self.at)


def _decoded(raw: str) -> str:
    """The text that a quoted key stands for."""
    try:
        return str(tomli.loads(f"key = {raw}")["key"])
    except tomli.TOMLDecodeError:
        return raw[1:-1]
