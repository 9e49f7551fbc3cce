"""Wishes for rows of the queue, as the keys of the dashboard give them. Called in a worker thread; never trains."""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import UserError
from core.queue.again import row_again, submit_again
from core.queue.client import QueueClient
from core.queue.naming import with_sharers
from core.queue.rows import queue_rows, retriable, target_of
from core.queue.wishes import QueueDb, Target
from core.runs.paths import RunsFolder
from core.runs.row import Row, Status
from lora_tui.queue_actions import HELD, KILLED, STOPPED


class Wishes:
    """Each returns one sentence on what it did. UserError: the queue changed meanwhile, so that it makes no sense."""

    def __init__(self, runs: RunsFolder, client: QueueClient) -> None:
        self._runs, self._client = runs, client
        self._db = QueueDb(runs.queue_db)

    def hold(self, row: Row) -> str:
        """It is not started until it is released."""
        entry = self._entry(row)
        if entry.active or entry.status == "done":
            raise UserError(f"{row.key} is {entry.status.text}: what trains can be stopped, not held")
        targets = with_sharers(self._entries(), [entry])
        self._db.hold(targets, HELD)
        return f"{_held(targets)} held: not started until released"

    def release(self, row: Row) -> str:
        """It may start again."""
        entry = self._entry(row)
        if entry.queued.ending:
            raise UserError(f"{row.key} ends as asked: start the plan again to go on with it")
        self._db.release(with_sharers(self._entries(), [entry]))
        self._client.ensure_supervisor()
        return f"{row.key} is released"

    def move(self, row: Row, by: int) -> str:
        """`by` places later in its plan's order of starting. What has started is not waited for, nor passed."""
        entry = self._entry(row)
        waiting = [e for e in self._entries() if e.queued.submission == entry.queued.submission]
        keys = [e.key for e in waiting]
        open_places = [i for i, e in enumerate(waiting) if not e.active and e.status != "done"]
        if keys.index(row.key) not in open_places:
            raise UserError(f"{row.key} is {entry.status.text}: only what waits can be moved")
        place = open_places.index(keys.index(row.key)) + by
        if not 0 <= place < len(open_places):
            raise UserError(f"{row.key} is {'first' if by < 0 else 'last'} already")
        keys.remove(row.key)
        keys.insert(open_places[place], row.key)
        self._db.reorder(entry.queued.submission, keys)
        return f"{row.key} is started {'earlier' if by < 0 else 'later'}, as far as its conditions allow"

    def end(self, row: Row, kind: str) -> str:
        """`stop`: the step is finished and saved. `kill`: at once. Held then; releasing it goes on from there."""
        entry = self._entry(row)
        if not entry.active:
            raise UserError(f"{row.key} does not train: it is {entry.status.text}")
        targets = with_sharers(self._entries(), [entry])
        self._db.ask(kind, targets, held=STOPPED if kind == "stop" else KILLED)
        self._client.ensure_supervisor()
        done = "finishes its step and saves" if kind == "stop" else "is ended now; what was saved last can be resumed"
        return f"the trainer of {row.key} {done}; {_held(targets)} held until released"

    def retry(self, row: Row) -> str:
        """Once more, whatever became of it."""
        found = [e for e in self._entries() if target_of(e) == Target(row.queued.submission, row.key)]
        if not found:
            submit_again(self._runs, self._db, row.key if row.run is None else row.run.name)
        elif found[0].queued.ending:
            row_again(self._db, target_of(found[0]))
        elif not retriable(found[0]):
            raise UserError(f"{row.key} is {found[0].status.text}: there is nothing to try again")
        else:
            sharers = with_sharers([e for e in self._entries() if e.status != Status.REMOVED], found)
            if target_of(found[0]) in self._db.ask("retry", sharers):  # its submission was closed in this moment
                row_again(self._db, target_of(found[0]))
        self._client.ensure_supervisor()
        return f"{row.key} is {'back in the queue' if row.status == 'removed' else 'tried again'}"

    def remove(self, row: Row) -> str:
        """Out of the queue; its files stay."""
        entry = self._entry(row)
        if entry.active or entry.status in ("done", Status.REMOVED):
            raise UserError(f"{row.key} is {entry.status.text}: only what waits can be removed")
        self._db.remove([target_of(entry)])
        return f"{row.key} is removed from the queue; nothing was deleted"

    def go_on(self) -> str:
        """Let a queue that paused by itself go on."""
        self._db.release([Target(s.id) for s in self._db.open_submissions()])
        self._client.ensure_supervisor()
        return "the queue goes on"

    def end_all(self, kind: str) -> str:
        """`stop` or `kill` everything that is queued; its submissions are closed then."""
        found = self._db.open_submissions() if self._runs.queue_db.exists() else []
        if not found:
            raise UserError("the queue holds nothing that could be stopped")
        self._db.ask(kind, [Target(submission.id) for submission in found])
        self._client.ensure_supervisor()
        if kind == "kill":
            return "the trainers are ended now; what was saved last can be resumed"
        return "the trainers finish their step, save, and the queue stops"

    def _entries(self) -> tuple[Row, ...]:
        return queue_rows(self._runs).rows

    def _entry(self, row: Row) -> Row:
        target = Target(row.queued.submission, row.key)
        found = next((entry for entry in self._entries() if target_of(entry) == target), None)
        if found is None:
            raise UserError(f"{row.key} is not in the queue any more")
        return found


def _held(targets: Sequence[Target]) -> str:
    rows = list(dict.fromkeys(str(target.row) for target in targets))
    return f"{', '.join(rows)} {'are' if len(rows) > 1 else 'is'}"
