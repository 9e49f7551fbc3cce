"""What the queue said last of rows that have no run, once the submission that had them is closed."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import lru_cache

from core.errors import PlanError
from core.plan.expand import matches
from core.plan.read import parse_plan
from core.plan.rows import all_rows
from core.plan.schema import Row
from core.queue.state import QueueState
from core.queue.wishes import QueueDb, Submission
from core.runs.paths import RunsFolder

LastReason = tuple[str, str]
"""(skipped, failed or not run; why)."""


class LastReasons:
    """By the state of the queue. An edited row inherits nothing: it is other work."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._rows: dict[str, Mapping[str, Row]] = {}
        """Submission → the rows that it asked for, as they were then, as far as they were looked up."""

    def of(self, state: QueueState, plan: str | None, row: Row) -> LastReason | None:
        """Of a row of the plan at this path, by the newest submission that asked for the row as it is now."""
        mine = state.of_plan(plan) if plan is not None else []
        if not any(said.last_reason(row.key) for _, said in mine):
            return None
        for name, said in mine:
            earlier = self._asked_for(name).get(row.key)
            if earlier is not None and _work(earlier) == _work(row):
                return said.last_reason(row.key)
        return None

    def _asked_for(self, name: str) -> Mapping[str, Row]:
        if name not in self._rows:
            try:
                submission = QueueDb(self._runs.queue_db).submission(name) if self._runs.queue_db.exists() else None
            except (sqlite3.Error, OSError):
                return {}  # locked for long, or on a disk that takes no lock: the next look may find it
            self._rows[name] = {} if submission is None else _asked_for(submission)
        return self._rows[name]


def _work(row: Row) -> tuple[object, ...]:
    return (row.settings, row.after, row.when, row.adapter_from)


def _asked_for(submission: Submission) -> Mapping[str, Row]:
    rows = _rows_of(submission.plan_text, submission.plan_path, submission.overrides)
    return {row.key: row for row in rows if not submission.only or matches(row, submission.only)}


@lru_cache(maxsize=16)
def _rows_of(text: str, path: str, overrides: tuple[str, ...]) -> tuple[Row, ...]:
    """A plan is often submitted again as it was."""
    try:
        return all_rows(parse_plan(text, path, overrides))
    except PlanError:
        return ()  # the supervisor has closed it for that
