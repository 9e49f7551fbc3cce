"""`lora-tui queue list`: rows of the queue, and runs that no open submission has, as a table or JSON. Only reads."""

from __future__ import annotations

import argparse
import json
from typing import Any

from core.errors import ExitCode
from core.queue import asked_ends
from core.queue.decisions import each_decision
from core.queue.entries import Entry, listing
from core.queue.lock import is_held
from core.queue.wishes import QueueDb
from core.runs.paths import RunPaths, RunsFolder
from core.runs.snapshot import RunState
from core.runs.store import state_and_reason
from core.sanitise import sanitise
from lora_tui import stdout

SCHEMA_VERSION = 1
_HEADINGS = ("ROW", "STATE", "RUN", "SUBMISSION", "WHY")
_KEYS = ("row", "state", "run", "submission", "reason")


def show(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Print the rows: of open submissions, with `--all` the runs of closed ones too."""
    found = listing(runs, QueueDb(runs.queue_db)) if runs.queue_db.exists() else None
    entries = [] if found is None else list(found.entries)
    rows = [_row(entry) for entry in entries]
    if args.all:
        listed = {entry.run.name for entry in entries if entry.run is not None}
        done = runs.finished()
        rows += [_finished(run, done=run.name in done) for run in runs.runs() if run.name not in listed]
    _say_killed(rows, runs)
    works = is_held(runs.supervisor_lock)
    paused = "" if found is None else found.paused
    if args.json:
        stdout.write(document({"supervisor": works, "paused": paused or None, "rows": rows}))
        return ExitCode.ACCEPTED
    table = [_HEADINGS, *(tuple(sanitise(str(row[key] or "-")) for key in _KEYS) for row in rows)]
    widths = [max(len(cells[i]) for cells in table) for i in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in table]
    if not rows:
        lines = ["the queue is empty" if not args.all else "there are no runs"]
    if paused:
        lines += ["", f"paused: {sanitise(paused)}", "`lora-tui queue release --all` goes on"]
    lines += ["", "a supervisor is at work" if works else "no supervisor is at work"]
    stdout.write("".join(f"{line.rstrip()}\n" for line in lines))
    return ExitCode.ACCEPTED


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


def _finished(run: RunPaths, *, done: bool) -> dict[str, Any]:
    experiment = run.name.rpartition("-")[0]
    state, reason = (RunState.DONE, "") if done else state_and_reason(run)
    rest = {"reason": reason, "submission": None, "plan": None}
    return {"row": None, "experiment": experiment, "state": state.value, "run": run.name} | rest


def _say_killed(rows: list[dict[str, Any]], runs: RunsFolder) -> None:
    """The folder of a run that was killed on request tells a crash; the queue knows better."""
    crashed = [row for row in rows if row["state"] == RunState.CRASHED]
    killed = asked_ends.killed_runs(each_decision(runs.decisions)) if crashed else set()
    for row in crashed:
        if row["run"] in killed:
            row |= {"state": asked_ends.KILLED, "reason": asked_ends.KILLED_REASON}


def document(fields: dict[str, Any]) -> str:
    """What `--json` prints: one object, with the version of its schema."""
    return json.dumps({"schema": SCHEMA_VERSION, **fields}, indent=1) + "\n"
