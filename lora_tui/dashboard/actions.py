"""What the dashboard may do: ask the queue, and write the run matrix. Called in a worker thread; never trains."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import ExitCode, PlanError, UserError
from core.manifests.hashing import HashCache
from core.plan.read import parse_plan
from core.plan.template import with_experiment
from core.queue.commands import CommandResult, Commands, Effect, Selection
from core.queue.execution import PlanExecution
from core.queue.report import report
from core.queue.requests import Submission
from core.queue.rows import target_of
from core.runs.paths import RunsFolder
from core.runs.row import Row
from core.runs.status import Status
from core.system.files import write_text
from core.system.locks import is_held
from lora_tui import output
from lora_tui.dashboard.options import Options
from lora_tui.reports.report import assemble
from lora_tui.request import read_plan_text


class Actions:
    """Each returns one sentence on what it did; UserError says why it could not."""

    def __init__(self, options: Options, runs: RunsFolder) -> None:
        self._options, self._runs = options, runs
        self._commands = Commands(runs, options.supervisor)

    def start(self) -> str:
        """Queue the plan as its file is now, and see to a supervisor."""
        worked = is_held(self._runs.supervisor_lock)
        done = self._commands.submit(self._submission())
        again = f"{', '.join(done.removed_before)}, removed before (D removes again)" if done.removed_before else ""
        if Effect.QUEUED_ALREADY in done.effects.values():
            told = "the plan is in the queue already" if worked else "the queue goes on; the plan was in it already"
            return f"{told}; queued again: {again}" if again else told
        return f"the plan is queued{f' with {again}' if again else ''}; runs go on when the dashboard is closed"

    def hold(self, row: Row) -> str:
        """It is not started until it is released."""
        return f"{_held(self._commands.hold(_selection(row)))} held: not started until released"

    def release(self, row: Row) -> str:
        """Let the row start again."""
        done = self._commands.release(_selection(row))
        if done.effects.get(target_of(row)) is Effect.NOT_HELD:
            return f"{row.key} was not held: it is {done.rows[target_of(row)].status.text}"
        return f"{row.key} is released"

    def move(self, row: Row, by: int) -> str:
        """`by` places later in its plan's order of starting."""
        self._commands.move_by(_selection(row), by)
        return f"{row.key} is started {'earlier' if by < 0 else 'later'}, as far as its conditions allow"

    def stop(self, row: Row) -> str:
        """The step is finished and saved. Held then; releasing it goes on from there."""
        return _ended(row, self._commands.stop(_selection(row)))

    def kill(self, row: Row) -> str:
        """The same at once."""
        return _ended(row, self._commands.kill(_selection(row)))

    def retry(self, row: Row) -> str:
        """Try the row once more, whatever became of it."""
        self._commands.retry(_selection(row))
        return f"{row.key} is {'back in the queue' if row.status is Status.REMOVED else 'tried again'}"

    def remove(self, row: Row) -> str:
        """Out of the queue; its files stay."""
        done = self._commands.remove(_selection(row))
        if done is not None and Effect.REMOVED_ALREADY in done.effects.values():
            return f"{row.key} was removed already"
        return f"{row.key} is removed from the queue; nothing was deleted"

    def go_on(self) -> str:
        """Let a queue that paused by itself go on."""
        self._commands.go_on()
        return "the queue goes on"

    def stop_all(self) -> str:
        """End everything that is queued; its submissions are closed then."""
        self._commands.stop(Selection(everything=True))
        return "the trainers finish their step, save, and the queue stops"

    def kill_all(self) -> str:
        """The same at once."""
        self._commands.kill(Selection(everything=True))
        return "the trainers are ended now; what was saved last can be resumed"

    def export(self) -> str:
        """Write the run matrix beside the runs."""
        submission = self._submission()
        execution = PlanExecution(submission, self._runs, HashCache(self._runs.hash_cache))
        execution.assign_all()
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


def _selection(row: Row) -> Selection:
    """The row; where no open submission has it, what its run or row is called."""
    return Selection([row.key if row.run is None else row.run.name], target_of(row))


def _held(done: CommandResult | None) -> str:
    """Which rows are held then: those that share the run are, too."""
    rows = list(dict.fromkeys(str(target.row) for target in (done.effects if done is not None else ())))
    return f"{', '.join(rows)} {'are' if len(rows) > 1 else 'is'}"


def _ended(row: Row, done: CommandResult | None) -> str:
    effect = None if done is None else done.effects.get(target_of(row))
    if effect is Effect.ENDED:
        return f"{row.key} had ended already"
    what = {
        Effect.STOPPING: f"the trainer of {row.key} finishes its step and saves",
        Effect.KILLING: f"the trainer of {row.key} is ended now; what was saved last can be resumed",
    }.get(effect or Effect.NOT_TRAINING, f"{row.key} does not train")
    return f"{what}; {_held(done)} held until released"
