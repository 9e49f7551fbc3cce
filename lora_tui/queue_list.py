"""`lora-tui queue list`: rows of the queue, and runs that no open submission has, as a table or JSON. Only reads."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from core import console
from core.errors import ExitCode
from core.queue.entries import Entry, listed, told
from core.queue.journal import records
from core.queue.other_version import supervisor_note
from core.queue.state import QueueState
from core.runs.paths import RunPaths, RunsFolder
from core.runs.store import state_and_reason
from core.sanitise import sanitise
from core.system.locks import is_held
from lora_tui.cells import table

SCHEMA_VERSION = 1
_HEADINGS = ("ROW", "STATE", "RUN", "SUBMISSION", "WHY")
_KEYS = ("row", "state", "run", "submission", "reason")


def show(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Print the rows: of open submissions, with `--all` the runs of closed ones too."""
    state = QueueState(records(runs.decisions))
    found = listed(runs, state)
    rows = [_row(entry) for entry in found.entries]
    if args.all:
        queued = {entry.run.name for entry in found.entries if entry.run is not None}
        rows += _others([run for run in runs.runs() if run.name not in queued], state)
    works, note = is_held(runs.supervisor_lock), supervisor_note(runs)
    if args.json:
        print_json({"supervisor": works, "paused": found.paused or None, "note": note or None, "rows": rows})
        return ExitCode.ACCEPTED
    lines = table([_HEADINGS, *(_cells(row) for row in rows)])
    if not rows:
        lines = ["the queue is empty" if not args.all else "there are no runs"]
    if found.paused:
        lines += ["", f"paused: {sanitise(found.paused)}", "`lora-tui queue release --all` goes on"]
    nobody = "no supervisor is at work" + ("; `lora-tui queue add PLAN` starts one" if found.submissions else "")
    lines += ["", "a supervisor is at work" if works else nobody]
    lines += [sanitise(note)] if note else []
    console.out("\n".join(line.rstrip() for line in lines), multiline=True)
    return ExitCode.ACCEPTED


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    shown = row | {"state": row["state"].replace("_", " ")}
    return tuple(sanitise(str(shown[key] or "-")) for key in _KEYS)


def _row(entry: Entry) -> dict[str, Any]:
    run = None if entry.run is None else entry.run.name
    state, plan = str(entry.state), entry.submission.plan_path
    return {
        "row": entry.row.key,
        "experiment": entry.row.experiment,
        "state": state,
        "reason": entry.reason,
        "run": run,
        "submission": entry.submission.id,
        "plan": plan,
    }


def _others(others: Sequence[RunPaths], queue: QueueState) -> list[dict[str, Any]]:
    """The rows of runs that no open submission has."""
    rows = []
    for run in others:
        name, (state, why) = run.name, state_and_reason(run)
        word, reason = told(state.value, why, None, killed=queue.is_killed(name))
        row = {"row": None, "experiment": name.rpartition("-")[0], "state": word, "reason": reason, "run": name}
        rows.append(row | {"submission": None, "plan": None})
    return rows


def print_json(fields: dict[str, Any]) -> None:
    """What `--json` prints: one object, with the version of its schema."""
    console.document({"schema": SCHEMA_VERSION, **fields}, indent=1)
