"""What the board shows: the queue, the selected run's plots and verdict, one line of its log."""

from __future__ import annotations

from dataclasses import replace

from textual.app import ComposeResult
from textual.events import Resize
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Static

from lora_tui.dashboard.layout import SMALLEST, share
from lora_tui.dashboard.memory import Memory
from lora_tui.dashboard.messages import FollowsBoard, RunWanted
from lora_tui.dashboard.plots.board_plots import Plots
from lora_tui.dashboard.plots.look import Pin
from lora_tui.dashboard.reading.snapshots import Board, BoardRow, RunView, Want
from lora_tui.dashboard.screens.panels import FilterLine, Header, StatusLine, VerdictPanel
from lora_tui.dashboard.screens.queue_table import QueueTable
from lora_tui.dashboard.text.columns import empty_state
from lora_tui.dashboard.text.filters import parse
from lora_tui.dashboard.widgets.mended import KeysFooter

_FEW = 4
_SETTLE_S = 0.05


class BoardView(FollowsBoard, Screen[None]):
    """Shows boards; asks the reader for the run that is selected. Its keys are in `board_screen`."""

    CSS = """
    BoardView { layout: vertical; }
    #header { height: 1; background: $panel; }
    #queue { height: 5; }
    #verdict { height: 7; }
    #status { height: 1; background: $panel; }
    #too-small { display: none; height: 1fr; }
    """

    def __init__(self, *, ascii_only: bool, readonly: bool, memory: Memory) -> None:
        super().__init__()
        self._ascii, self._readonly, self._memory = ascii_only, readonly, memory
        self.board = Board("")
        self.filter, self.emphasis = memory.filter, memory.emphasis
        self.pinned: tuple[str, ...] = ()
        self._settling: Timer | None = None
        self._arranged: object = None
        self._footed: object = None
        """What the footer's keys depend on, as it was drawn last."""
        self._seen: dict[str, RunView] = {}
        """The last view of every run that was selected: it is on the screen before it is read again."""

    def compose(self) -> ComposeResult:
        """The parts, from top to bottom."""
        yield Header(ascii_only=self._ascii, readonly=self._readonly, id="header")
        yield QueueTable(ascii_only=self._ascii, id="queue")
        yield Plots(ascii_only=self._ascii, id="plots")
        yield VerdictPanel(ascii_only=self._ascii, id="verdict")
        yield StatusLine(ascii_only=self._ascii, id="status")
        yield Static("", id="too-small", markup=False)
        yield FilterLine()
        yield KeysFooter()

    def on_mount(self) -> None:
        """As it was left; the filter's line is not there until it is asked for, or holds something."""
        kept = self._memory
        line = self.query_one(FilterLine)
        line.value, line.display = self.filter, bool(self.filter)
        self.plots.look_as(
            replace(self.plots.look, smoothing=kept.smoothing, by_time=kept.by_time, learning_rate=kept.learning_rate),
            log_y=kept.log_y,
        )
        self._show_rows()
        self.table.focus()

    def show(self, board: Board) -> None:
        """A new board from the reader."""
        self.board = board
        if board.selected is not None:
            self._seen[board.selected.row_id] = board.selected
        self._arrange()
        self.query_one(Header).show(board)
        self._show_rows()
        self._show_run()
        self._foot()

    @property
    def table(self) -> QueueTable:
        """The queue."""
        return self.query_one(QueueTable)

    @property
    def plots(self) -> Plots:
        """The three plots."""
        return self.query_one(Plots)

    @property
    def row(self) -> BoardRow | None:
        """The selected row."""
        return self.board.row(self.table.selected)

    @property
    def run_view(self) -> RunView | None:
        """The selected run, as far as it was read."""
        return self._seen.get(self.table.selected or "")

    @property
    def _has_run(self) -> bool:
        """Whether the selected row has a run; it is read a moment after it is selected, and its keys stay meanwhile."""
        return self.row is not None and self.row.run is not None

    def want(self) -> Want:
        """What the reader is asked for."""
        return Want(self.table.selected, self.pinned)

    def on_queue_table_selected(self, message: QueueTable.Selected) -> None:
        """The cursor is there at once; the run itself is read and shown when it rests, however fast it is moved."""
        message.stop()
        if not self.query(Footer):
            return
        self.query_one(StatusLine).show(self.board, self.row)
        if self._settling is not None:
            self._settling.stop()
        if not self._seen:
            self._settle()
            return
        self._settling = self.set_timer(_SETTLE_S, self._settle)

    def _settle(self) -> None:
        self._settling = None
        self.app.post_message(RunWanted(self.want()))
        self._show_run()
        self._foot()

    def on_resize(self, event: Resize) -> None:
        """The parts share out the new size."""
        if self.query(Footer):
            self._arrange()

    def _show_rows(self) -> None:
        passes, problem = parse(self.filter)
        rows = tuple(row for row in self.board.rows if passes(row))
        nothing = [f"No row matches `{self.filter}`. Esc clears the filter.", problem or ""]
        self.table.show(rows, self.pinned, nothing if self.board.rows else empty_state(self.board))

    def _show_run(self) -> None:
        run = self.run_view
        letters = {row_id: chr(ord("a") + i) for i, row_id in enumerate(self.pinned)}
        pins = [Pin(letters[v.row_id], v) for v in self.board.pinned if v.row_id in letters and v is not run]
        self.plots.show(run, [pin for pin in pins if run is None or pin.view.row_id != run.row_id])
        self.query_one(VerdictPanel).show(run, self.row)
        self.query_one(StatusLine).show(self.board, self.row)

    def _foot(self) -> None:
        """Have the footer drawn again when other keys make sense."""
        board, row = self.board, self.row
        row_part = None if row is None else (row.active, row.state, row.queued, row.submission, row.planned)
        depends = (board.queue, bool(board.rows), bool(board.problems), row_part, self._has_run)
        if depends != self._footed:
            self._footed = depends
            self.refresh_bindings()

    def _arrange(self) -> None:
        width, height = self.size
        # Before anything is read the parts stand where they will be for a few rows.
        rows = len(self.board.rows) if self.board.where else _FEW
        # The filter's line takes one of the screen's.
        room = height - self.query_one(FilterLine).display
        if self._arranged == (arranged := (width, room, rows, self.emphasis)):
            return
        self._arranged = arranged
        layout = share(width, room, rows, self.emphasis)
        small = self.query_one("#too-small", Static)
        small.display = not layout.usable
        small.update(f"The board needs at least {SMALLEST[0]} × {SMALLEST[1]}; this is {width} × {height}.")
        for part, lines in (
            (self.table, layout.table),
            (self.plots, layout.plots),
            (self.query_one(VerdictPanel), layout.verdict),
        ):
            part.display = lines > 0
            part.styles.height = max(1, lines)
        self.plots.set_class(layout.stacked, "stacked")
