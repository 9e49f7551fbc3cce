"""Queueing one row once more whose submission the queue has closed."""

from __future__ import annotations

from pathlib import Path

from core.errors import RunFolderError, UserError
from core.queue.journal import records
from core.queue.state import QueueState
from core.queue.wishes import QueueDb, Submission, Target
from core.runs.documents import read_result
from core.runs.paths import RunPaths, RunsFolder


def submit_again(runs: RunsFolder, db: QueueDb, name: str) -> Target:
    """Queue the newest submission that had a row or run of this name once more, for that row only.

    RunFolderError: no submission had one. UserError: its run is done.
    """
    for submission, row, run in QueueState(records(runs.decisions)).rows_called(name):
        if run is not None and read_result(RunPaths(runs.root / run))[0] is not None:
            raise UserError(f"{name}: nothing to try again: it is done ({run})")
        found = row_again(db, Target(submission, row))
        if found is not None:
            return found
    raise RunFolderError(f"{name}: no plan that the queue had holds it; submit its plan (`lora-tui queue add PLAN`)")


def row_again(db: QueueDb, target: Target) -> Target | None:
    """Queue the plan of a submission once more, for one of its rows. None: the file does not know the submission."""
    earlier, row = db.submission(target.submission), str(target.row)
    if earlier is None:
        return None
    again = Submission.create(Path(earlier.plan_path), earlier.plan_text, earlier.overrides, [row])
    return Target(db.submit(again, retry=[row]).id, row)
