"""The run matrix as the dashboard shows it: columns with text to read and values to sort by. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.runs.figures import NONE, duration, from_to
from core.runs.matrix import CRITERIA, differing_values
from core.runs.row import Row
from core.sanitise import sanitise
from lora_tui.dashboard.glyphs import decision_pieces

_GLYPHS = {"PASS": "✓", "FAIL": "✗", "UNKNOWN": "?"}
_ROLES = {"PASS": "pass", "FAIL": "fail", "UNKNOWN": "unknown"}
_HASH_LENGTH = 12
_LONGEST = 60
_NUMBERS = 1
_TEXTS = 2
_NOTHING = 3

_BEFORE_SETTINGS = (
    "experiment", "state", "verdict", "gain", "heldout change", "domain WER", "heldout WER",
    *(title.lower() for title in CRITERIA.values()),
)  # fmt: skip
_BEHIND_SETTINGS = ("steps", "duration", "adapter", "reason")

SortKey = tuple[int, float, str]
"""Numbers before texts, nothing at the end."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. `text` is safe for a terminal."""

    text: str
    role: str = ""
    key: SortKey = (_NOTHING, 0.0, "")


@dataclass(frozen=True, slots=True)
class Matrix:
    """The table: for each row its id and one cell a heading."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def matrix_of(rows: Sequence[Row]) -> Matrix:
    """All rows, in their order. Settings in which the rows that have any differ are columns of their own."""
    with_settings = [row for row in rows if row.figures.settings]
    values = differing_values([row.figures.settings for row in with_settings], (*_BEFORE_SETTINGS, *_BEHIND_SETTINGS))
    by_id = {row.id: one for row, one in zip(with_settings, values, strict=True)}
    names = list(dict.fromkeys(name for one in values for name in one))
    headings = (*_BEFORE_SETTINGS, *names, *_BEHIND_SETTINGS)
    return Matrix(headings, tuple((row.id, _cells(row, by_id.get(row.id, {}), names)) for row in rows))


def sort_rows(matrix: Matrix, heading: str, *, descending: bool) -> Matrix:
    """By this column; what has no value there comes last either way. A heading that is not there changes nothing."""
    if heading not in matrix.headings:
        return matrix
    column = matrix.headings.index(heading)
    known = [row for row in matrix.rows if row[1][column].key[0] != _NOTHING]
    unknown = [row for row in matrix.rows if row[1][column].key[0] == _NOTHING]
    known.sort(key=lambda row: row[1][column].key, reverse=descending)
    return Matrix(matrix.headings, (*known, *unknown))


def reason_of(row: Row) -> str:
    """Why it did not run, failed, waits or is not accepted; the remark on an earlier result."""
    return row.reason or ("" if row.word == "accepted" else row.figures.note)


def _cells(row: Row, values: Mapping[str, str], names: Sequence[str]) -> tuple[Cell, ...]:
    figures = row.figures
    gain = None if figures.domain.change is None else -figures.domain.change
    word, role = decision_pieces(row.word, row.goes_on, row.seeds)[0]
    states = dict(figures.criteria)
    return (
        _text(row.name, "strong" if row.planned else "muted"),
        _text(row.status.text, "active" if row.active else ""),
        Cell(word, role, _key(row.word)),
        _number(gain, f"{gain:+.2f}" if gain is not None else ""),
        _number(figures.heldout.change, f"{figures.heldout.change:+.2f}" if figures.heldout.change is not None else ""),
        _number(figures.domain.now, from_to(figures.domain.baseline, figures.domain.now)),
        _number(figures.heldout.now, from_to(figures.heldout.baseline, figures.heldout.now)),
        *(_criterion(states.get(criterion)) for criterion in CRITERIA),
        *(_setting(values.get(setting)) for setting in names),
        _number(figures.steps, f"{figures.steps}/{figures.steps_planned or '?'}"),
        _number(figures.duration_s, "" if figures.duration_s is None else duration(figures.duration_s)),
        _text((figures.adapter_hash or "")[:_HASH_LENGTH], "muted"),
        _text(reason_of(row), "muted"),
    )


def _criterion(state: str | None) -> Cell:
    if state is None:
        return Cell(NONE, "muted")
    return Cell(f"{_GLYPHS[state]} {state}", _ROLES[state], _key(state))


def _setting(value: str | None) -> Cell:
    if value is None:
        return Cell(NONE, "muted")
    try:
        return Cell(sanitise(value, _LONGEST), "", (_NUMBERS, float(value), ""))
    except ValueError:
        return _text(value)


def _number(value: float | None, text: str) -> Cell:
    return Cell(NONE, "muted") if value is None else Cell(text, "", (_NUMBERS, float(value), ""))


def _text(text: str, role: str = "") -> Cell:
    return Cell(sanitise(text, _LONGEST) or NONE, role, _key(text))


def _key(text: str | None) -> SortKey:
    return (_TEXTS, 0.0, text) if text else (_NOTHING, 0.0, "")
