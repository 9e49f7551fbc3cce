"""What keys may ask for: when each of them makes sense, what is asked before, and what does it. Pure tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.runs.row import Row
from core.runs.status import Status
from lora_tui.dashboard.reading.snapshots import Board

if TYPE_CHECKING:
    from lora_tui.dashboard.actions import Actions


@dataclass(frozen=True, slots=True)
class Ask:
    """One of them. `question`, when given, is asked before; `{row}` in it is the row's key."""

    do: Callable[[Actions, Row | None], str]
    sensible: Callable[[Board, Row], bool]
    """For this row, now; asked only where there is a row."""
    question: str = ""
    consequence: str = ""
    of_row: bool = False


def _row_ask(
    do: Callable[[Actions, Row], str],
    sensible: Callable[[Board, Row], bool],
    question: str = "",
    consequence: str = "",
) -> Ask:
    return Ask(lambda a, r: "" if r is None else do(a, r), sensible, question, consequence, of_row=True)


def _waits(row: Row) -> bool:
    return _is_queued(row) and not row.active and row.status not in (Status.DONE, Status.REMOVED)


def _is_queued(row: Row) -> bool:
    return row.queued.submission != ""


ROW_ASKS = {
    "hold": _row_ask(lambda a, r: a.hold(r), lambda b, r: _waits(r) and r.status is not Status.HELD),
    "release": _row_ask(lambda a, r: a.release(r), lambda b, r: r.status is Status.HELD),
    "earlier": _row_ask(lambda a, r: a.move(r, -1), lambda b, r: _waits(r)),
    "later": _row_ask(lambda a, r: a.move(r, 1), lambda b, r: _waits(r)),
    "retry": _row_ask(lambda a, r: a.retry(r), lambda b, r: r.retriable),
    "remove": _row_ask(
        lambda a, r: a.remove(r),
        lambda b, r: _waits(r),
        "Remove {row} from the queue?",
        "It is not started any more. Its files stay, and Retry puts it back.",
    ),
    "stop": _row_ask(
        lambda a, r: a.stop(r),
        lambda b, r: r.active and _is_queued(r),
        "Stop {row} after this step?",
        "The trainer finishes its step and saves; Release goes on from there. The queue goes on with other rows.",
    ),
    "kill": _row_ask(
        lambda a, r: a.kill(r),
        lambda b, r: r.active and _is_queued(r),
        "Kill the trainer of {row} now?",
        "What it did since its last checkpoint is lost; Release goes on from it.",
    ),
}
"""What is asked for the selected row."""

QUEUE_ASKS = {
    "start": Ask(lambda a, r: a.start(), lambda b, r: True),
    "export": Ask(lambda a, r: a.export(), lambda b, r: True),
    "go_on": Ask(lambda a, r: a.go_on(), lambda b, r: True),
    "stop_all": Ask(
        lambda a, r: a.stop_all(),
        lambda b, r: True,
        "Stop the queue?",
        "Trainers finish their step and save, and nothing more is started. Start goes on from there.",
    ),
    "kill_all": Ask(
        lambda a, r: a.kill_all(),
        lambda b, r: True,
        "Kill all trainers now?",
        "What they did since their last checkpoints is lost; Start goes on from those.",
    ),
}
ASKS = ROW_ASKS | QUEUE_ASKS


def allowed(what: str, board: Board, row: Row | None) -> bool:
    """Whether asking for it makes sense now."""
    if what in ROW_ASKS:
        return row is not None and ROW_ASKS[what].sensible(board, row)
    planned = board.plan is not None and not board.problems_only
    unqueued = any(r.planned and not _is_queued(r) and r.status is not Status.DONE for r in board.rows)
    return {
        "start": planned and (unqueued or board.queue.stands_still),
        "export": planned,
        "go_on": bool(board.queue.paused),
        "stop_all": bool(board.queue.submissions),
        "kill_all": any(r.active and _is_queued(r) for r in board.rows),
    }[what]
