"""The run matrix: every row of the plan, every other run and earlier results, to be sorted, filtered and opened.

Its columns have text to read and values to sort by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Input

from core.runs.headline import headline, verdict_of
from core.runs.matrix import criteria_of, differing_values
from core.runs.row import NONE, Row, duration, from_to, points, rate_of
from core.runs.status import Status
from core.sanitise import sanitise
from core.scoring.units import Unit
from lora_tui.cells import plain, verdict_piece
from lora_tui.dashboard.asks import allowed
from lora_tui.dashboard.messages import Asked, FollowsBoard, LookChanged
from lora_tui.dashboard.reading.snapshots import Board
from lora_tui.dashboard.screens.panels import FilterLine, OneLine
from lora_tui.dashboard.text.filters import EXAMPLE, parse
from lora_tui.dashboard.themes import style_of
from lora_tui.dashboard.widgets.mended import ClosesOnce, KeysFooter

_GLYPHS = {"PASS": "✓", "FAIL": "✗", "UNKNOWN": "?"}
_ROLES = {"PASS": "pass", "FAIL": "fail", "UNKNOWN": "unknown"}
_HASH_LENGTH = 12
_LONGEST = 60
_NUMBERS = 1
_TEXTS = 2
_NOTHING = 3

_BEFORE_SETTINGS = ("experiment", "state", "verdict", "domain change", "heldout change")
"""What one looks for first; then the settings that differ, which is what tells rows apart."""
_SCORES = ("domain WER", "heldout WER")
_BEHIND_SETTINGS = ("steps", "duration", "adapter", "where it stands")

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
    criteria = criteria_of(rows)
    behind = (*_SCORES, *(title.lower() for title in criteria.values()), *_BEHIND_SETTINGS)
    values = differing_values([row.figures.settings for row in with_settings], (*_BEFORE_SETTINGS, *behind))
    by_id = {row.id: one for row, one in zip(with_settings, values, strict=True)}
    names = list(dict.fromkeys(name for one in values for name in one))
    rate = rate_of(rows)
    headings = (*_BEFORE_SETTINGS, *names, *(heading.replace(Unit.WORD.rate, rate) for heading in behind))
    return Matrix(headings, tuple((row.id, _cells(row, by_id.get(row.id, {}), names, criteria)) for row in rows))


def sort_rows(matrix: Matrix, heading: str, *, descending: bool) -> Matrix:
    """By this column; what has no value there comes last either way. A heading that is not there changes nothing."""
    if heading not in matrix.headings:
        return matrix
    column = matrix.headings.index(heading)
    known = [row for row in matrix.rows if row[1][column].key[0] != _NOTHING]
    unknown = [row for row in matrix.rows if row[1][column].key[0] == _NOTHING]
    known.sort(key=lambda row: row[1][column].key, reverse=descending)
    return Matrix(matrix.headings, (*known, *unknown))


def _cells(row: Row, values: Mapping[str, str], names: Sequence[str], criteria: Iterable[str]) -> tuple[Cell, ...]:
    figures = row.figures
    word, role = verdict_piece(verdict_of(row), row.seeds)
    states = dict(figures.criteria)
    return (
        _text(row.name, "strong" if row.planned else "muted"),
        _text(row.status.text, "active" if row.active else ""),
        Cell(word, role, _key(verdict_of(row))),
        _number(figures.domain.change, points(figures.domain.change)),
        _number(figures.heldout.change, points(figures.heldout.change)),
        *(_setting(values.get(setting)) for setting in names),
        _number(figures.domain.now, from_to(figures.domain.baseline, figures.domain.now)),
        _number(figures.heldout.now, from_to(figures.heldout.baseline, figures.heldout.now)),
        *(_criterion(states.get(criterion)) for criterion in criteria),
        _number(figures.steps, f"{figures.steps}/{figures.steps_planned or '?'}"),
        _number(figures.duration_s, "" if figures.duration_s is None else duration(figures.duration_s)),
        _text((figures.adapter_hash or "")[:_HASH_LENGTH], "muted"),
        _text(headline(row).text, "muted"),
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


_SHORTEST_NAME = 22


class MatrixTable(DataTable[Text]):
    """The table, with Vim's keys beside the arrows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False),
        Binding("k", "cursor_up", "Up", show=False),
        Binding("h", "cursor_left", "Left", show=False),
        Binding("l", "cursor_right", "Right", show=False),
        Binding("g", "scroll_top", "First", show=False),
        Binding("G", "scroll_bottom", "Last", show=False),
    ]


class MatrixScreen(ClosesOnce, FollowsBoard, Screen[str | None]):
    """Closes with the id of a row that is to be selected on the board, or None."""

    CSS = """
    MatrixScreen { layout: vertical; }
    #title { height: 1; background: $panel; }
    MatrixTable { height: 1fr; background: $background; scrollbar-size-horizontal: 1; }
    MatrixTable > .datatable--fixed { background: $panel; }
    #reason { height: 2; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
        Binding("o", "sort", "Sort", tooltip="by the column under the cursor; once more: the other way round"),
        Binding("O", "unsort", "Plan's order", show=False),
        Binding("slash", "filter", "Filter", tooltip=EXAMPLE),
        Binding("e", "export", "Export", tooltip="write the run matrix beside the runs"),
    ]

    def __init__(
        self, board: Board, filter: str, sort: str, *, descending: bool, ascii_only: bool, readonly: bool
    ) -> None:
        super().__init__()
        self._board, self._ascii, self._readonly = board, ascii_only, readonly
        self.filter, self.sort, self.descending = filter, sort, descending
        self._shown = Matrix((), ())
        self._drawn: tuple[str, int] = ("", 0)  # theme and width that the table was built for

    def compose(self) -> ComposeResult:
        """Title, table, what is said of the row under the cursor."""
        yield OneLine(ascii_only=self._ascii, id="title")
        yield MatrixTable(cursor_type="cell", zebra_stripes=True, fixed_columns=1)
        yield OneLine(ascii_only=self._ascii, id="reason")
        yield FilterLine(self.filter)
        yield KeysFooter(show_command_palette=False)

    def on_mount(self) -> None:
        """The filter is there while it holds something."""
        self.query_one(FilterLine).display = bool(self.filter)
        self.query_one(MatrixTable).focus()
        self.show(self._board)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Earlier results first, as in the exported matrix; those that pass the filter."""
        passes, _ = parse(self.filter)
        return tuple(row for row in (*self._board.history, *self._board.rows) if passes(row))

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        at = self.query_one(MatrixTable).cursor_row
        found = self._shown.rows[at][0] if 0 <= at < len(self._shown.rows) else None
        return next((row for row in self.rows if row.id == found), None)

    def show(self, board: Board) -> None:
        """Take a new board from the reader."""
        self._board = board
        if not self.query(Footer):
            return
        drawn = self.app.theme, self.size.width
        matrix = sort_rows(matrix_of(self.rows), self.sort, descending=self.descending)
        table = self.query_one(MatrixTable)
        same_ids = [row[0] for row in matrix.rows] == [row[0] for row in self._shown.rows]
        if matrix.headings == self._shown.headings and same_ids and self._drawn == drawn:
            self._update(table, matrix)
        else:
            self._build(table, matrix)
        self._shown, self._drawn = matrix, drawn
        self._say()

    def _update(self, table: MatrixTable, matrix: Matrix) -> None:
        for (row_id, cells), (_, before) in zip(matrix.rows, self._shown.rows, strict=True):
            for heading, cell, old in zip(matrix.headings, cells, before, strict=True):
                if cell != old:
                    shown = self._cell(cell, first=heading == matrix.headings[0])
                    table.update_cell(row_id, heading, shown, update_width=True)

    def _build(self, table: MatrixTable, matrix: Matrix) -> None:
        row, column = self.row, table.cursor_column
        table.clear(columns=True)
        arrow = {"asc": " ^" if self._ascii else " ▲", "desc": " v" if self._ascii else " ▼"}
        for heading in matrix.headings:
            mark = arrow["desc" if self.descending else "asc"] if heading == self.sort else ""
            table.add_column(Text(plain(sanitise(heading, 40), self._ascii) + mark), key=heading)
        for row_id, cells in matrix.rows:
            table.add_row(*(self._cell(cell, first=not i) for i, cell in enumerate(cells)), key=row_id)
        at = next((i for i, one in enumerate(matrix.rows) if row is not None and one[0] == row.id), 0)
        if matrix.rows:
            table.move_cursor(row=at, column=column)

    def _cell(self, cell: Cell, *, first: bool = False) -> Text:
        """In its colour. The first column, which stays where it is, leaves room for the others."""
        role = style_of(cell.role, self.app.theme, self.app.current_theme.dark)
        text = Text(plain(cell.text, self._ascii), style=role, no_wrap=True)
        if first:
            text.truncate(max(_SHORTEST_NAME, self.size.width // 4), overflow="crop" if self._ascii else "ellipsis")
        return text

    def on_resize(self, event: Resize) -> None:
        """The first column is a share of the width."""
        self.show(self._board)

    def on_data_table_cell_highlighted(self, event: DataTable.CellHighlighted) -> None:
        """The line below tells the whole reason."""
        self._say()

    def on_data_table_cell_selected(self, event: DataTable.CellSelected) -> None:
        """Enter, or a click: back to the board, with this row selected."""
        if self.row is not None and self.row.status is not Status.HISTORY:
            self.dismiss(self.row.id)

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """A click on a heading sorts by it."""
        self._sort_by(str(event.column_key.value))

    def action_sort(self) -> None:
        """Sort by the column under the cursor."""
        column = self.query_one(MatrixTable).cursor_column
        if 0 <= column < len(self._shown.headings):
            self._sort_by(self._shown.headings[column])

    def action_unsort(self) -> None:
        """The order of the plan."""
        self._sort_by("")

    def action_filter(self) -> None:
        """Ask for the filter."""
        line = self.query_one(FilterLine)
        line.display = True
        line.focus()

    def action_export(self) -> None:
        """Write the matrix as a file."""
        self.post_message(Asked("export"))

    def action_back(self) -> None:
        """Out of the filter, then back to the board."""
        line = self.query_one(FilterLine)
        if not line.display:
            self.dismiss(None)
            return
        line.value, line.display = "", False
        self.query_one(MatrixTable).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is typed."""
        self.filter = event.value
        self.show(self._board)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter."""
        event.input.display = bool(self.filter)
        self.query_one(MatrixTable).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What would do nothing is no key."""
        if action == "filter":
            return not isinstance(self.focused, FilterLine)
        if action == "export":
            return not self._readonly and allowed("export", self._board, None)
        return bool(self.sort) if action == "unsort" else True

    def _sort_by(self, heading: str) -> None:
        self.descending = heading == self.sort and not self.descending
        self.sort = heading
        self._shown = Matrix((), ()) if not self._shown.rows else Matrix(("",), self._shown.rows)
        self.show(self._board)
        self.refresh_bindings()
        self.post_message(LookChanged(sort=self.sort, descending=self.descending))

    def _say(self) -> None:
        row = self.row
        _, problem = parse(self.filter)
        count = f"{len(self._shown.rows)} of {len(self._board.rows) + len(self._board.history)}"
        order = f"by {self.sort}{', falling' if self.descending else ''}" if self.sort else "in the plan's order"
        self.query_one("#title", OneLine).say([(" run matrix ", "title"), (f" {count} rows, {order}", "muted")])
        what = [] if row is None else [(f" {sanitise(row.key, 40)} ", "strong"), (headline(row).text, "")]
        self.query_one("#reason", OneLine).say([(f" {problem}", "fail")] if problem else what)
