"""What the dashboard may do: ask the queue, and write the run matrix. Called in a worker thread; never trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.errors import ExitCode, UserError
from core.plan.read import parse_plan
from core.queue.client import QueueClient
from core.queue.execution import PlanExecution
from core.queue.report import place_recorded, report
from core.queue.wishes import QueueDb, Submission
from core.runs.paths import RunsFolder
from core.runs.plan_file import read_plan_text
from core.speech.hashing import HashCache
from lora_tui import output
from lora_tui.dashboard.options import Options
from lora_tui.reports.report import assemble


class Actions:
    """Each returns one sentence on what it did; UserError says why it could not."""

    def __init__(self, options: Options, runs: RunsFolder) -> None:
        self._options, self._runs = options, runs

    def start(self) -> str:
        """Queue the plan as its file is now, and see to a supervisor."""
        submission = self._submission()
        parse_plan(submission.plan_text, submission.plan_path, submission.overrides)
        queued = self._client().submit(submission)
        if queued.id != submission.id:
            return "the plan is in the queue already"
        return "the plan is queued; runs go on when the dashboard is closed"

    def end(self, kind: str, submissions: Sequence[str]) -> str:
        """`stop`: the step is finished and saved. `kill`: at once. For everything that is queued."""
        found = [s.id for s in QueueDb(self._runs.queue_db).open_submissions()] if self._runs.queue_db.exists() else []
        wanted = [identifier for identifier in found if not submissions or identifier in submissions]
        if not wanted:
            raise UserError("the queue holds nothing that could be stopped")
        client = self._client()
        for identifier in wanted:
            client.ask(kind, identifier)
        if kind == "kill":
            return "the trainer is ended now; what was saved last can be resumed"
        return "the trainer finishes its step, saves, and the queue stops"

    def export(self) -> str:
        """Write the run matrix beside the runs."""
        submission = self._submission()
        execution = PlanExecution(submission, self._runs, HashCache(self._runs.hash_cache))
        execution.place_all()
        place_recorded(execution, self._runs)
        reports = report(execution, {})
        output.export(self._runs.matrix, assemble(execution, reports, ExitCode.ACCEPTED))
        return f"written: {self._runs.matrix}"

    def _submission(self) -> Submission:
        if self._options.plan is None:
            raise UserError("there is no plan here: write one with `lora-tui init`, or name one on the command line")
        path: Path = self._options.plan
        return Submission.create(path, read_plan_text(path), self._options.overrides, self._options.only)

    def _client(self) -> QueueClient:
        return QueueClient(self._runs, self._options.supervisor)
