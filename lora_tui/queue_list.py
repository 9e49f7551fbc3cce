"""`lora-tui queue list`: rows of the queue, and runs that no open submission has, as a table or JSON. Only reads."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from core import console
from core.errors import ExitCode
from core.queue.other_version import supervisor_note
from core.queue.rows import queue_rows
from core.runs.paths import RunPaths, RunsFolder
from core.runs.row import Row, Status
from core.runs.store import state_and_reason
from core.sanitise import sanitise
from lora_tui.cells import table

SCHEMA_VERSION = 1
_HEADINGS = ("ROW", "STATE", "RUN", "SUBMISSION", "WHY")
_KEYS = ("row", "state", "run", "submission", "reason")


def show(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Print the rows: of open submissions, with `--all` the runs of closed ones too."""
    found = queue_rows(runs)
    rows = [_row(row) for row in found.rows]
    if args.all:
        queued = {row.run.name for row in found.rows if row.run is not None}
        others = _others(run for run in runs.runs() if run.name not in queued)
        rows += [_row(found.row(row, None)) for row in others]
    works, note = found.supervised, supervisor_note(runs)
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


def _row(row: Row) -> dict[str, Any]:
    queued = row.queued.submission != ""
    return {
        "row": row.key if queued else None,
        "experiment": row.experiment,
        "state": row.status.value,
        "reason": row.reason,
        "run": None if row.run is None else row.run.name,
        "submission": row.queued.submission or None,
        "plan": row.queued.plan_path or None,
    }


def _others(runs: Iterable[RunPaths]) -> Iterator[Row]:
    """Runs as their folders tell them."""
    for run in runs:
        state, reason = state_and_reason(run)
        name = run.name.rpartition("-")[0]
        yield Row(f"run:{run.name}", name, Status(state.value), reason, run=run, planned=False)


def print_json(fields: dict[str, Any]) -> None:
    """What `--json` prints: one object, with the version of its schema."""
    console.document({"schema": SCHEMA_VERSION, **fields}, indent=1)
