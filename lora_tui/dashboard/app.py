"""The application: wiring between the reader thread, the screens and the keys that work everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.widgets import Footer

from core.errors import UserError
from core.sanitise import sanitise
from lora_tui.dashboard.actions import Actions
from lora_tui.dashboard.board_screen import BoardScreen
from lora_tui.dashboard.dialogs import Confirm, Help, key_lines
from lora_tui.dashboard.messages import Asked, BoardRead
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.queue_table import QueueTable
from lora_tui.dashboard.reader import ReaderThread, Source
from lora_tui.dashboard.run_screen import RunScreen
from lora_tui.dashboard.snapshots import Board
from lora_tui.dashboard.themes import DEFAULT, THEMES

_QUESTIONS = {
    "stop": ("Stop the queue?", "The trainer finishes its step and saves; Start goes on from there."),
    "kill": ("Kill the trainer now?", "What it did since its last checkpoint is lost; Start goes on from it."),
}


class Dashboard(App[None]):
    """Reads through `source`; nothing trains in this process or because of it."""

    TITLE = "lora-tui"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "help", "Help"),
        Binding("q", "quit", "Quit", tooltip="training goes on"),
    ]

    def __init__(self, source: Source, options: Options, actions: Actions) -> None:
        super().__init__()
        self.animation_level = "none"
        self.options = options
        self.actions = actions
        self.board = Board("")
        self._reader = ReaderThread(source, options.refresh_s, self._deliver)
        self._main = BoardScreen(ascii_only=options.ascii_only, readonly=options.readonly)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DEFAULT

    def on_mount(self) -> None:
        """The board, and somebody who reads for it."""
        self.push_screen(self._main)
        self._reader.start()
        if self.options.start:
            self.act(self.actions.start)

    def on_unmount(self) -> None:
        """The reader has nobody to read for."""
        self._reader.stop()

    def _deliver(self, board: Board) -> None:
        """Called in the reader thread."""
        self.post_message(BoardRead(board))

    def on_board_read(self, message: BoardRead) -> None:
        """Hand the board to the screens."""
        self.board = message.board
        for screen in self.screen_stack:
            # Boards come while a screen is put together or taken apart, too.
            if isinstance(screen, (BoardScreen, RunScreen)) and screen.query(Footer):
                screen.show(message.board)
        self._reader.taken()

    def action_help(self) -> None:
        """The keys of the screen that is open."""
        if not isinstance(self.screen, Help):
            self.push_screen(Help(key_lines(self.screen), ascii_only=self.options.ascii_only))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The command palette: every key of the screen that does something now, and the theme."""
        yield SystemCommand("Theme", "light, dark, safe for colour-blind eyes", self.action_change_theme)
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.enabled and binding.description and active.node in (screen, self):
                yield SystemCommand(
                    binding.description,
                    active.tooltip or f"key {binding.key}",
                    partial(self.run_action, binding.action, active.node),
                )

    def on_asked(self, message: Asked) -> None:
        """Do it; what ends a run asks first."""
        if message.what == "start":
            self.act(self.actions.start)
        elif message.what == "export":
            self.act(self.actions.export)
        else:
            self._end(message.what)

    def _end(self, kind: str) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self.act(partial(self.actions.end, kind, ()))

        self.push_screen(Confirm(*_QUESTIONS[kind], ascii_only=self.options.ascii_only), answered)

    def act(self, action: Callable[[], str]) -> None:
        """Do something that may take a while, in a thread, and say what came of it."""

        def work() -> None:
            try:
                said, severity = action(), "information"
            except (UserError, OSError) as error:
                said, severity = str(error), "error"
            self.call_from_thread(self._say, said, severity)

        self.run_worker(work, thread=True, exit_on_error=False)

    def _say(self, text: str, severity: SeverityLevel) -> None:
        self.notify(sanitise(text, 500, multiline=True), severity=severity, markup=False)

    def on_queue_table_selected(self, message: QueueTable.Selected) -> None:
        """Another run is looked at."""
        if self._main.query(Footer):
            self._reader.want(self._main.want())
