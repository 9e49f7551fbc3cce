"""Makes, or only names, the audits of data that finished runs lack: without one no verdict decides."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from core.plan.next_action import RowStatus
from core.queue.execution import PlanExecution
from core.runs.data_health import audit_outdated
from core.runs.paths import RunPaths
from core.runs.state_folder import STATE_VARIABLE
from core.system.files import exists, is_file
from core.system.process import PARENT_VARIABLE, end
from lora_tui.diagnostics import say

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
