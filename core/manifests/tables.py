"""Tables of texts, as importers read them: strictly, with the line of whatever is wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import ManifestError
from core.manifests.parsing import Problems
from core.system.files import POINTER, is_pointer, open_regular


def read_text(path: Path) -> str:
    """A file of UTF-8, with or without a byte order mark. Raises ManifestError."""
    try:
        with open_regular(path, follow=True) as file:
            data = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"{path}: cannot be read ({reason}): correct the path or the permissions") from error
    if is_pointer(data):
        raise ManifestError(f"{path}: {POINTER}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not valid UTF-8 at byte {error.start + 1}: save the file as UTF-8") from error


def rows_of(path: Path, delimiter: str, quoting: Any) -> Iterator[tuple[int, list[str]]]:
    """(line, cells). A quote that is not closed, or closed in the middle of a cell, is an error: it would swallow what
    follows."""
    text = io.StringIO(read_text(path), newline="")
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise ManifestError(f"{path}:{reader.line_num}: not a table ({error}): export the file again") from error


def headed(
    path: Path, delimiter: str, quoting: Any, needed: tuple[str, ...], problems: Problems
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, column → cell) of a table whose first line names its columns, each once."""
    rows = rows_of(path, delimiter, quoting)
    _, head = next(rows, (0, []))
    missing = [name for name in needed if name not in head]
    if missing:
        raise ManifestError(f"{path}:1: no column {', '.join(missing)}: the first line must name the columns")
    twice = sorted({name for name in head if head.count(name) > 1})
    if twice:
        raise ManifestError(f"{path}:1: the column {twice[0]!r} is there twice: keep one of them")
    for number, row in rows:
        if len(row) != len(head):
            problems.add(number, f"{len(row)} columns, the first line has {len(head)}: correct it")
            continue
        yield number, dict(zip(head, row, strict=True))
