"""What keys may ask for: when each of them makes sense, what is asked before, and what does it. Pure tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_tui.dashboard.reading.snapshots import Board, BoardRow

if TYPE_CHECKING:
    from lora_tui.dashboard.actions import Actions

_RETRIED = frozenset(
    {"failed", "crashed", "damaged", "killed", "diverged", "out of memory", "disk full", "stopped", "stopped early"}
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One of them. `question`, when given, is asked before; `{row}` in it is the row's key."""

    do: Callable[[Actions, BoardRow | None], str]
    sensible: Callable[[Board, BoardRow], bool]
    """For this row, now; asked only where there is a row."""
    question: str = ""
    consequence: str = ""
    of_row: bool = False


def _row_ask(
    do: Callable[[Actions, BoardRow], str],
    sensible: Callable[[Board, BoardRow], bool],
    question: str = "",
    consequence: str = "",
) -> Ask:
    return Ask(lambda a, r: "" if r is None else do(a, r), sensible, question, consequence, of_row=True)


def _waits(row: BoardRow) -> bool:
    return row.submission is not None and not row.active and row.state not in ("done", "removed")


ROW_ASKS = {
    "hold": _row_ask(lambda a, r: a.wishes.hold(r), lambda b, r: _waits(r) and r.queued != "held"),
    "release": _row_ask(lambda a, r: a.wishes.release(r), lambda b, r: r.queued == "held" and not r.active),
    "earlier": _row_ask(lambda a, r: a.wishes.move(r, -1), lambda b, r: _waits(r)),
    "later": _row_ask(lambda a, r: a.wishes.move(r, 1), lambda b, r: _waits(r)),
    "retry": _row_ask(
        lambda a, r: a.wishes.retry(r),
        lambda b, r: (
            not r.active
            and (
                r.state in _RETRIED
                or r.queued in ("skipped", "removed", "held")
                or (r.run is not None and r.state in ("queued", "waiting"))
            )
        ),
    ),
    "remove": _row_ask(
        lambda a, r: a.wishes.remove(r),
        lambda b, r: _waits(r),
        "Remove {row} from the queue?",
        "It is not started any more. Its files stay, and Retry puts it back.",
    ),
    "stop": _row_ask(
        lambda a, r: a.wishes.end(r, "stop"),
        lambda b, r: r.active and r.submission is not None,
        "Stop {row} after this step?",
        "The trainer finishes its step and saves; Release goes on from there. The queue goes on with other rows.",
    ),
    "kill": _row_ask(
        lambda a, r: a.wishes.end(r, "kill"),
        lambda b, r: r.active and r.submission is not None,
        "Kill the trainer of {row} now?",
        "What it did since its last checkpoint is lost; Release goes on from it.",
    ),
}
"""What is asked for the selected row."""

QUEUE_ASKS = {
    "start": Ask(lambda a, r: a.start(), lambda b, r: True),
    "export": Ask(lambda a, r: a.export(), lambda b, r: True),
    "go_on": Ask(lambda a, r: a.wishes.go_on(), lambda b, r: True),
    "stop_all": Ask(
        lambda a, r: a.wishes.end_all("stop"),
        lambda b, r: True,
        "Stop the queue?",
        "Trainers finish their step and save, and nothing more is started. Start goes on from there.",
    ),
    "kill_all": Ask(
        lambda a, r: a.wishes.end_all("kill"),
        lambda b, r: True,
        "Kill all trainers now?",
        "What they did since their last checkpoints is lost; Start goes on from those.",
    ),
}
ASKS = ROW_ASKS | QUEUE_ASKS


def allowed(what: str, board: Board, row: BoardRow | None) -> bool:
    """Whether asking for it makes sense now."""
    if what in ROW_ASKS:
        return row is not None and ROW_ASKS[what].sensible(board, row)
    planned = board.plan is not None and not board.problems_only
    unqueued = any(r.planned and r.submission is None and r.state != "done" for r in board.rows)
    return {
        "start": planned and (unqueued or board.queue.stands_still),
        "export": planned,
        "go_on": bool(board.queue.paused),
        "stop_all": bool(board.queue.submissions),
        "kill_all": any(r.active and r.submission is not None for r in board.rows),
    }[what]
