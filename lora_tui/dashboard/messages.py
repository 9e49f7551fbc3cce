"""The messages that parts of the dashboard post to each other."""

from __future__ import annotations

from textual.message import Message

from core.runs.row import Row
from lora_tui.dashboard.reading.snapshots import Board, Want


class FollowsBoard:
    """A screen that shows every new board."""

    def show(self, board: Board) -> None:
        """A new board from the reader."""
        raise NotImplementedError


class BoardRead(Message):
    """The reader thread has a new board."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board


class RunWanted(Message):
    """Another run is looked at, or laid over it."""

    def __init__(self, want: Want) -> None:
        super().__init__()
        self.want = want


class Asked(Message):
    """A key asks for something beyond the screen: a name of `asks.ASKS`, and the row that it is for, if any."""

    def __init__(self, what: str, row: Row | None = None) -> None:
        super().__init__()
        self.what, self.row = what, row


class AddAsked(Message):
    """A copy of this row's experiment is to be edited and added to the plan."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row


class MatrixAsked(Message):
    """The run matrix is to be opened."""


class LookChanged(Message):
    """Something that is remembered is another now: its names in `Memory`, and values."""

    def __init__(self, **changes: object) -> None:
        super().__init__()
        self.changes = changes
