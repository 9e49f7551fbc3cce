"""What the dashboard may do: ask the queue, and write the run matrix. Called in a worker thread; never trains."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import ExitCode, PlanError, UserError
from core.manifests.hashing import HashCache
from core.plan.new_experiment import with_experiment
from core.plan.read import parse_plan
from core.plan.rows import all_rows
from core.queue.client import QueueClient
from core.queue.execution import PlanExecution
from core.queue.journal import records
from core.queue.report import report
from core.queue.state import QueueState
from core.queue.wishes import Submission
from core.runs.paths import RunsFolder
from core.runs.plan_file import read_plan_text
from core.system.files import write_text
from lora_tui import output
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.wishes import Wishes
from lora_tui.reports.report import assemble


class Actions:
    """Each returns one sentence on what it did; UserError says why it could not."""

    def __init__(self, options: Options, runs: RunsFolder) -> None:
        self._options, self._runs = options, runs
        self.wishes = Wishes(runs, self._client())

    def start(self) -> str:
        """Queue the plan as its file is now, and see to a supervisor."""
        submission = self._submission()
        rows = all_rows(parse_plan(submission.plan_text, submission.plan_path, submission.overrides))
        gone = QueueState(records(self._runs.decisions)).removed_rows(submission.plan_path)
        client = self._client()
        worked = client.supervisor_works()
        queued = client.submit(submission)
        if queued.id != submission.id:
            return "the plan is in the queue already" if worked else "the queue goes on; the plan was in it already"
        again = ", ".join(row.key for row in rows if row.key in gone)
        with_them = f" with {again}, removed before (D removes again)" if again else ""
        return f"the plan is queued{with_them}; runs go on when the dashboard is closed"

    def export(self) -> str:
        """Write the run matrix beside the runs."""
        submission = self._submission()
        execution = PlanExecution(submission, self._runs, HashCache(self._runs.hash_cache))
        execution.place_all()
        reports = report(execution, {})
        output.export(self._runs.matrix, assemble(execution, reports, ExitCode.ACCEPTED))
        return f"written: {self._runs.matrix}"

    def plan_text(self) -> str:
        """The plan as its file is now. UserError: there is none."""
        return self._submission().plan_text

    def add_experiment(self, before: str, entry: Mapping[str, Any]) -> str:
        """Append an experiment to the plan, whose text was `before` when the form was opened.

        PlanError: it would not be a good plan, or somebody else changed the file meanwhile. The file is replaced whole.
        """
        submission = self._submission()
        path = Path(submission.plan_path).resolve()
        if submission.plan_text != before:
            raise PlanError(f"{path}: was changed meanwhile, and stays as it is: open the form again")
        text = with_experiment(before, entry)
        parse_plan(text, submission.plan_path, submission.overrides)
        mode = stat.S_IMODE(path.stat().st_mode)
        write_text(path, text)
        path.chmod(mode)
        return f"{entry['id']} is in {path.name}; it is queued when you start the plan"

    def _submission(self) -> Submission:
        if self._options.plan is None:
            raise UserError("there is no plan here: write one with `lora-tui init`, or name one on the command line")
        path: Path = self._options.plan
        return Submission.create(path, read_plan_text(path), self._options.overrides, self._options.only)

    def _client(self) -> QueueClient:
        return QueueClient(self._runs, self._options.supervisor)
