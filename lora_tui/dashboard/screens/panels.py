"""The panels around the queue: header, plots, verdict, status line, and the line in which a filter is typed.

They paint the newest board, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from core.runs.headline import headline
from core.runs.row import Row
from core.runs.status import Status
from core.sanitise import sanitise
from lora_tui.cells import Piece, Pieces, broken, cropped, cut, headline_pieces, plain, width_of
from lora_tui.dashboard.reading.snapshots import Board, RunView
from lora_tui.dashboard.text.filters import EXAMPLE
from lora_tui.dashboard.widgets.lines_view import LinesView
from lora_tui.dashboard.widgets.mended import TextField

_LONGEST = 600
_CRITERIA = 7
"""Lines of the criteria and the data's health."""
_HEAD_LINES = 2
"""Of the sentence, where there is no room for more."""


def seeds_pieces(row: Row | None) -> tuple[Piece, ...]:
    """`seeds 1/2: 2.1@seed1 accepted, 2.1@seed2 training`; nothing for a row without repeats."""
    if row is None or row.seeds is None:
        return ()
    accepted, asked = row.seeds
    roles = {"accepted": "pass", "rejected": "fail"}
    told = ", ".join(f"{key} {word}" for key, word in row.repeats) or "no repeat has started"
    return ((f"  seeds {accepted}/{asked}", roles.get(row.word or "", "unknown")), (f"  {told}", "muted"))


_WHERE = 24
"""Columns that the runs folder has before sparklines have any."""


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
        running = len({row.run for row in board.rows if row.active})  # rows may share a run
        if not board.where or ((board.unread or board.loading) and not running):
            left.append((plain(" reading the runs … ", self._ascii), "muted"))
        elif board.replay:
            left.append((f" {sanitise(board.replay)} ", "window"))
        else:
            left.append((f" {running} running " if running else " nothing is running ", "active" if running else ""))
            if board.queue.stands_still:
                left.append((" queue stands still ", "unknown"))
            else:
                left.append((" queue at work " if board.queue.works else " nothing waits ", "muted"))
        if board.queue.paused:
            left.append((" queue paused ", "fail"))
        if board.problems:
            count = len(board.problems)
            word = " is broken" if board.problems_only else f": {count} warning{'' if count == 1 else 's'}"
            left.append((f" plan{word} (P) ", "fail" if board.problems_only else "unknown"))
        if self._readonly:
            left.append((" read only ", "window"))
        taken = sum(width_of(text) for text, _ in left)
        resources = board.resources
        tries = (*(resources.text(cells) for cells in (20, 10, 0)), resources.short())
        rights = [plain(text + " ", self._ascii) for text in tries]
        # Sparklines come after the folder's name.
        roomy = taken + min(width_of(board.where), _WHERE)
        beside = zip(rights, (roomy, roomy, taken), strict=False)
        right = next((text for text, before in beside if before + width_of(text) <= width), rights[-1])
        room = width - taken - width_of(right)
        where = plain(f" {cropped(sanitise(board.where), room - 2)} ", self._ascii) if room > 12 else ""
        gap = room - width_of(where)
        if gap < 0:
            return [[*left]]
        return [[*left, (where + " " * gap, "muted"), (right, "muted")]]


class UpcomingLine(LinesView):
    """What is started next, in one line below the queue."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.text = ""

    def show(self, board: Board) -> None:
        """The newest board."""
        if board.upcoming != self.text:
            self.text = board.upcoming
            self.update()

    def paint(self, width: int, height: int) -> list[Pieces]:
        """The row first: what it waits for is cut off where there is no room."""
        row, comma, when = sanitise(self.text, _LONGEST).partition(", ")
        pieces = [(" next ", "muted"), (plain(row, self._ascii), "strong"), (plain(comma + when, self._ascii), "muted")]
        return [cut(pieces, width, "~" if self._ascii else "…")]


class OneLine(LinesView):
    """Something said in a line, or in as many as there is room for."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self._pieces: Pieces = ()

    def say(self, pieces: Pieces) -> None:
        """This, from now on. It is sanitised here."""
        self._pieces = pieces
        self.update()

    def paint(self, width: int, height: int) -> Sequence[Pieces]:
        """Broken between words; what there is no line for is left out."""
        return broken([(plain(sanitise(text, 2000), self._ascii), role) for text, role in self._pieces], width)[:height]


class VerdictPanel(LinesView):
    """Where the selected row stands, in one sentence, and its criteria. Reasons are shown where there is room."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.run: RunView | None = None
        self.row: Row | None = None
        self._plan: Board | None = None
        self._rows: tuple[Row, ...] = ()

    def show(self, run: RunView | None, row: Row | None = None, board: Board | None = None) -> None:
        """Another run, or a new verdict on it; `row` knows of the queue and of its repeats with other seeds.

        `board`: whose plan is shown as long as the row has no run.
        """
        plan = board if row is not None and row.run is None else None
        rows = () if plan is None else plan.rows
        if run is not self.run or row != self.row or rows is not self._rows:
            self.run, self.row, self._plan, self._rows = run, row, plan, rows
            self.update()

    def paint(self, width: int, height: int) -> Sequence[Pieces]:
        """The sentence first: it is there however little room is left."""
        ellipsis = "~" if self._ascii else "…"
        if self.row is None:
            return [[("select a row", "muted")]]
        stands = headline(self.row)
        pieces = headline_pieces(stands.word, stands.text, stands.role)
        head = broken([(sanitise(text, _LONGEST), role) for text, role in pieces], width)
        if len(head) > _HEAD_LINES and height < len(head) + _CRITERIA:
            head = [*head[: _HEAD_LINES - 1], [piece for line in head[_HEAD_LINES - 1 :] for piece in line]]
        shown = [*head, *self._criteria(width, height - len(head))]
        return [cut([(plain(text, self._ascii), role) for text, role in line], width, ellipsis) for line in shown]

    def _criteria(self, width: int, height: int) -> list[Pieces]:
        """The criteria in as many words as there is room for."""
        if self._plan is not None and self.row is not None:
            from lora_tui.dashboard.text.before_start import plan_lines  # brings what reads plans

            return plan_lines(self._plan, self.row, width, height)
        if self.run is None:
            return []
        from lora_tui.dashboard.text.verdict_lines import verdict_lines  # brings scoring, which no first frame needs

        seeds = tuple((sanitise(text), role) for text, role in seeds_pieces(self.row))
        return [list(line.pieces) for line in verdict_lines(self.run, width=width, height=height, seeds=seeds)]


class LogPanel(LinesView):
    """The end of the selected run's log, as many lines as there is room for."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.lines: tuple[str, ...] = ()

    def show(self, run: RunView | None) -> None:
        """Of this run."""
        lines = () if run is None else run.log
        if lines != self.lines:
            self.lines = lines
            self.update()

    def paint(self, width: int, height: int) -> list[Pieces]:
        """The newest line stands last; the label before the first."""
        shown = self.lines[-height:] or ("nothing in the log yet",)
        label = [" log ", *["     "] * len(shown)]
        ellipsis = "~" if self._ascii else "…"
        return [
            cut([(before, "muted"), (plain(sanitise(text), self._ascii), "")], width, ellipsis)
            for before, text in zip(label, shown, strict=False)
        ]


class StatusLine(LinesView):
    """What the selected row waits for, the end of its log, or what the plan's problem is. One line."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.board = Board("")
        self.row: Row | None = None
        self._log_above = False

    def log_above(self, *, shown: bool) -> None:
        """Whether the log has lines of its own: its last one is not said twice."""
        self._log_above = shown

    def show(self, board: Board, row: Row | None) -> None:
        """The newest board and its selected row."""
        self.board, self.row = board, row
        self.update()

    def paint(self, width: int, height: int) -> list[Pieces]:
        """The most pressing thing there is to say."""
        label, text, role = self._message()
        pieces = [(f" {label} ", "muted"), (plain(sanitise(text), self._ascii), role)]
        return [cut(pieces, width, "~" if self._ascii else "…")]

    def _message(self) -> tuple[str, str, str]:
        """The first of these that there is."""
        board, row = self.board, self.row
        more = f" (and {len(board.problems) - 1} more: P)" if len(board.problems) > 1 else ""
        said = [
            ("plan", f"{board.problems[0]}{more}" if board.problems_only else "", "fail"),
            ("plan", board.loading, ""),
            ("queue paused", f"{board.queue.paused}; u lets it go on" if board.queue.paused else "", "fail"),
            ("queue", board.queue.note, "unknown"),
        ]
        read = board.selected is not None and row is not None and board.selected.row_id == row.id
        if row is not None and (not read or row.status is not Status.DONE):
            said.append((row.status.text, row.reason.removeprefix(f"{row.status.text} "), ""))
        if read and board.selected is not None and not self._log_above:
            said.append(("log", board.selected.log_line or "nothing in the log yet", ""))
        said += [("queue", board.queue.last_action, ""), ("plan", board.problems[0] if board.problems else "", "")]
        return next((one for one in said if one[1]), ("", "", ""))


class FilterLine(TextField):
    """Filters as it is typed. The keys that end that are its own, so that the footer has them meanwhile."""

    DEFAULT_CSS = """
    FilterLine { height: 1; border: none; padding: 0 1; background: $panel; }
    FilterLine:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Keep filter"),
        Binding("escape", "screen.back", "Clear filter"),
    ]

    def __init__(self, value: str = "") -> None:
        super().__init__(value, placeholder=f"{EXAMPLE}. Enter keeps, Esc clears")
