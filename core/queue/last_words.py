"""What the queue said last of rows that have no run, once the submission that had them is closed."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from core.errors import PlanError
from core.plan.expand import matches
from core.plan.read import parse_plan
from core.plan.rows import all_rows
from core.plan.schema import Row
from core.queue.decisions import Decision, decisions_of
from core.queue.wishes import QueueDb, Submission
from core.runs.paths import RunsFolder

KINDS = ("submitted", "run", "start", "adopt", "skip", "wish", "finish")
"""The decisions that matter."""
Word = tuple[str, str]
"""(skipped, failed or not run; why)."""


@dataclass(slots=True)
class _Submitted:
    plan: str
    words: dict[str, Word] = field(default_factory=dict)
    rows: Mapping[str, Row] | None = None
    """Those that it asked for, as they were then; None: not looked up yet."""


class LastWords:
    """Takes the decisions in their order. An edited row inherits nothing: it is other work."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._submitted: dict[str, _Submitted] = {}
        """The newest last."""

    def take(self, decision: Decision) -> None:
        """One decision more."""
        name, row = str(decision.get("submission")), str(decision.get("row"))
        if decision.kind == "submitted":
            self._submitted.setdefault(name, _Submitted(str(decision.get("plan"))))
        if name not in self._submitted:
            return
        words = self._submitted[name].words
        match decision.kind:
            case "skip":
                word = "failed" if decision.get("status") == "failed" else "skipped"
                words[row] = (word, str(decision.get("reason") or ""))
            case "run" | "start" | "adopt":
                words.pop(row, None)
            case "wish" if decision.get("wish") in ("retry", "release", "add"):
                words.pop(row, None)
            case "finish":
                for key, why in (decision.get("not_run") or {}).items():
                    words.setdefault(str(key), ("not run", str(why)))

    def of(self, plan: str | None, row: Row) -> Word | None:
        """Of a row of the plan at this path, by the newest submission that asked for the row as it is now."""
        mine = [(name, found) for name, found in self._submitted.items() if found.plan == plan]
        if not any(row.key in found.words for _, found in mine):
            return None
        for name, found in reversed(mine):
            earlier = self._rows(name, found).get(row.key)
            if earlier is not None and _work(earlier) == _work(row):
                return found.words.get(row.key)
        return None

    def _rows(self, name: str, found: _Submitted) -> Mapping[str, Row]:
        if found.rows is None:
            try:
                submission = QueueDb(self._runs.queue_db).submission(name) if self._runs.queue_db.exists() else None
            except (sqlite3.Error, OSError):
                return {}  # locked for long, or on a disk that takes no lock: the next look may find it
            found.rows = {} if submission is None else _asked_for(submission)
        return found.rows


def last_words(runs: RunsFolder) -> LastWords:
    """By the decisions as they are now."""
    words = LastWords(runs)
    for decision in decisions_of(runs.decisions, KINDS):
        words.take(decision)
    return words


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
