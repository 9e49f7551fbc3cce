"""The board: the queue, the selected run's plots and verdict, one line of its log."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Grid
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from lora_tui.dashboard.board_keys import BOARD_KEYS
from lora_tui.dashboard.charts import SMOOTHING, Look, domain_plot, heldout_plot, loss_plot
from lora_tui.dashboard.filters import parse
from lora_tui.dashboard.layout import SMALLEST, share
from lora_tui.dashboard.messages import Asked
from lora_tui.dashboard.panels import Header, PlotView, StatusLine, VerdictPanel
from lora_tui.dashboard.plot import View, x_range
from lora_tui.dashboard.queue_table import QueueTable
from lora_tui.dashboard.run_screen import RunScreen
from lora_tui.dashboard.snapshots import Board, BoardRow, RunView, Want
from lora_tui.dashboard.zoom import move_cursor, pan, zoom

_MOST_PINS = 3


class BoardScreen(Screen[None]):
    """Shows boards; asks the reader for the run that is selected."""

    CSS = """
    BoardScreen { layout: vertical; }
    #header { height: 1; background: $panel; }
    #queue { height: 5; }
    #plots { grid-size: 3 1; grid-gutter: 0 1; }
    #plots.stacked { grid-size: 2 2; grid-columns: 1fr 1fr; grid-rows: 1fr 1fr; grid-gutter: 0 2; }
    #plots.stacked #loss { row-span: 2; }
    #verdict { height: 7; }
    #status { height: 1; background: $panel; }
    #filter { height: 1; border: none; padding: 0 1; background: $panel; }
    #too-small { display: none; height: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = BOARD_KEYS

    def __init__(self, *, ascii_only: bool, readonly: bool) -> None:
        super().__init__()
        self._ascii, self._readonly = ascii_only, readonly
        self.board = Board("")
        self.look = Look(ascii_only=ascii_only)
        self.view = View()
        self.log_y = False
        self.filter = ""
        self.pinned: tuple[str, ...] = ()
        self._footed: tuple[bool, ...] = ()
        """What the footer's keys depend on, as it was drawn last."""
        self._seen: dict[str, RunView] = {}
        """The last view of every run that was selected: it is on the screen before it is read again."""

    def compose(self) -> ComposeResult:
        """The parts, from top to bottom."""
        yield Header(ascii_only=self._ascii, readonly=self._readonly, id="header")
        yield QueueTable(ascii_only=self._ascii, id="queue")
        with Grid(id="plots"):
            for name in ("loss", "domain", "heldout"):
                yield PlotView(ascii_only=self._ascii, id=name)
        yield VerdictPanel(ascii_only=self._ascii, id="verdict")
        yield StatusLine(ascii_only=self._ascii, id="status")
        yield Static("", id="too-small", markup=False)
        yield Input(placeholder="id:2 lr>=1e-4 verdict:rejected, or any word. Enter keeps, Esc clears", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """The filter is not there until it is asked for."""
        self.query_one(Input).display = False
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
        if (board.queue.works, bool(board.rows), self.run_view is None) != self._footed:
            self._footed = board.queue.works, bool(board.rows), self.run_view is None
            self.refresh_bindings()

    @property
    def table(self) -> QueueTable:
        """The queue."""
        return self.query_one(QueueTable)

    @property
    def row(self) -> BoardRow | None:
        """The selected row."""
        return self.board.row(self.table.selected)

    @property
    def run_view(self) -> RunView | None:
        """The selected run, as far as it was read."""
        return self._seen.get(self.table.selected or "")

    def want(self) -> Want:
        """What the reader is asked for."""
        return Want(self.table.selected, self.pinned)

    def on_queue_table_selected(self, message: QueueTable.Selected) -> None:
        """Show what is known of the run at once; the app has the rest read."""
        if not self.query(Footer):
            return
        self._show_run()
        self.refresh_bindings()

    def on_resize(self, event: Resize) -> None:
        """The parts share out the new size."""
        if self.query(Footer):
            self._arrange()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key that would do nothing is none: it is not in the footer either."""
        acting = not self._readonly and not self.board.replay
        if action in ("open_run", "zoom", "cursor", "pin", "smoothing", "log_y", "learning_rate", "time"):
            return self.run_view is not None
        if action in ("pan", "reset_view"):
            return self.view.low is not None
        planned, works = self.board.plan is not None, self.board.queue.works
        allowed = {
            "filter": bool(self.board.rows),
            "start": acting and planned and not works,
            "end": acting and works,
            "export": acting and planned,
        }
        return allowed.get(action, True)

    def action_start(self) -> None:
        """Queue the plan."""
        self.post_message(Asked("start"))

    def action_export(self) -> None:
        """Write the run matrix."""
        self.post_message(Asked("export"))

    def action_end(self, kind: str) -> None:
        """`stop` or `kill`, after a question."""
        self.post_message(Asked(kind))

    def action_open_run(self) -> None:
        """The pages of the selected run."""
        if self.run_view is not None:
            self.app.push_screen(RunScreen(self.run_view, ascii_only=self._ascii))

    def on_queue_table_opened(self, message: QueueTable.Opened) -> None:
        """A click on the selected row opens it too."""
        self.action_open_run()

    def action_filter(self) -> None:
        """Ask for the filter."""
        line = self.query_one(Input)
        line.display = True
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is typed."""
        self.filter = event.value
        self._show_rows()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter, go back to the rows."""
        event.input.display = bool(self.filter)
        self.table.focus()

    def action_back(self) -> None:
        """Step out of one thing: what was done last in the order cursor, zoom, filter, pins. Never quits."""
        line = self.query_one(Input)
        if line.has_focus or self.filter:
            line.value, line.display = "", False
            self.filter = ""
            self.table.focus()
            self._show_rows()
        elif self.view != View():
            self._look_at(View())
        elif self.pinned:
            self.pinned = ()
            self.post_message(QueueTable.Selected(self.table.selected))
            self._show_rows()

    def action_pin(self) -> None:
        """Lay the run over the others, or take it off."""
        chosen = self.table.selected
        if chosen is not None:
            without = tuple(pin for pin in self.pinned if pin != chosen)
            self.pinned = without if chosen in self.pinned else (*self.pinned, chosen)[-_MOST_PINS:]
            self.post_message(QueueTable.Selected(chosen))
            self._show_rows()

    def action_zoom(self, factor: float) -> None:
        """Show more or less of the x axis of all plots."""
        self._look_at(zoom(self.view, self._whole(), factor))

    def action_pan(self, direction: int) -> None:
        """Move along the x axis."""
        self._look_at(pan(self.view, self._whole(), direction))

    def action_reset_view(self) -> None:
        """All of it, and new data as it comes."""
        self._look_at(replace(self.view, low=None, high=None))

    def action_cursor(self, direction: int) -> None:
        """Read values at a place."""
        self._look_at(move_cursor(self.view, self._whole(), direction))

    def action_log_y(self) -> None:
        """The loss on a logarithmic axis, or not."""
        self.log_y = not self.log_y
        self._show_run()

    def action_smoothing(self) -> None:
        """The next window, off among them."""
        index = SMOOTHING.index(self.look.smoothing)
        self._draw_as(replace(self.look, smoothing=SMOOTHING[(index + 1) % len(SMOOTHING)]))
        self.notify(
            "smoothing is off" if self.look.smoothing == 1 else f"mean of {self.look.smoothing} steps", timeout=2
        )

    def action_learning_rate(self) -> None:
        """In the place of the loss."""
        self._draw_as(replace(self.look, learning_rate=not self.look.learning_rate))

    def action_time(self) -> None:
        """Steps or minutes; a zoom in the one means nothing in the other."""
        self.view = View()
        self._draw_as(replace(self.look, by_time=not self.look.by_time))

    def _draw_as(self, look: Look) -> None:
        self.look = look
        self._show_run()

    def _look_at(self, view: View) -> None:
        self.view = view
        self._show_run()
        self.refresh_bindings()

    def _whole(self) -> float:
        """The end of the x axis, which the three plots share."""
        return x_range(loss_plot(self.run_view, self.look), View())[1]

    def _show_rows(self) -> None:
        passes, problem = parse(self.filter)
        rows = tuple(row for row in self.board.rows if passes(row))
        nothing = [f"No row matches `{self.filter}`. Esc clears the filter.", problem or ""]
        self.table.show(rows, self.pinned, nothing if self.board.rows else empty_state(self.board))

    def _show_run(self) -> None:
        run = self.run_view
        pinned = [view for view in self.board.pinned if run is None or view.row_id != run.row_id]
        plots = {"loss": loss_plot, "domain": domain_plot, "heldout": heldout_plot}
        for name, plot in plots.items():
            view = replace(self.view, log_y=self.log_y and name == "loss")
            self.query_one(f"#{name}", PlotView).show(plot(run, self.look, pinned), view)
        self.query_one(VerdictPanel).show(run)
        self.query_one(StatusLine).show(self.board, self.row)

    def _arrange(self) -> None:
        width, height = self.size
        layout = share(width, height, len(self.board.rows))
        small = self.query_one("#too-small", Static)
        small.display = not layout.usable
        small.update(f"The board needs at least {SMALLEST[0]} × {SMALLEST[1]}; this is {width} × {height}.")
        plots = self.query_one("#plots")
        verdict = self.query_one(VerdictPanel)
        for part, lines in ((self.table, layout.table), (plots, layout.plots), (verdict, layout.verdict)):
            part.display = lines > 0
            part.styles.height = max(1, lines)
        plots.set_class(layout.stacked, "stacked")


def empty_state(board: Board) -> list[str]:
    """What to do when there is nothing to show."""
    if board.problems:
        return [
            "The plan cannot be read. Its problems:",
            *board.problems[:8],
            "Mend them: the board looks again by itself.",
        ]
    if board.plan is None:
        return [
            f"There is no run in {board.where}, and no plan in this folder.",
            "`lora-tui init` writes a plan for your model and manifests.",
            "`lora-tui --runs DIR` shows the runs of another folder.",
        ]
    return [
        "The plan has no experiment.",
        f"Add an [[experiment]] to {board.plan}; the board reads it again by itself.",
    ]
