"""What lies over a screen: the help, the question before something is ended, and what is wrong with the plan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.screen import ModalScreen, Screen

from core.sanitise import sanitise
from lora_tui.cells import Pieces
from lora_tui.dashboard.messages import FollowsBoard
from lora_tui.dashboard.reading.snapshots import Board
from lora_tui.dashboard.widgets.lines_view import TextView
from lora_tui.dashboard.widgets.mended import ClosesOnce, KeysFooter

_KEYS = {
    "question_mark": "?", "slash": "/", "plus": "+", "equals_sign": "=", "minus": "-", "comma": ",", "full_stop": ".",
    "left_parenthesis": "(", "right_parenthesis": ")", "left_curly_bracket": "{", "right_curly_bracket": "}",
    "less_than_sign": "<", "greater_than_sign": ">", "underscore": "_", "vertical_line": "|",
    "escape": "esc", "left_square_bracket": "[", "right_square_bracket": "]", "ctrl+p": "^p",
}  # fmt: skip

_SIGNS: tuple[Pieces, ...] = (
    ((f"  {'✓ ✗ ?':<17}", "key"), ("PASS, FAIL, UNKNOWN; UNKNOWN says what is missing, and never passes", "muted")),
    ((f"  {'▲ ▼':<17}", "key"), ("on course, off course: what the verdict would be now; the run goes on", "muted")),
    ((f"  {'cannot pass':<17}", "key"), ("whatever comes: a criterion of the gate stays unknown", "muted")),
    ((f"  {'★':<17}", "key"), ("the step that ships, or would: legends read it; ┊ goes through it", "muted")),
    ((f"  {'☆':<17}", "key"), ("the best step so far, which would not ship", "muted")),
    ((f"  {'−':<17}", "key"), ("before a number: fewer errors than the base model; + is more", "muted")),
    (
        (f"  {'┌─ ships':<17}", "key"),
        ("domain as far down as the target asks, heldout within the guardrail", "muted"),
    ),
    (
        (f"  {'○ ● ◆':<17}", "key"),
        ("trade-off: base model, an interval, its 95 % intervals, the cursor's", "muted"),
    ),
    ((f"  {'━ last 3':<17}", "key"), ("the intervals that stability looks at", "muted")),
    ((f"  {'base, target':<17}", "key"), ("error rate of the base model, and what a run must get below", "muted")),
    ((f"  {'guardrail':<17}", "key"), ("how much heldout may get worse; bars are 95 % intervals", "muted")),
    ((f"  {'✕':<17}", "key"), ("a value that was NaN or infinite", "muted")),
    ((f"  {'↑3 ↓1 in a plot':<17}", "key"), ("values above and below the picture; V shows all of them", "muted")),
)
_ALIASES = frozenset({"ctrl+q", "tab", "shift+tab", "ctrl+c", "super+c"})
"""Keys of Textual itself that are not worth a line."""


def key_lines(screen: Screen[object]) -> list[Pieces]:
    """The keys that do something on this screen now, each once."""
    keys: dict[tuple[str, str], list[str]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if active.enabled and binding.description and binding.key not in _ALIASES:
            same = keys.setdefault((binding.description, active.tooltip or binding.tooltip), [])
            same.append(_KEYS.get(binding.key, binding.key))
    named = [(", ".join(dict.fromkeys(names)), *told) for told, names in keys.items()]
    width = max([17, *(len(names) + 1 for names, _, _ in named)])
    wide = max([16, *(len(description) + 1 for _, description, _ in named)])
    return [
        [(f"  {names:<{width}}", "key"), (f"{description:<{wide}}", ""), (tooltip, "muted")]
        for names, description, tooltip in named
    ]


def commands(screen: Screen[object]) -> list[tuple[str, str, ActiveBinding]]:
    """(title, what it does or its key, binding) of everything that a key does on this screen now, each once."""
    found: dict[tuple[str, str], tuple[str, str, ActiveBinding]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if not active.enabled or not binding.description or binding.key in _ALIASES:
            continue
        if active.node in (screen, screen.app) and binding.action != "command_palette":
            told = active.tooltip or binding.tooltip or f"key {_KEYS.get(binding.key, binding.key)}"
            found.setdefault((binding.description, binding.action), (binding.description, told, active))
    return list(found.values())


class Help(ClosesOnce, ModalScreen[None]):
    """All keys of the screen below, and what the signs mean."""

    CSS = """
    Help { align: center middle; }
    Help TextView { width: 90%; max-width: 100; height: 90%; background: $panel; padding: 1 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,f1", "dismiss", "Close")]

    def __init__(self, keys: Sequence[Pieces], *, ascii_only: bool) -> None:
        super().__init__()
        self._keys, self._ascii = keys, ascii_only

    def compose(self) -> ComposeResult:
        """The text."""
        yield TextView(ascii_only=self._ascii, id="help")
        yield KeysFooter(show_command_palette=False)

    def on_mount(self) -> None:
        """Fill the text."""
        about: list[Pieces] = [
            [("Keys", "title"), ("   j k G g scroll", "muted")],
            *self._keys,
            [],
            [("Signs", "title")],
            *_SIGNS,
            [],
        ]
        about.append([("Closing the dashboard stops nothing: training goes on.", "")])
        view = self.query_one(TextView)
        view.show(about)
        view.focus()


class Confirm(ClosesOnce, ModalScreen[bool]):
    """Asks before something is started, ended or removed. Only `y` means yes."""

    CSS = """
    Confirm { align: center middle; }
    Confirm TextView { width: 70; max-width: 95%; height: 11; background: $panel; padding: 1 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,enter", "answer(False)", "No"),
    ]

    def __init__(self, question: str, consequence: str, *, ascii_only: bool) -> None:
        super().__init__()
        told: list[Pieces] = [[(question, "title")], [(consequence, "muted")]]
        self._lines: list[Pieces] = [*told, [], [("y: yes   n: no", "key")]]
        self._ascii = ascii_only

    def compose(self) -> ComposeResult:
        """The question."""
        yield TextView(ascii_only=self._ascii, id="question")
        yield KeysFooter(show_command_palette=False)

    def on_mount(self) -> None:
        """Fill the text."""
        self.query_one(TextView).show(self._lines)

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)


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
        """Take a new board from the reader."""
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
