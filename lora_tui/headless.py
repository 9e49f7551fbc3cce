"""`lora-tui --headless`: runs what is left of a plan, says how it goes, and ends with the verdict's exit code.

It never trains: it submits the plan to the supervisor, follows the run folders, and judges what is in them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from core import console
from core.errors import ExitCode, PlanError
from core.manifests.hashing import HashCache, UnsavedHashes
from core.plan.next_action import RowStatus
from core.plan.rows import matches, unknown_ids
from core.queue.client import QueueClient, supervisor_note
from core.queue.execution import PlanExecution
from core.queue.journal import Finish
from core.queue.report import report
from core.queue.requests import Submission
from core.queue.search import lacking
from core.queue.slurm.checks import check_cluster
from core.runs.data_health import audit_outdated
from core.runs.paths import RunPaths, RunsFolder
from core.runs.row import Outcome, Row
from core.runs.state_folder import STATE_VARIABLE
from core.scoring.verdict import loosened_words
from core.system.files import exists, is_file
from core.system.process import PARENT_VARIABLE, end
from lora_tui import output
from lora_tui.diagnostics import exit_code, say
from lora_tui.follow import Follower, Session, Signals
from lora_tui.reports import json_document, markdown
from lora_tui.reports.github_actions import path_in_repository, workflow_commands
from lora_tui.reports.report import Report, assemble
from lora_tui.request import Request, read_plan_text

HASHING_LINE_S = 5.0


def run(request: Request, runs: RunsFolder) -> ExitCode:
    """The whole command. UserError: what the user can mend. Interrupted: SIGINT or SIGTERM."""
    output.check_exports(request.exports)
    submission = Submission.create(request.plan, read_plan_text(request.plan), request.overrides, request.only)
    if note := supervisor_note(runs):
        say(f"warning: {note}")
    with Signals() as signals:
        execution = check(request, submission, runs)
        if not request.train:
            name_missing(execution)
            return _conclude(request, runs, execution, None, Follower(runs, execution))
        if request.detach:
            name_missing(execution)
        else:
            make_missing(execution)
        signals.patient = True
        client = QueueClient(runs, request.supervisor)
        queued = client.submit(submission)
        attached = queued.id != submission.id
        if attached:
            say("this plan is in the queue already: following it")
            execution.submission = queued
        for other in client.ahead_of(queued):
            say(f"the queue works on {other.plan_path} first, which was submitted before")
        if request.detach:
            say(f"queued; the supervisor goes on without this command and logs to {runs.supervisor_log}")
            return ExitCode.ACCEPTED
        follower = Follower(runs, execution, attached=attached)
        ending = Session(client, follower, queued, signals).attend()
        signals.patient = False
    return _conclude(request, runs, execution, ending, follower)


def check(request: Request, submission: Submission, runs: RunsFolder) -> PlanExecution:
    """The plan, expanded and resolved. UserError with all that is wrong with it or with its data."""
    # A runs folder that is mistyped is not made by a gate that only looks.
    hashes = (HashCache if request.train or runs.state.is_dir() else UnsavedHashes)(runs.hash_cache)
    execution = PlanExecution(submission, runs, hashes, _HashingProgress(), trains=request.train)
    for warning in execution.plan.warnings:
        say(f"warning: {warning}")
    ids = ", ".join(dict.fromkeys(row.experiment for row in execution.rows))
    wrong = [f"--only {name}" for name in unknown_ids(execution.rows, request.only)]
    if request.accept not in ("any", "all"):
        wrong += [f"--accept {name}" for name in unknown_ids(execution.rows, [request.accept])]
    if wrong:
        raise PlanError("\n".join(f"{option}: no such experiment; the plan has {ids}" for option in wrong))
    wanted = [row for row in execution.rows if not request.only or matches(row, request.only)]
    problems = execution.assign_all()
    lines = [line for row in wanted if row.key in problems for line in str(problems[row.key]).splitlines()]
    if request.train:
        lines += [*execution.unfit(wanted), *lacking(execution.plan)]
        cluster = check_cluster(execution.plan, runs)
        lines += filter(None, (cluster.missing, *cluster.problems))
        for warning in cluster.warnings:
            say(f"warning: {warning}")
    if lines and request.train:
        raise PlanError("\n".join(dict.fromkeys(lines)))
    return execution


class _HashingProgress:
    """Says now and then how many audio files were read; the first time that takes a while."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, manifest: str, done: int, total: int) -> None:
        if time.monotonic() - self._said >= HASHING_LINE_S:
            self._said = time.monotonic()
            say(f"reading the audio of data.{manifest}: {done}/{total}")


def _conclude(
    request: Request, runs: RunsFolder, execution: PlanExecution, ending: Finish | None, said: Follower
) -> ExitCode:
    """Say the verdicts that were not said yet, write the matrix, and decide on the exit code."""
    reports = report(execution, ending.not_run if ending is not None else {}, request.require_data)
    first: dict[str, str] = {}
    for row in reports:
        if row.judged is not None and row.run is not None:
            if row.run.name in first:
                say(f"{row.key}  is the same run as {first[row.run.name]}: {row.outcome}")
            first.setdefault(row.run.name, row.key)
            said.say_verdict(row.key, row.judged, row)
        elif row.key not in execution.closed:
            say(f"{row.key}  not run{f': {row.note}' if row.note else ''}")
    complete = ending is None or ending.complete
    if ending is not None:
        say(ending.reason if complete else f"the queue stopped: {ending.reason}")
    code = exit_code(
        # Repeats with other seeds count in the row that they repeat.
        [(row.key, row.experiment, row.outcome) for row in reports if row.confirms is None],
        gate=request.gate,
        accept=request.accept,
        no_train=not request.train,
        failed=any(row.failed for row in reports),
        complete=complete,
    )
    github = request.gate and console.in_github_actions()
    # What only a short table shows needs no charts and clips: the gate answers at once.
    found = assemble(execution, reports, code, details=bool(request.exports or request.json or request.train or github))
    _write(request, runs, found)
    if request.gate:
        if github:
            _tell_github(request, execution, found)
        looser = f", {loosened_words(found.loosened)}" if found.loosened else ""
        nothing = code is ExitCode.NOTHING_TO_JUDGE
        why = next((f": {row.key}: {row.near}" for row in reports if nothing and row.near), "")
        most = max((row.tried for row in reports if row.tried), key=lambda one: one.runs, default=None)
        luck = f", {most.short}" if most is not None and most.sentence else ""
        ended = f"gate: {code.name.lower().replace('_', ' ')} (exit {int(code)}){_left_out(request, reports)}"
        say(f"{ended}{looser}{luck}{why}")
    return code


def _left_out(request: Request, rows: Sequence[Row]) -> str:
    """The rows without a run, where all are to be accepted and only the runs that are there are judged."""
    left = [row.key for row in rows if row.outcome is Outcome.PENDING and row.confirms is None]
    if request.train or request.accept != "all" or not left or len(left) == len(rows):
        return ""
    return f", without a run of {', '.join(left[:5])}{f' and {len(left) - 5} more' if len(left) > 5 else ''}"


def _tell_github(request: Request, execution: PlanExecution, found: Report) -> None:
    problem = output.step_summary(found)
    if problem is not None:
        say(f"warning: {problem}")
    shown = path_in_repository(request.plan, Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()))
    lines = {experiment.id: experiment.line for experiment in execution.plan.experiments}
    console.commands(workflow_commands(found, shown, lines))


def _write(request: Request, runs: RunsFolder, found: Report) -> None:
    if request.train:
        output.export(runs.matrix, found)
        say(f"run matrix: {runs.matrix}")
    for path in request.exports:
        output.export(path, found)
    if request.json:
        console.document(json_document.document(found), indent=1)
    else:
        console.out(markdown.render(found, short=True), multiline=True)


# Makes, or only names, the audits of data that finished runs lack: without one no verdict decides

AUDIT_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "core.cli", "manifest", "check", "--run")
"""The run's folder is appended."""
_MADE = (0, 1)
"""Exit codes: no leak, and a leak."""
_STOP_S = 10.0


def unaudited(execution: PlanExecution) -> list[RunPaths]:
    """The plan's finished runs that have no audit, or that of an older version.

    One that cannot be believed is left as it is: it was edited. So is that of a signed run: the signature is over it.
    """
    wanted = {row.key for row in execution.shown_rows()}
    found: dict[str, RunPaths] = {}
    for key, assigned in execution.assigned.items():
        run = execution.folder(assigned)
        if key not in wanted or not is_file(run.result) or exists(run.statement) or not audit_outdated(run):
            continue
        if execution.decision(assigned, ()).status is RowStatus.DONE:
            found.setdefault(run.name, run)
    return list(found.values())


def name_missing(execution: PlanExecution) -> None:
    """Say which command makes the audits that are missing."""
    runs = unaudited(execution)
    if runs:
        more = f" ({len(runs) - 1} more runs have none either)" if len(runs) > 1 else ""
        command = f"`lora-cli manifest check --run {runs[0].root}`"
        why = "has no audit of its data, so its criteria on error rates stay unknown"
        say(f"{runs[0].name} {why}: {command} makes it{more}")


def make_missing(execution: PlanExecution) -> None:
    """Audit the data of finished runs before the queue looks at them. A failure is said; the run stays undecided."""
    for run in unaudited(execution):
        say(f"{run.name} has no audit of its data: making it (lora-cli manifest check)")
        status, message = _ran((*AUDIT_COMMAND, str(run.root)), execution.runs.state)
        if status not in _MADE:
            last = message.strip().splitlines()[-1:] or ["its message is above"]
            say(f"warning: {run.name} could not be audited (exit code {status}), it stays undecided: {last[0]}")


def _ran(command: Sequence[str], state: Path) -> tuple[int, str]:
    """(exit code, what it said). On a terminal it says it there itself, and shows how far it is."""
    import subprocess  # a gate that trains nothing answers sooner without it

    terminal = sys.stderr.isatty()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if terminal else subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=os.sep,
        env=os.environ | {PARENT_VARIABLE: str(os.getpid()), STATE_VARIABLE: str(state)},
    )
    try:
        _, said = child.communicate()
    except BaseException:
        end(child, _STOP_S)
        raise
    return child.returncode, said or ""
