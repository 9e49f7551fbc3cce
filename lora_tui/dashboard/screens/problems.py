"""What is wrong with the plan: each problem with its file and line, whole."""

from __future__ import annotations

import re
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from core.sanitise import sanitise
from lora_tui.cells import Pieces
from lora_tui.dashboard.messages import FollowsBoard
from lora_tui.dashboard.reading.snapshots import Board
from lora_tui.dashboard.widgets.closing import ClosesOnce
from lora_tui.dashboard.widgets.keys_footer import KeysFooter
from lora_tui.dashboard.widgets.text_view import TextView

_PLACE = re.compile(r"^(\S+:\d+): (.*)$", re.DOTALL)
_LONGEST = 2000


class ProblemsScreen(ClosesOnce, FollowsBoard, ModalScreen[None]):
    """Follows the plan while it is open: it is empty as soon as the file is mended."""

    CSS = """
    ProblemsScreen { align: center middle; }
    ProblemsScreen TextView { width: 96%; max-width: 130; height: 90%; background: $panel; padding: 1 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,P", "dismiss", "Close")]

    def __init__(self, board: Board, *, ascii_only: bool) -> None:
        super().__init__()
        self._board, self._ascii = board, ascii_only

    def compose(self) -> ComposeResult:
        """The text."""
        yield TextView(ascii_only=self._ascii, id="problems")
        yield KeysFooter(show_command_palette=False)

    def on_mount(self) -> None:
        """Keys scroll it."""
        self.query_one(TextView).focus()
        self.call_after_refresh(self.show, self._board)

    def show(self, board: Board) -> None:
        """A new board."""
        self._board = board
        if self.query(TextView):
            self.query_one(TextView).show(problem_lines(board))


def problem_lines(board: Board) -> list[Pieces]:
    """Each problem as `file:line` and its sentences, a line each. Pure."""
    if not board.problems:
        return [[("The plan has no problems any more.", "pass")]]
    lines: list[Pieces] = [[(f"{len(board.problems)} problems of {sanitise(board.plan or '')}", "title")], []]
    for problem in board.problems:
        place, what = match.groups() if (match := _PLACE.match(problem)) else ("", problem)
        if place:
            lines.append([(sanitise(place, _LONGEST), "key")])
        lines += [[(f"  {sanitise(part, _LONGEST)}", "")] for part in what.splitlines()]
        lines.append([])
    lines.append([("Mend them in an editor: the board reads the plan again by itself.", "muted")])
    return lines
