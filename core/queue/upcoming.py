"""What is started next, in one sentence for every face. It is chosen by the function by which the supervisor chooses.

A condition on runs that have not ended is open: then the row that is asked first is named with its condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from core.plan.next_action import Action, RowState, RowStatus, Skip, Spent, Start, Wait, next_action
from core.plan.schema import Plan
from core.plan.schema import Row as PlanRow
from core.queue.execution import PlanExecution
from core.queue.gpu.available import NO_SLOT
from core.queue.rows import QueueRows
from core.runs.status import Status

NOTHING = "nothing"
_TO_COME = (RowStatus.QUEUED, RowStatus.HELD)
_NAMED = 3
"""Rows that are named; the others are counted."""


def upcoming(queue: QueueRows | None, execution: PlanExecution | None) -> str:
    """`2.2 attention and MLP, when 2.1 has ended, unless that is accepted`, or `nothing: …`.

    Of the open submissions in their order; where none is open, of the plan at hand, `execution`, were it queued now.
    Empty where there is neither.
    """
    said = [] if queue is None else [_of_submission(one.id, queue, execution) for one in queue.submissions]
    if said:
        return next((one for one in said if one and not one.startswith(NOTHING)), next(filter(None, said), NOTHING))
    if execution is None:
        return ""
    known, spent, only = execution.known(()), execution.spent(()), execution.submission.only
    return _Choice(execution.plan, execution.rows, known, spent, only).sentence("when the plan is queued")


def _of_submission(name: str, queue: QueueRows, execution: PlanExecution | None) -> str:
    entries = queue.entries(name)
    found = queue.plan(entries[0][0].submission) if entries else None
    if found is None:
        return ""
    submission, first = entries[0][0].submission, entries[0][0]
    if first.state.over:
        return f"{NOTHING} more: {first.state.over}"
    known, spent = dict[str, RowState](), Spent()
    if execution is not None and execution.submission.plan_path == submission.plan_path:
        known, spent = execution.known(()), execution.spent(())  # what conditions ask of runs that have ended
    for entry, row in entries:
        known[entry.row.key] = replace(known.get(entry.row.key, RowState()), status=_row_status(row.status))
    waiting = [row for _, row in entries if row.status is Status.WAITING]
    reasons = {row.key: row.reason for row in waiting if NO_SLOT not in row.reason}
    choice = _Choice(*found, known, spent, submission.only, first.requested.ranks, reasons)
    if queue.paused:
        return choice.sentence("when the queue goes on: it is paused")
    return choice.sentence("" if queue.supervised else "when a supervisor is at work")


@dataclass(frozen=True, slots=True)
class _Choice:
    """What `next_action` is asked with."""

    plan: Plan
    rows: Sequence[PlanRow]
    known: Mapping[str, RowState]
    spent: Spent
    only: tuple[str, ...]
    ranks: Mapping[str, float] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Row → why it is not started now, of those that could be."""

    @property
    def running(self) -> list[str]:
        """The rows at work."""
        return [key for key, state in self.known.items() if state.status is RowStatus.RUNNING]

    def action(self, known: Mapping[str, RowState]) -> Action:
        """The next one."""
        return next_action(self.rows, known, self.plan.queue, self.spent, self.only or None, self.ranks)

    def sentence(self, obstacle: str) -> str:
        """`obstacle`: what keeps everything from being started; empty: nothing does."""
        action, running = self.action(self.known), self.running
        if isinstance(action, Wait) and not action.over and not action.dependent and not action.held and running:
            action = self._after_all(action)
        match action:
            case Start() | Skip():
                # A condition of which nobody here knows what it comes to has not been asked yet.
                condition = action.row.when if isinstance(action, Skip) else None
                room = f"when {_names(running, 'or')} has ended" if running else ""
                return self._named(action.row, obstacle or self.reasons.get(action.row.key) or room, condition)
            case Wait(over=False, dependent=dependent) if dependent:
                key, others = next(iter(dependent.items()))
                row = next(one for one in self.rows if one.key == key)
                ended = f"when {_names(others, 'and')} {'has' if len(others) == 1 else 'have'} ended"
                return self._named(row, f"{ended}, {obstacle}" if obstacle else ended, row.when)
            case Wait(over=False, held=held) if held:
                return f"{NOTHING}: {_names(held, 'and')} {'is' if len(held) == 1 else 'are'} held until released"
            case Wait():
                if running and not any(state.status in _TO_COME for state in self.known.values()):
                    verb = "is" if len(running) == 1 else "are"
                    return f"{NOTHING}: {_names(running, 'and')} {verb} the last of the queue"
                return f"{NOTHING} more: {action.text}" if action.text else NOTHING
        return f"{NOTHING}: {action.reason}"

    def _after_all(self, now: Wait) -> Action:
        """What comes when the runs at work have ended and none was accepted: a draw of the search, perhaps."""
        ended = RowState(RowStatus.FAILED)
        after = self.action({**self.known, **dict.fromkeys(self.running, ended)})
        return after if isinstance(after, Start) else now

    def _named(self, row: PlanRow, *when: str | None) -> str:
        """The row, and all that stands before its start."""
        *times, condition = when
        # Rows of a sweep have the title in common.
        parts = [f"{row.key} {row.label if '#' in row.key and row.label else row.title}".strip(), *times]
        if self.running and self.plan.queue.until == "accepted" and row.confirms is None:
            repeats = ", whose repeats with other seeds come first" if self.plan.gate.confirm_seeds else ""
            parts.append(f"unless {_names(self.running, 'or')} is accepted{repeats}")
        return ", ".join(filter(None, (*parts, f"if {condition}" if condition else "")))


def _names(keys: Sequence[str], word: str) -> str:
    """`2.1, 2.2 and 3 more`."""
    if len(keys) > _NAMED:
        return f"{', '.join(keys[: _NAMED - 1])} {word} {len(keys) - _NAMED + 1} more"
    return ", ".join(keys[:-1]) + (f" {word} " if len(keys) > 1 else "") + keys[-1] if keys else ""


def _row_status(status: Status) -> RowStatus:
    """As the order of starting sees it."""
    if status.active:
        return RowStatus.RUNNING
    if status.in_turn:
        return RowStatus.QUEUED
    known = {Status.HELD: RowStatus.HELD, Status.DONE: RowStatus.DONE}
    return known.get(status, RowStatus.SKIPPED if status in (Status.SKIPPED, Status.REMOVED) else RowStatus.FAILED)
