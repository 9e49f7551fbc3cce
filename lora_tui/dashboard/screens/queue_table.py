"""The queue on the screen: a cursor over the rows, scrolling, the mouse. Rows are drawn by `columns`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.binding import Binding
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from core.runs.row import Row, rate_of
from core.runs.status import Status
from core.sanitise import sanitise
from lora_tui.cells import Pieces, broken, padded, plain
from lora_tui.dashboard.text.columns import COLUMNS, Column, fitting, heading, needs, row_pieces
from lora_tui.dashboard.widgets.lines_view import LinesView


class QueueTable(LinesView, can_focus=True):
    """The rows that pass the filter, one of them selected."""

    BINDINGS = [  # noqa: RUF012 - Textual's form
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("pagedown,ctrl+d", "page(1)", "Page down", show=False),
        Binding("pageup,ctrl+u", "page(-1)", "Page up", show=False),
        Binding("home,g", "move(-1000000)", "First", show=False),
        Binding("end,G", "move(1000000)", "Last", show=False),
        Binding("L", "scroll_columns(1)", "Columns right", show=False, tooltip="of the queue's table"),
        Binding("H", "scroll_columns(-1)", "Columns left", show=False),
    ]

    class Selected(Message):
        """The cursor is on another row; None when there is none."""

        def __init__(self, row_id: str | None) -> None:
            super().__init__()
            self.row_id = row_id

    class Opened(Message):
        """The selected row was clicked once more."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.rows: tuple[Row, ...] = ()
        self.pinned: tuple[str, ...] = ()
        self.selected: str | None = None
        self.empty: Sequence[str] = ()
        """What to do when there is no row."""
        self._top = self._first = 0
        self.sort = ""
        """The heading of the column that the rows are sorted by."""
        self._needed: Mapping[str, int] = {}
        self._needed_by: object = None
        self._unsure = False
        """Nobody chose this row, and there may be a run that is alive among those that are yet to be read."""

    def show(self, rows: tuple[Row, ...], pinned: tuple[str, ...], empty: Sequence[str]) -> None:
        """New rows. The cursor stays on its row; if that is gone, it goes to one that is alive, or the first."""
        self.rows, self.pinned, self.empty = rows, pinned, empty
        if self._unsure or self._index() is None:
            alive = next((row for row in rows if row.active), None)
            best = alive or next((row for row in rows if row.run), None)
            self._select((best or rows[0]).id if rows else None)
            self._unsure = alive is None and any(row.status is Status.UNREAD for row in rows)
        self.update()

    def stay(self) -> None:
        """The selected row was acted on: it is the chosen one, whatever is read yet."""
        self._unsure = False

    def paint(self, width: int, height: int) -> list[Pieces]:
        """The heading, and the rows from the first visible one on."""
        if not self.rows:
            told: list[Pieces] = [[(f"  {plain(sanitise(line), self._ascii)}", "muted")] for line in self.empty]
            return [[("", "")], *(part for line in told for part in broken(line, width))]
        if self._needed_by is not self.rows:
            self._needed_by, self._needed = self.rows, needs(self.rows)
        columns = fitting(width, self._needed, self._first)
        visible = max(1, height - 1)
        index = self._index() or 0
        self._top = max(0, min(self._top, len(self.rows) - visible, index))
        self._top = max(self._top, index - visible + 1)
        lines: list[Pieces] = [heading(columns, rate_of(self.rows), self.sort, ascii_only=self._ascii)]
        for row in self.rows[self._top : self._top + visible]:
            letter = chr(97 + self.pinned.index(row.id)) if row.id in self.pinned else ""
            lines.append(
                row_pieces(row, columns, selected=row.id == self.selected, pinned=letter, ascii_only=self._ascii)
            )
        below = len(self.rows) - self._top - visible
        if below > 0 or self._top > 0:
            dash = "-" if self._ascii else "–"
            first = f"{self._top + 1}{dash}{min(len(self.rows), self._top + visible)}"
            lines[0] = _with_rows(lines[0], first, len(self.rows), columns)
        return lines

    def select(self, row_id: str) -> None:
        """Put the cursor on this row, if it is there."""
        if any(row.id == row_id for row in self.rows):
            self.stay()
            self._select(row_id)
            self.update()

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        if self.rows:
            self.stay()
            index = min(max(0, (self._index() or 0) + by), len(self.rows) - 1)
            self._select(self.rows[index].id)
            self.update()

    def action_scroll_columns(self, by: int) -> None:
        """Show the columns further to the right, or those before; the ids stay."""
        self._first = min(max(0, self._first + by), len(COLUMNS) - 1)
        self.update()

    def action_page(self, by: int) -> None:
        """Move the cursor by a screenful."""
        self.action_move(by * max(1, self.size.height - 2))

    def on_click(self, event: Click) -> None:
        """Select the row that was clicked; a second click opens it."""
        index = self._top + event.y - 1
        if event.y >= 1 and index < len(self.rows):
            self.stay()
            same = self.rows[index].id == self.selected
            self._select(self.rows[index].id)
            self.update()
            if same:
                self.post_message(self.Opened())

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Scrolling moves the cursor."""
        self.action_move(1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Scrolling moves the cursor."""
        self.action_move(-1)

    def _index(self) -> int | None:
        return next((i for i, row in enumerate(self.rows) if row.id == self.selected), None)

    def _select(self, row_id: str | None) -> None:
        if row_id != self.selected:
            self.selected = row_id
            self.post_message(self.Selected(row_id))


def _with_rows(heading: Pieces, first: str, count: int, columns: Sequence[tuple[Column, int]]) -> Pieces:
    """The heading with `rows 15–22 of 30` behind that of the titles, or shorter in place of that of the ids. Pure.

    `first`: which rows are seen. What an id is can be seen, and so its heading gives way where there is no other room.
    """
    flat = [(character, role) for part, role in heading for character in part]
    start, told = 2, f"rows {first} of {count}"
    for column, width in columns:
        end = start + width
        if column.title == "title" and all(character == " " for character, _ in flat[end - len(told) - 2 : end]):
            return [*flat[: end - len(told)], (told, "muted"), *flat[end:]]
        start = end + 1
    width = columns[0][1]
    told = f"{first} of {count}" if len(f"{first} of {count}") <= width + 2 else f"{first}/{count}"
    told = f"  {told}" if len(told) <= width else told
    return [(padded(told, width + 2), "muted"), *flat[max(width + 2, len(told)) :]]
