"""The application: wiring between the reader thread, the screens and the keys that work everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.notifications import SeverityLevel

from core.errors import UserError
from core.sanitise import sanitise
from lora_tui.dashboard.actions import Actions
from lora_tui.dashboard.board_screen import BoardScreen
from lora_tui.dashboard.messages import BoardRead
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.queue_table import QueueTable
from lora_tui.dashboard.reader import ReaderThread, Source
from lora_tui.dashboard.snapshots import Board
from lora_tui.dashboard.themes import DEFAULT, THEMES


class Dashboard(App[None]):
    """Reads through `source`; nothing trains in this process or because of it."""

    TITLE = "lora-tui"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "quit", "Quit", tooltip="Training goes on")]

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
        if self._main.is_mounted:
            self._main.show(message.board)
        self._reader.taken()

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
        self._reader.want(self._main.want())
