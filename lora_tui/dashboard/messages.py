"""What is told within the dashboard."""

from __future__ import annotations

from textual.message import Message

from lora_tui.dashboard.snapshots import Board


class BoardRead(Message):
    """The reader thread has a new board."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board


class Asked(Message):
    """A key asks for something beyond the screen: `start`, `stop`, `kill`, `export`."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
