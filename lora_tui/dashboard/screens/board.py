"""The board: what its keys do."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType
from textual.widgets import Input

from lora_tui.dashboard.asks import ASKS, allowed
from lora_tui.dashboard.layout import EMPHASES
from lora_tui.dashboard.messages import AddAsked, Asked, LookChanged, MatrixAsked
from lora_tui.dashboard.plots.board_plots import Plots
from lora_tui.dashboard.reading.snapshots import Board
from lora_tui.dashboard.screens.board_keys import BOARD_KEYS
from lora_tui.dashboard.screens.board_view import BoardView
from lora_tui.dashboard.screens.panels import FilterLine
from lora_tui.dashboard.screens.queue_table import QueueTable

_MOST_PINS = 3
_NEEDS_RUN = ("open_run", "pin")


class BoardScreen(BoardView):
    """A key that would do nothing now is none."""

    BINDINGS: ClassVar[list[BindingType]] = BOARD_KEYS

    _opening: str | None = None
    """The row that was to be opened before its run was read."""

    def show(self, board: Board) -> None:
        """A new board from the reader."""
        super().show(board)
        if not self.is_current:
            self._opening = None
        elif self._opening is not None and self._opening == self.table.selected:
            self.action_open_run()

    def on_queue_table_selected(self, message: QueueTable.Selected) -> None:
        """Another row is not opened because this one was to be. What is shown of it is up to the view."""
        if message.row_id != self._opening:
            self._opening = None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key that would do nothing is none: it is not in the footer either."""
        acting = not self._readonly and not self.board.replay
        if action == "plot":
            zoomed = parameters[0] not in ("pan", "reset") or self.plots.view.low is not None
            return zoomed and self._has_run
        if action == "ask":
            return acting and allowed(str(parameters[0]), self.board, self.row)
        if action == "add":
            return acting and self.row is not None and self.row.planned and self.board.plan is not None
        if action in _NEEDS_RUN:
            return self._has_run
        if action == "problems":
            return bool(self.board.problems)
        typing = action == "filter" and isinstance(self.focused, FilterLine)
        return bool(self.board.rows) and not typing if action in ("filter", "matrix", "layout") else True

    def action_ask(self, what: str) -> None:
        """What is beyond the screen: the app asks first, where that is due, and does it."""
        self.table.stay()
        self.post_message(Asked(what, self.row if ASKS[what].of_row else None))

    def action_add(self) -> None:
        """An experiment, as an edited copy of the selected one."""
        if self.row is not None:
            self.post_message(AddAsked(self.row))

    def action_open_run(self) -> None:
        """The pages of the selected run; as soon as it is read, when it was not yet."""
        from lora_tui.dashboard.screens.run import RunScreen

        self.table.stay()
        self._opening = self.table.selected if self.run_view is None and self._has_run else None
        if self.run_view is not None:
            state = str(self.run_view.snapshot.state) if self.row is None else self.row.state
            self.app.push_screen(RunScreen(self.run_view, state, ascii_only=self._ascii))

    def action_matrix(self) -> None:
        """The run matrix."""
        self.app.post_message(MatrixAsked())

    def action_problems(self) -> None:
        """What is wrong with the plan."""
        from lora_tui.dashboard.screens.dialogs import ProblemsScreen

        self.app.push_screen(ProblemsScreen(self.board, ascii_only=self._ascii))

    def on_queue_table_opened(self, message: QueueTable.Opened) -> None:
        """A click on the selected row opens it too."""
        self.action_open_run()

    def action_filter(self) -> None:
        """Ask for the filter."""
        line = self.query_one(FilterLine)
        line.display = True
        self._arrange()
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is typed."""
        self.filter = event.value
        self._show_rows()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter, go back to the rows."""
        event.input.display = bool(self.filter)
        self._arrange()
        self.table.focus()
        self.post_message(LookChanged(filter=self.filter))

    def select(self, row_id: str) -> None:
        """Put the cursor on this row; a filter that hides it is given up."""
        if row_id not in [row.id for row in self.table.rows]:
            self.filter_by("")
        self.table.select(row_id)

    def filter_by(self, text: str) -> None:
        """Another filter; nothing: all rows."""
        line = self.query_one(FilterLine)
        self.filter = line.value = text
        line.display = bool(text)
        self._arrange()
        self._show_rows()
        self.post_message(LookChanged(filter=text))

    def action_back(self) -> None:
        """Step out of one thing: the filter, else zoom and cursor, else the pins. Never quits."""
        if self.query_one(FilterLine).has_focus or self.filter:
            self.filter_by("")
            self.table.focus()
        elif not self.plots.clear_view() and self.pinned:
            self.pinned = ()
            self.post_message(QueueTable.Selected(self.table.selected))
            self._show_rows()

    def action_pin(self) -> None:
        """Lay the run over the others, or take it off."""
        self.table.stay()
        chosen = self.table.selected
        if chosen is not None:
            without = tuple(pin for pin in self.pinned if pin != chosen)
            self.pinned = without if chosen in self.pinned else (*self.pinned, chosen)[-_MOST_PINS:]
            self.post_message(QueueTable.Selected(chosen))
            self._show_rows()

    def action_plot(self, what: str, by: float) -> None:
        """What only the plots know."""
        if said := self.plots.do(what, by):
            self.notify(said, timeout=2)

    def on_plots_changed(self, message: Plots.Changed) -> None:
        """Other keys make sense now; how it looks is remembered."""
        look = self.plots.look
        self.refresh_bindings()
        self.post_message(
            LookChanged(
                smoothing=look.smoothing,
                by_time=look.by_time,
                learning_rate=look.learning_rate,
                log_y=self.plots.log_y,
            )
        )

    def action_layout(self) -> None:
        """What gets the room."""
        self.emphasis = EMPHASES[(EMPHASES.index(self.emphasis) + 1) % len(EMPHASES)]
        self._arrange()
        self.notify(f"layout: {self.emphasis}", timeout=2)
        self.post_message(LookChanged(emphasis=self.emphasis))
