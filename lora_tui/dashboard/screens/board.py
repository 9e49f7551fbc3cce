"""The board: the queue, the selected run's plots and verdict, one line of its log, and what its keys do.

The keys stand in one table, which the footer, the help and the command palette are made of.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key, Resize
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Input, Static

from core.runs.row import Outcome, Row
from lora_tui.dashboard.asks import ASKS, allowed
from lora_tui.dashboard.layout import EMPHASES, LOG_MOST, SMALLEST, Layout, Sizes, share
from lora_tui.dashboard.memory import Memory
from lora_tui.dashboard.messages import AddAsked, Asked, FollowsBoard, LookChanged, MatrixAsked, RunWanted
from lora_tui.dashboard.plots.board_plots import Plots
from lora_tui.dashboard.plots.view import Pin, View
from lora_tui.dashboard.reading.snapshots import Board, RunView, Want
from lora_tui.dashboard.screens.panels import FilterLine, Header, LogPanel, StatusLine, UpcomingLine, VerdictPanel
from lora_tui.dashboard.screens.queue_table import QueueTable
from lora_tui.dashboard.text.columns import ORDERS, empty_state, sorted_rows
from lora_tui.dashboard.text.filters import parse
from lora_tui.dashboard.widgets.mended import KeysFooter

_FEW = 4
_SETTLE_S = 0.05
_MOST_PINS = 3
_NEEDS_RUN = ("open_run", "pin", "ship")

PLOT_KEYS: list[BindingType] = [
    Binding("plus,equals_sign", "plot('zoom', 0.5)", "Zoom in", show=False, tooltip="or turn the wheel over a plot"),
    Binding("minus", "plot('zoom', 2.0)", "Zoom out", show=False),
    Binding("left,h", "plot('pan', -1)", "Pan left", show=False, tooltip="or drag a plot"),
    Binding("right,l", "plot('pan', 1)", "Pan right", show=False),
    Binding("0", "plot('reset', 0)", "Reset zoom", show=False, tooltip="or click a plot twice"),
    Binding(
        "comma", "plot('cursor', -1)", "Cursor left", show=False, tooltip="the legends read values there; or click"
    ),
    Binding("full_stop", "plot('cursor', 1)", "Cursor right", show=False),
    Binding(
        "left_square_bracket", "plot('interval', -1)", "Interval left", show=False, tooltip="cursor to an interval"
    ),
    Binding("right_square_bracket", "plot('interval', 1)", "Interval right", show=False),
    Binding("m", "plot('smoothing', 0)", "Smoothing", show=False, tooltip="mean of 30, 100, 1 (off) or 10 steps"),
    Binding("y", "plot('log_y', 0)", "Log y", show=False, tooltip="of the loss plot"),
    Binding(
        "r",
        "plot('strips', 0)",
        "Rate and norm",
        show=False,
        tooltip="learning rate and gradient norm below the losses, one of them, none",
    ),
    Binding("v", "plot('closer', 1)", "Zoom in y", show=False, tooltip="around what ships, or the cursor"),
    Binding("V", "plot('closer', -1)", "Zoom out y", show=False, tooltip="in the end to all of it, outliers too"),
    Binding("b", "plot('near', 0)", "Guardrail", show=False, tooltip="y around guardrail and target, and back"),
    Binding("x", "plot('time', 0)", "Step/time", show=False, tooltip="minutes of training on the x axis"),
]
ROW_KEYS: list[BindingType] = [
    Binding("s", "ask('start')", "Start", tooltip="queue the plan; training goes on when the dashboard is closed"),
    Binding("p", "ask('hold')", "Hold", tooltip="the row is not started until it is released"),
    Binding("p", "ask('release')", "Release", tooltip="the row may start, or go on from its last checkpoint"),
    Binding("t", "ask('stop')", "Stop", tooltip="this run finishes its step and saves; the queue goes on with others"),
    Binding(
        "X", "ask('kill')", "Kill", show=False, tooltip="end this run's trainer now; what was saved can be resumed"
    ),
    Binding("R", "ask('retry')", "Retry", tooltip="once more, whatever became of it"),
    Binding("K,shift+up", "ask('earlier')", "Move up", show=False, tooltip="start it earlier"),
    Binding("J,shift+down", "ask('later')", "Move down", show=False, tooltip="start it later"),
    Binding("D,delete", "ask('remove')", "Remove", show=False, tooltip="from the queue; its files stay"),
    Binding("u", "ask('go_on')", "Go on", tooltip="the queue paused by itself: let it go on"),
    Binding(
        "T", "ask('stop_all')", "Stop queue", show=False, tooltip="all runs finish their step; nothing more starts"
    ),
    Binding("Z", "ask('kill_all')", "Kill all", show=False, tooltip="end all trainers now, and the queue"),
    Binding("a", "add", "Add", tooltip="an experiment, as an edited copy of the selected one"),
]
BOARD_KEYS: list[BindingType] = [
    Binding("enter", "open_run", "Open", tooltip="intervals, settings, log and transcripts of the run"),
    Binding("S", "ship", "Adapter", tooltip="path, hash and commands of the accepted adapter, to be copied"),
    Binding("slash", "filter", "Filter", tooltip="id:2 lr>=1e-4 verdict:fail, or any word"),
    Binding("o", "sort(1)", "Sort", show=False, tooltip="by the next column; after the last in the plan's order"),
    Binding("O", "turn_round", "Sort the other way", show=False),
    *ROW_KEYS,
    Binding("M", "matrix", "Matrix", tooltip="all runs as a table: sort, filter, the settings that differ"),
    Binding("P", "problems", "Problems", tooltip="what is wrong with the plan, with files and lines"),
    Binding("c", "pin", "Pin", tooltip="lay this run over the others in the plots, or take it off"),
    Binding("e", "ask('export')", "Export", show=False, tooltip="write the run matrix beside the runs"),
    *PLOT_KEYS,
    Binding("w", "rates", "Trade-off/rates", show=False, tooltip="domain and heldout over steps instead, and back"),
    Binding("left_parenthesis", "resize('table', -1)", "Smaller queue", show=False, tooltip="z gives all back"),
    Binding("right_parenthesis", "resize('table', 1)", "Larger queue", show=False),
    Binding("left_curly_bracket", "resize('verdict', -1)", "Smaller verdict", show=False),
    Binding("right_curly_bracket", "resize('verdict', 1)", "Larger verdict", show=False),
    Binding("less_than_sign", "resize('log', -1)", "Shorter log", show=False),
    Binding("greater_than_sign", "resize('log', 1)", "Longer log", show=False),
    Binding("underscore", "resize('first', -2)", "Narrower plot", show=False, tooltip="the first one"),
    Binding("vertical_line", "resize('first', 2)", "Wider plot", show=False),
    Binding("z", "layout", "Layout", show=False, tooltip="room for plots, queue, or each; sizes too"),
    Binding("escape", "back", "Back", show=False, tooltip="one thing after the other: cursor, zoom, filter, pins"),
]


ACTING_KEYS = frozenset(
    key
    for binding in BOARD_KEYS
    if isinstance(binding, Binding) and binding.action.startswith(("ask(", "add"))
    for key in binding.key.split(",")
)
"""Keys that start, stop or write something."""
ONLY_LOOKS = "This dashboard only looks (--readonly): no key starts, stops or writes anything."
REPLAYED = "This is a replay of a recorded run: there is nothing to start or to stop."


class BoardScreen(FollowsBoard, Screen[None]):
    """Shows boards, asks the reader for the run that is selected, and does what keys say.

    A key that would do nothing now is none.
    """

    BINDINGS: ClassVar[list[BindingType]] = BOARD_KEYS

    CSS = """
    BoardScreen { layout: vertical; }
    #header { height: 1; background: $panel; }
    #queue { height: 5; }
    #verdict { height: 7; }
    #log, #upcoming { display: none; }
    #upcoming { height: 1; }
    #status { height: 1; background: $panel; }
    #too-small { display: none; height: 1fr; }
    """

    def __init__(self, *, ascii_only: bool, readonly: bool, memory: Memory) -> None:
        super().__init__()
        self._ascii, self._readonly, self._memory = ascii_only, readonly, memory
        self.board = Board("")
        self.filter, self.emphasis, self.rates = memory.filter, memory.emphasis, memory.rates
        self.sizes = Sizes(memory.table_lines, memory.verdict_lines, memory.log_lines, memory.first_columns)
        self.layout_now = Layout(0, 0, 0)
        self.order, self.falling = memory.order, memory.falling
        self.pinned: tuple[str, ...] = ()
        self._settling: Timer | None = None
        self._arranged: object = None
        self._footed: object = None
        """What the footer's keys depend on, as it was drawn last."""
        self._seen: dict[str, RunView] = {}
        """The last view of every run that was selected: it is on the screen before it is read again."""
        self._opening: str | None = None
        """The row that was to be opened before its run was read."""

    def compose(self) -> ComposeResult:
        """The parts, from top to bottom."""
        yield Header(ascii_only=self._ascii, readonly=self._readonly, id="header")
        yield QueueTable(ascii_only=self._ascii, id="queue")
        yield UpcomingLine(ascii_only=self._ascii, id="upcoming")
        yield Plots(ascii_only=self._ascii, id="plots")
        yield VerdictPanel(ascii_only=self._ascii, id="verdict")
        yield LogPanel(ascii_only=self._ascii, id="log")
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
            replace(self.plots.look, smoothing=kept.smoothing, by_time=kept.by_time, strips=kept.strips),
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
        self.query_one(UpcomingLine).show(board)
        self._show_rows()
        self._show_run()
        self._foot()
        if not self.is_current:
            self._opening = None
        elif self._opening is not None and self._opening == self.table.selected:
            self.action_open_run()

    @property
    def table(self) -> QueueTable:
        """The queue."""
        return self.query_one(QueueTable)

    @property
    def plots(self) -> Plots:
        """The three plots."""
        return self.query_one(Plots)

    @property
    def row(self) -> Row | None:
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

    @property
    def _ships(self) -> bool:
        return self.row is not None and self.row.outcome is Outcome.ACCEPTED

    def want(self) -> Want:
        """What the reader is asked for."""
        return Want(self.table.selected, self.pinned)

    def on_queue_table_selected(self, message: QueueTable.Selected) -> None:
        """The cursor is there at once; the run itself is read and shown when it rests, however fast it is moved.

        Another row is not opened because this one was to be.
        """
        message.stop()
        if message.row_id != self._opening:
            self._opening = None
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
        shown = [row for row in self.board.rows if passes(row)]
        rows = sorted_rows(shown, self.order, descending=self.falling)
        self.table.sort = self.order
        nothing = [f"No row matches `{self.filter}`. Esc clears the filter.", problem or ""]
        self.table.show(rows, self.pinned, nothing if self.board.rows else empty_state(self.board))

    def _show_run(self) -> None:
        run = self.run_view
        letters = {row_id: chr(ord("a") + i) for i, row_id in enumerate(self.pinned)}
        pins = [Pin(letters[v.row_id], v) for v in self.board.pinned if v.row_id in letters and v is not run]
        self.plots.show(run, [pin for pin in pins if run is None or pin.view.row_id != run.row_id])
        self._arrange()
        self.query_one(VerdictPanel).show(run, self.row, self.board)
        self.query_one(LogPanel).show(run)
        self.query_one(StatusLine).show(self.board, self.row)

    def _foot(self) -> None:
        """Have the footer drawn again when other keys make sense."""
        board, row = self.board, self.row
        row_part = None if row is None else (row.status, row.queued, row.planned, row.outcome)
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
        log = 0 if self.run_view is None else min(len(self.run_view.log), LOG_MOST)
        # A row without a run has no plots: the plan has their room.
        bare = self.board.plan is not None and self.row is not None and self.row.run is None and self.row.planned
        more = int(any(name == "runtime" for row in self.board.rows for name, _ in row.figures.criteria))
        upcoming = bool(self.board.upcoming)
        arranged = (width, room, rows, self.emphasis, bare, self.rates, self.sizes, more, log, upcoming)
        if self._arranged == arranged:
            return
        self._arranged = arranged
        layout = share(
            width, room, rows, self.emphasis,
            more=more, rates=self.rates, sizes=self.sizes, log=log, upcoming=upcoming,
        )  # fmt: skip
        if bare:
            layout = replace(layout, plots=0, log=0, verdict=layout.plots + layout.log + layout.verdict)
        self.layout_now = layout
        small = self.query_one("#too-small", Static)
        small.display = not layout.usable
        small.update(f"The board needs at least {SMALLEST[0]} × {SMALLEST[1]}; this is {width} × {height}.")
        for part, lines in (
            (self.table, layout.table),
            (self.plots, layout.plots),
            (self.query_one(VerdictPanel), layout.verdict),
            (self.query_one(LogPanel), layout.log),
            (self.query_one(UpcomingLine), int(layout.upcoming)),
        ):
            part.display = lines > 0
            part.styles.height = max(1, lines)
        self.plots.stand(layout.arrangement, width, self.sizes.first)
        self.query_one(StatusLine).log_above(shown=layout.log > 0)
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key that would do nothing is none: it is not in the footer either."""
        acting = self._acts
        if action == "ask":
            return acting and allowed(str(parameters[0]), self.board, self.row)
        if action == "add":
            return acting and self.row is not None and self.row.planned and self.board.plan is not None
        if action in ("plot", "rates", "resize"):
            return self._has_run and self._looks(action, parameters)
        if action in _NEEDS_RUN:
            return self._has_run and (action != "ship" or self._ships)
        typing = action == "filter" and isinstance(self.focused, FilterLine)
        if action in ("filter", "matrix", "layout", "sort", "turn_round"):
            return bool(self.board.rows) and not typing and (action != "turn_round" or bool(self.order))
        return action != "problems" or bool(self.board.problems)

    def _looks(self, action: str, parameters: tuple[object, ...]) -> bool:
        """Whether this key changes how plots are looked at."""
        view, layout = self.plots.view, self.layout_now
        if action == "plot":
            whole = {"pan": view.low is None, "reset": replace(view, cursor=None) == View()}
            return not whole.get(str(parameters[0]), False)
        return layout.plots > 0 and not (action == "rates" and layout.whole)

    @property
    def _acts(self) -> bool:
        return not self._readonly and not self.board.replay

    def on_key(self, event: Key) -> None:
        """A key that would act, where nothing may, says why it does not."""
        if event.key in ACTING_KEYS and not self._acts:
            self.notify(REPLAYED if self.board.replay else ONLY_LOOKS, severity="warning", markup=False)

    def action_ask(self, what: str) -> None:
        """What is beyond the screen: the app asks first, where that is due, and does it."""
        self.table.stay()
        self.post_message(Asked(what, self.row if ASKS[what].of_row else None))

    def action_add(self) -> None:
        """An experiment, as an edited copy of the selected one."""
        if self.row is not None:
            self.post_message(AddAsked(self.row))

    def action_ship(self) -> None:
        """How the accepted adapter is taken away."""
        self.action_open_run("verdict")

    def action_open_run(self, page: str = "intervals") -> None:
        """The pages of the selected run; as soon as it is read, when it was not yet."""
        from lora_tui.dashboard.screens.run import RunScreen

        self.table.stay()
        self._opening = self.table.selected if self.run_view is None and self._has_run else None
        if self.run_view is not None and self.row is not None:
            self.app.push_screen(RunScreen(self.run_view, self.row, ascii_only=self._ascii, page=page))

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

    def action_sort(self, by: int) -> None:
        """Sort by the next column, or in the plan's order again."""
        names = ["", *ORDERS]
        self.order = names[(names.index(self.order) + by) % len(names)] if self.order in names else ""
        self._sorted()

    def action_turn_round(self) -> None:
        """The same the other way round."""
        self.falling = not self.falling
        self._sorted()

    def _sorted(self) -> None:
        self._show_rows()
        way = ", the other way round" if self.falling else ""
        self.notify(f"sorted by {self.order}{way}" if self.order else "in the plan's order", timeout=2)
        self.post_message(LookChanged(order=self.order, falling=self.falling))

    def select(self, row_id: str) -> None:
        """Put the cursor on this row; a filter that hides it is given up."""
        if row_id not in [row.id for row in self.table.rows]:
            self.filter_by("")
        self.table.select(row_id)

    def filter_by(self, text: str) -> None:
        """Set the filter; an empty one shows all rows."""
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
        """Change how plots are looked at; only the plots know how."""
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
                strips=look.strips,
                log_y=self.plots.log_y,
            )
        )

    def action_layout(self) -> None:
        """Give the room to the plots, to the queue, or to each."""
        self.emphasis = EMPHASES[(EMPHASES.index(self.emphasis) + 1) % len(EMPHASES)]
        self._resized(Sizes())
        self.notify(f"layout: {self.emphasis}", timeout=2)
        self.post_message(LookChanged(emphasis=self.emphasis))

    def action_rates(self) -> None:
        """The plots of the error rates, or the trade-off, where there is no room for both."""
        self.rates = not self.rates
        self._arrange()
        self.post_message(LookChanged(rates=self.rates))

    def action_resize(self, part: str, by: int) -> None:
        """One part larger, at the cost of the plots, or smaller. What has come to an end stays as it is."""
        before, sizes = self.layout_now, self.sizes.changed(part, by)
        self._resized(sizes)
        if part != "first" and self.layout_now == before:
            self._resized(self.sizes.changed(part, -by))

    def _resized(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self._arrange()
        self.post_message(
            LookChanged(
                table_lines=sizes.table,
                verdict_lines=sizes.verdict,
                log_lines=sizes.log,
                first_columns=sizes.first,
            )
        )
