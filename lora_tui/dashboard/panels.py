"""The panels around the queue: header, plots, verdict, status line. They paint the newest board, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from core.sanitise import sanitise
from lora_tui.dashboard.lines_view import LinesView, Pieces
from lora_tui.dashboard.plot import Plot, View, draw
from lora_tui.dashboard.snapshots import Board, BoardRow, RunView
from lora_tui.dashboard.verdict_text import plain, verdict_lines


class Header(LinesView):
    """Where we are, whether the queue works, what the machine does."""

    def __init__(self, *, ascii_only: bool, readonly: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii, self._readonly = ascii_only, readonly
        self.board = Board("")

    def show(self, board: Board) -> None:
        """The newest board."""
        self.board = board
        self.update()

    def paint(self, width: int, height: int) -> list[Pieces]:
        """One line: the left half gives way to the machine's figures."""
        board = self.board
        left: list[tuple[str, str]] = [(" lora-tui ", "title")]
        if board.replay:
            left.append((f" {sanitise(board.replay)} ", "window"))
        else:
            running = sum(row.active for row in board.rows)
            left.append((f" {running} running " if running else " nothing is running ", "active" if running else ""))
            left.append((" queue at work " if board.queue.works else " queue idle ", "muted"))
        if self._readonly:
            left.append((" read only ", "window"))
        right = plain(board.resources.text() + " ", self._ascii)
        taken = sum(len(text) for text, _ in left)
        if taken + len(right) > width:
            right = plain(board.resources.short() + " ", self._ascii)
        room = width - taken - len(right)
        where = plain(sanitise(f" {board.where} ", max(0, room)), self._ascii) if room > 12 else ""
        gap = room - len(where)
        if gap < 0:
            return [[*left]]
        return [[*left, (where + " " * gap, "muted"), (right, "muted")]]


class PlotView(LinesView):
    """One plot. `view` is the part of it that is looked at; new data does not change that."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.plot = Plot("", (), empty="")
        self.view = View()

    def show(self, plot: Plot, view: View) -> None:
        """A new plot, or another part of it."""
        self.plot, self.view = plot, view
        self.update()

    def paint(self, width: int, height: int) -> list[Pieces]:
        """All cells of the plot."""
        lines = draw(self.plot, width, height, self.view, ascii_only=self._ascii)
        return [[(plain(c, True), role) if self._ascii else (c, role) for c, role in line] for line in lines]


class VerdictPanel(LinesView):
    """The criteria of the selected run. Reasons are shown where there is room for them."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.run: RunView | None = None

    def show(self, run: RunView | None) -> None:
        """Another run, or a new verdict on it."""
        if run is not self.run or run is None:
            self.run = run
            self.update()

    def paint(self, width: int, height: int) -> Sequence[Pieces]:
        """The panel; lines that only explain are left out where they do not fit."""
        lines = verdict_lines(self.run)
        if len(lines) > height:
            lines = [line for line in lines if not line.continues]
        shown = [[(plain(text, self._ascii), role) for text, role in line.pieces] for line in lines]
        return [_cut(pieces, width, "~" if self._ascii else "…") for pieces in shown]


class StatusLine(LinesView):
    """What the selected row waits for, the end of its log, or what the plan's problem is. One line."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.board = Board("")
        self.row: BoardRow | None = None

    def show(self, board: Board, row: BoardRow | None) -> None:
        """The newest board and its selected row."""
        self.board, self.row = board, row
        self.update()

    def paint(self, width: int, height: int) -> list[Pieces]:
        """The most pressing thing there is to say."""
        label, text, role = self._message()
        pieces = [(f" {label} ", "muted"), (plain(sanitise(text), self._ascii), role)]
        return [_cut(pieces, width, "~" if self._ascii else "…")]

    def _message(self) -> tuple[str, str, str]:
        board, row = self.board, self.row
        if board.problems:
            more = f" (and {len(board.problems) - 1} more)" if len(board.problems) > 1 else ""
            return "plan", f"{board.problems[0]}{more}", "fail"
        if board.loading:
            return "plan", board.loading, ""
        if board.selected is not None and row is not None and board.selected.row_id == row.id:
            if row.reason and row.state != "done":
                return row.state, row.reason, ""
            return "log", board.selected.log_line or "nothing in the log yet", ""
        if row is not None and row.reason:
            return row.state, row.reason, ""
        return ("queue", board.queue.said, "") if board.queue.said else ("", "", "")


def _cut(pieces: Sequence[tuple[str, str]], width: int, ellipsis: str) -> Pieces:
    """A line that says so when it is cut."""
    left, cut = width, []
    for text, role in pieces:
        if len(text) > left:
            cut.append((text[: max(0, left - 1)] + ellipsis, role))
            break
        cut.append((text, role))
        left -= len(text)
    return cut
