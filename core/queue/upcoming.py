"""What is started next, in one sentence for every face. It is chosen by the function by which the supervisor chooses.

A condition on runs that have not ended is open: then the row that is asked first is named with its condition, and the
one that has its turn where that does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from core.plan.conditions import parse_condition
from core.plan.next_action import Action, RowState, RowStatus, Skip, Spent, Start, Wait, dependencies, next_action
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
_ENDED = RowState(RowStatus.DONE, {"accepted": False})
"""A run that has ended without being accepted, of which nothing else is known."""
_CONDITION = 24
"""Characters of a condition that is told; of a longer one it is said that there is one."""


def upcoming(queue: QueueRows | None, execution: PlanExecution | None) -> str:
    """`2.2 attention and MLP, after 2.1, if it is not accepted and its condition holds, else 3.1`, or `nothing: …`.

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
        action, running, room = self.action(self.known), self.running, ""
        known = dict(self.known)
        if running and not (isinstance(action, Start) and self.reasons.get(action.row.key)):
            room = f"after {_names(running, 'or')}"
            known, action = self._when_one_has_ended(action)
        match action:
            case Start() | Skip():
                condition = self._open_condition(action)
                whys = (room, obstacle or ("" if room else self.reasons.get(action.row.key, "")))
                other = self._otherwise(known, action) if condition else self._rather(action) if room else ""
                return self._named(action.row, whys, condition, other)
            case Wait(over=False, dependent=dependent) if dependent:
                key, others = next(iter(dependent.items()))
                row = next(one for one in self.rows if one.key == key)
                return self._named(row, (f"after {_names(others, 'and')}", obstacle), row.when)
            case Wait(over=False, held=held) if held:
                return f"{NOTHING}: {_names(held, 'and')} {'is' if len(held) == 1 else 'are'} held until released"
            case Wait():
                if running and not any(state.status in _TO_COME for state in self.known.values()):
                    verb = "is" if len(running) == 1 else "are"
                    return f"{NOTHING}: {_names(running, 'and')} {verb} the last of the queue"
                return f"{NOTHING} more: {action.text}" if action.text else NOTHING
        return f"{NOTHING}: {action.reason}"

    def _when_one_has_ended(self, now: Action) -> tuple[dict[str, RowState], Action]:
        """What is known, and comes, when the run at work has ended and was not accepted: a draw of the search, perhaps.

        Of several runs at work nobody knows which ends first: then rows that depend on none of them come before others.
        """
        known, running = dict(self.known), self.running
        if isinstance(now, Wait) and now.over:
            return known, now
        if len(running) > 1 and not (isinstance(now, Wait) and not now.dependent and not now.held):
            return known, now
        known |= dict.fromkeys(running, _ENDED)
        after = self.action(known)
        return (known, after) if isinstance(after, Start | Skip) else (dict(self.known), now)

    def _rather(self, action: Start | Skip) -> str:
        """Of several runs at work, one whose end gives the turn to another row, and that row; or nothing."""
        for key in self.running if len(self.running) > 1 else ():
            after = self.action({**self.known, key: _ENDED})
            if isinstance(after, Start | Skip) and after.row.key != action.row.key:
                return f"but {after.row.key} where {key} ends first"
        return ""

    def _open_condition(self, action: Start | Skip) -> str | None:
        """The condition of which nobody knows yet whether it holds; that nothing was accepted is said anyway."""
        row = action.row
        if row.when is None or (self.running and self._until_accepted and row.when == "not accepted"):
            return None
        asked = dependencies(row, parse_condition(row.when, row.after))
        at_work = {one.experiment for one in self.rows if one.key in self.running}
        return row.when if isinstance(action, Skip) or at_work & set(asked) else None

    def _otherwise(self, known: Mapping[str, RowState], action: Start | Skip) -> str:
        """What has its turn where the condition of the named one does not hold, or nothing."""
        skipped = {**known, action.row.key: RowState(RowStatus.SKIPPED)}
        after = self.action(skipped)
        return f"else {after.row.key}" if isinstance(after, Start | Skip) else ""

    @property
    def _until_accepted(self) -> bool:
        return self.plan.queue.until == "accepted"

    def _named(self, row: PlanRow, times: Sequence[str], condition: str | None, other: str = "") -> str:
        """The row, and all that stands before its start."""
        # Rows of a sweep have the title in common.
        name = f"{row.key} {row.label if '#' in row.key and row.label else row.title}".strip()
        conditions, running = [], self.running
        if running and self._until_accepted and row.confirms is None:
            repeats = " (else its repeats with other seeds come first)" if self.plan.gate.confirm_seeds else ""
            one = "it" if f"after {running[0]}" in times else running[0]
            conditions.append(f"{one} is not accepted{repeats}" if len(running) == 1 else f"none is accepted{repeats}")
        if condition is not None:
            conditions.append(condition if len(condition) <= _CONDITION else "its condition holds")
        told = f"if {' and '.join(conditions)}" if conditions else ""
        return ", ".join(filter(None, (name, *times, told, other)))


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
