"""The board: the queue, the selected run's plots and verdict, one line of its log."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Grid
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Footer, Static

from lora_tui.dashboard.charts import Look, domain_plot, heldout_plot, loss_plot
from lora_tui.dashboard.layout import SMALLEST, share
from lora_tui.dashboard.panels import Header, PlotView, StatusLine, VerdictPanel
from lora_tui.dashboard.plot import View
from lora_tui.dashboard.queue_table import QueueTable
from lora_tui.dashboard.snapshots import Board, BoardRow, RunView, Want


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
    #too-small { display: none; height: 1fr; }
    """

    def __init__(self, *, ascii_only: bool, readonly: bool) -> None:
        super().__init__()
        self._ascii, self._readonly = ascii_only, readonly
        self.board = Board("")
        self.look = Look(ascii_only=ascii_only)
        self.view = View()
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
        yield Footer(show_command_palette=False)

    def show(self, board: Board) -> None:
        """A new board from the reader."""
        self.board = board
        if board.selected is not None:
            self._seen[board.selected.row_id] = board.selected
        self._arrange()
        self.query_one(Header).show(board)
        self._show_rows()
        self._show_run()

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
        return Want(self.table.selected)

    def on_queue_table_selected(self, message: QueueTable.Selected) -> None:
        """Show what is known of the run at once; the app has the rest read."""
        self._show_run()

    def on_resize(self, event: Resize) -> None:
        """The parts share out the new size."""
        self._arrange()

    def _show_rows(self) -> None:
        self.table.show(self.board.rows, (), empty_state(self.board))

    def _show_run(self) -> None:
        run = self.run_view
        plots = {"loss": loss_plot, "domain": domain_plot, "heldout": heldout_plot}
        for name, plot in plots.items():
            self.query_one(f"#{name}", PlotView).show(plot(run, self.look), self.view)
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
