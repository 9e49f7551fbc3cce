"""Every key of every screen, and what the person who presses it notices: the material of test_every_key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from textual.widgets import DataTable

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Key:
    """One key press. `see` is not on the screen before it and is after it; `gone` the other way round."""

    owner: str
    """Class whose BINDINGS answer; empty: on the way to the next one."""
    key: str
    see: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    that: Check | None = None
    """For what has no text, such as which cell is lit: false before, true after."""


def way(*keys: str, see: str = "") -> list[Key]:
    """Keys that only lead somewhere; `see` when they have."""
    return [*(Key("", key) for key in keys[:-1]), Key("", keys[-1], see=(see,) if see else ())]


def column(number: int) -> Check:
    return lambda app: app.screen.query_one(DataTable).cursor_column == number


def top(number: int) -> Check:
    return lambda app: app.focused.top == number


def smoothing(steps: int) -> Check:
    return lambda app: app.screen.plots.look.smoothing == steps


def focused(name: str) -> Check:
    return lambda app: app.focused is not None and getattr(app.focused, "name", None) == name


BOARD, TABLE, RUN, TEXT = "BoardScreen", "QueueTable", "RunScreen", "TextView"
HELP_TOP, HELP_END = "j k G g scroll", "Closing the dashboard stops nothing"

FINISHED: list[Key] = [
    # Plots: their axes and legends say what is seen of them.
    Key(BOARD, "plus", see=("zoomed", "300"), gone=("1 000",)),
    Key(BOARD, "equals_sign", see=("450", "550")),
    Key(BOARD, "left", see=("350",), gone=("600",)),
    Key(BOARD, "h", see=("250",)),
    Key(BOARD, "right", gone=("250",)),
    Key(BOARD, "l", see=("600",), gone=("350",)),
    Key(BOARD, "minus", see=("300", "700")),
    Key(BOARD, "0", see=("1 000",), gone=("zoomed",)),
    Key(BOARD, "comma", see=(" at 500",)),
    Key(BOARD, "full_stop", see=(" at 520",)),
    Key(BOARD, "left_square_bracket", see=(" at 500",)),
    Key(BOARD, "right_square_bracket", see=(" at 750",)),
    Key(BOARD, "m", see=("mean of 100 steps",), that=smoothing(100)),
    Key(BOARD, "y", see=("loss  log",)),
    *way("y"),
    Key(BOARD, "r", gone=("├─ gradient norm 1.000 ──",)),
    Key(BOARD, "r", see=("├─ gradient norm 1.000 ──",), gone=("├─ learning rate",)),
    *way("r", "r"),
    Key(BOARD, "v", see=("zoomed",)),
    Key(BOARD, "V", gone=("zoomed",)),
    Key(BOARD, "V", see=("all of y, outliers too",)),
    Key(BOARD, "b", see=("y around target and guardrail", "zoomed")),
    *way("b"),
    Key(BOARD, "right_parenthesis", that=lambda app: app.screen.sizes.table == 1),
    Key(BOARD, "left_parenthesis", that=lambda app: app.screen.sizes.table == 0),
    Key(BOARD, "left_curly_bracket", that=lambda app: app.screen.sizes.verdict == -1),
    Key(BOARD, "right_curly_bracket", that=lambda app: app.screen.sizes.verdict == 0),
    Key(BOARD, "greater_than_sign", that=lambda app: app.screen.layout_now.log == 1),
    Key(BOARD, "less_than_sign", that=lambda app: app.screen.layout_now.log == 0),
    Key(BOARD, "vertical_line", that=lambda app: app.screen.sizes.first == 2),
    Key(BOARD, "underscore", that=lambda app: app.screen.sizes.first == 0),
    Key(BOARD, "x", see=("min",), gone=("step 0    ",)),
    *way("x", see="step 0    "),
    Key(BOARD, "c", that=lambda app: len(app.screen.pinned) == 1),
    Key(BOARD, "escape", that=lambda app: not app.screen.pinned),
    Key(BOARD, "z", see=("layout: plots",)),
    *way("z", "z", see="layout: balanced"),
    Key(BOARD, "slash", see=("Enter keeps, Esc clears", "Keep filter")),
    *way(*"3.1"),
    Key("FilterLine", "enter", gone=("Keep filter",)),
    *way("slash", see="Clear filter"),
    Key("FilterLine", "escape", gone=("Clear filter",)),
    *way("k", see="▸ 2.1"),
    Key(BOARD, "o", see=("sorted by id",)),
    Key(BOARD, "O", see=("sorted by id, the other way round",)),
    *way("O", "o", "o", "o", "o", "o", "o", see="in the plan's order"),
    Key(TABLE, "L", that=lambda app: app.screen.table._first == 1),
    Key(TABLE, "H", that=lambda app: app.screen.table._first == 0),
    Key(BOARD, "S", see=("[6 verdict]",)),
    *way("escape", see="▸ 2.1"),
    # Help, in which lines scroll.
    Key("Dashboard", "question_mark", see=(HELP_TOP,)),
    Key(TEXT, "down", gone=(HELP_TOP,), that=top(1)),
    Key(TEXT, "j", that=top(2)),
    Key(TEXT, "up", that=top(1)),
    Key(TEXT, "k", see=(HELP_TOP,)),
    Key(TEXT, "pagedown", gone=(HELP_TOP,)),
    Key(TEXT, "pageup", see=(HELP_TOP,)),
    Key(TEXT, "space", gone=(HELP_TOP,)),
    Key(TEXT, "ctrl+u", see=(HELP_TOP,)),
    Key(TEXT, "ctrl+d", gone=(HELP_TOP,)),
    Key(TEXT, "home", see=(HELP_TOP,)),
    Key(TEXT, "end", see=(HELP_END,)),
    Key(TEXT, "g", see=(HELP_TOP,)),
    Key(TEXT, "G", see=(HELP_END,)),
    Key("Help", "escape", gone=(HELP_END,)),
    Key("Dashboard", "f1", see=(HELP_TOP,)),
    Key("Help", "f1", gone=(HELP_TOP,)),
    *way("f1", see=HELP_TOP),
    Key("Help", "question_mark", gone=(HELP_TOP,)),
    # The pages of a run.
    Key(BOARD, "enter", see=("[1 intervals]",)),
    Key(RUN, "2", see=("[2 settings]", "identity  0000000000")),
    Key(RUN, "1", see=("[1 intervals]",)),
    Key(RUN, "3", see=("[3 log]", "the last word")),
    Key(RUN, "4", see=("[4 transcripts]", "most fixed first")),
    Key(RUN, "o", see=("most broken first",)),
    Key(RUN, "d", see=("heldout: ",)),
    Key(RUN, "5", see=("[5 data]", "leak")),
    Key(RUN, "6", see=("[6 verdict]",)),
    Key(RUN, "y", see=("on the clipboard",)),
    Key(RUN, "tab", see=("[1 intervals]",)),
    Key(RUN, "right", see=("[2 settings]",)),
    Key(RUN, "l", see=("[3 log]",)),
    Key(RUN, "shift+tab", see=("[2 settings]",)),
    Key(RUN, "left", see=("[1 intervals]",)),
    Key(RUN, "h", see=("[6 verdict]",)),
    Key(RUN, "escape", gone=("[6 verdict]",)),
    # The matrix.
    Key(BOARD, "M", see=("run matrix", "2 of 2 rows")),
    Key("MatrixTable", "l", that=column(1)),
    Key("MatrixTable", "h", that=column(0)),
    Key("MatrixTable", "j", see=(" 3.1 SHIP ",)),
    Key("MatrixTable", "k", see=(" 2.1 SHIP ",)),
    Key("MatrixTable", "G", see=(" 3.1 SHIP ",)),
    Key("MatrixTable", "g", see=(" 2.1 SHIP ",)),
    Key("MatrixScreen", "o", see=("by experiment", "▲")),
    Key("MatrixScreen", "O", see=("in the plan's order",)),
    Key("MatrixScreen", "slash", see=("id:2 lr>=1e-4",)),
    *way(*"nothing", see="0 of 2 rows"),
    Key("MatrixScreen", "escape", see=("2 of 2 rows",)),
    Key("MatrixScreen", "escape", gone=("run matrix",)),
    Key("Dashboard", "ctrl+t", see=("theme: lora-light",)),
    Key("Dashboard", "q", that=lambda app: app._exit),
]
"""Over two finished runs without a plan; 3.1 has a log that ends with "the last word"."""

SMALL: list[Key] = [
    Key(BOARD, "w", see=("guardrail",), gone=("trade-off",)),
    *way("w", see="trade-off"),
]
"""Over a finished run, where trade-off and error rates have no room beside each other."""

MANY: list[Key] = [
    Key(TABLE, "down", see=("▸ e01",), gone=("▸ e00",)),
    Key(TABLE, "j", see=("▸ e02",)),
    Key(TABLE, "up", see=("▸ e01",)),
    Key(TABLE, "k", see=("▸ e00",)),
    Key(TABLE, "pagedown", gone=("▸ e00",)),
    Key(TABLE, "pageup", see=("▸ e00",)),
    Key(TABLE, "ctrl+d", gone=("▸ e00",)),
    Key(TABLE, "ctrl+u", see=("▸ e00",)),
    Key(TABLE, "end", see=("▸ e39",)),
    Key(TABLE, "home", see=("▸ e00",)),
    Key(TABLE, "G", see=("▸ e39",)),
    Key(TABLE, "g", see=("▸ e00",)),
    Key(BOARD, "e", see=("run_matrix.md",)),
    *way("M", see="run matrix"),
    Key("MatrixScreen", "e", see=("run_matrix.md",)),
    *way("escape"),
    Key(BOARD, "a", see=("new experiment", "a copy of e00")),
    Key("ExperimentForm", "down", see=("what it is about",), that=focused("title")),
    Key("ExperimentForm", "up", that=focused("id")),
    Key("ExperimentForm", "escape", gone=("new experiment",)),
    *way("a", see="new experiment"),
    Key("ExperimentForm", "ctrl+s", see=("e00-2 is in experiments.toml",)),
    *way("g", "a", see="a copy of e00"),
    Key("ExperimentForm", "ctrl+r", see=("e00-3 is in experiments.toml", "queued")),
]
"""Over a plan of forty experiments of which none was started."""

QUEUE: list[Key] = [
    Key(BOARD, "s", see=("y: yes",)),
    *way("y", see="queued"),
    Key(BOARD, "p", see=("held on request",)),
    Key(BOARD, "p", see=("a is released",), gone=("held on request",)),
    Key(BOARD, "J", see=("a is started later",)),
    Key(BOARD, "shift+down", that=lambda app: [row.key for row in app.board.rows] == ["b", "c", "a"]),
    Key(BOARD, "K", that=lambda app: [row.key for row in app.board.rows] == ["b", "a", "c"]),
    Key(BOARD, "shift+up", that=lambda app: [row.key for row in app.board.rows] == ["a", "b", "c"]),
    Key(BOARD, "D", see=("Remove a from the queue?",)),
    Key("Confirm", "n", gone=("Remove a from the queue?",)),
    Key(BOARD, "delete", see=("Remove a from the queue?",)),
    Key("Confirm", "y", see=("removed",), gone=("Remove a from the queue?",)),
    Key(BOARD, "R", see=("a is back in the queue",)),
]
"""Over a queue whose supervisor never comes up."""

ALIVE: list[Key] = [
    *way("s", "y", see="1 running"),
    Key(BOARD, "X", see=("Kill the trainer of a now?",)),
    Key("Confirm", "escape", gone=("Kill the trainer of a now?",)),
    Key(BOARD, "t", see=("Stop a after this step?",)),
    Key("Confirm", "enter", gone=("Stop a after this step?",)),
    Key(BOARD, "T", see=("Stop the queue?",)),
    *way("n"),
    Key(BOARD, "Z", see=("Kill all trainers now?",)),
    Key("Confirm", "y", see=("nothing is running", "nothing waits")),
]
"""Over a real supervisor; the FakeTrainer of `a` trains until it is stopped."""

PAUSED: list[Key] = [
    *way("s", "y", see="queue paused"),
    Key(BOARD, "u", see=("✓ accepted",), gone=("queue paused",)),
]
"""`a` fails, which pauses the queue, and succeeds when it is tried again."""

BROKEN: list[Key] = [
    Key(BOARD, "P", see=("problems of",)),
    Key("ProblemsScreen", "escape", gone=("problems of",)),
    *way("P", see="problems of"),
    Key("ProblemsScreen", "P", gone=("problems of",)),
]
"""Over a plan with mistakes."""

TOURS = {
    "finished": FINISHED,
    "small": SMALL,
    "many": MANY,
    "queue": QUEUE,
    "alive": ALIVE,
    "paused": PAUSED,
    "broken": BROKEN,
}
