"""`lora-tui status`: where the runs of a plan stand. Reads; starts and changes nothing."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.errors import ExitCode
from core.queue.asked_ends import KILLED, KILLED_REASON, killed_runs
from core.queue.decisions import each_decision
from core.queue.entries import Entry, listing
from core.queue.execution import PlanExecution
from core.queue.lock import is_held
from core.queue.report import RowReport, place_recorded, report
from core.queue.wishes import QueueDb, Submission
from core.runs.figures import clock
from core.runs.health_text import headline
from core.runs.paths import RunsFolder
from core.runs.plan_file import DEFAULT_PLAN, read_plan_text
from core.runs.snapshot import RunState
from core.sanitise import sanitise
from core.speech.hashing import HashCache
from lora_tui import output
from lora_tui.dashboard.columns import wer_with_change
from lora_tui.dashboard.log_text import last_line
from lora_tui.dashboard.run_figures import figures
from lora_tui.dashboard.snapshots import BoardRow
from lora_tui.progress import verdict_lines

SCHEMA_VERSION = 1
FOLLOW_S = 2.0
_LONGEST = 300
"""Characters of a cell or a line; `--json` has all of them."""
_HEADINGS = ("ROW", "RUN", "STATE", "STEPS", "ETA", "S/STEP", "DOMAIN", "HELDOUT", "VERDICT", "WHY")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    add = parser.add_argument
    add("plan", nargs="?", type=Path, default=DEFAULT_PLAN, metavar="PLAN", help="default: ./%(default)s")
    add("--follow", action="store_true", help="print it again when it changes, until the queue has nothing left to do")
    add("--json", action="store_true", help="print JSON; with --follow one document a line")
    add("--runs", default="runs", metavar="DIR", help="the runs folder; default: ./%(default)s")
    add("--state", metavar="DIR", help="the folder of locks and caches")


def run(args: argparse.Namespace) -> ExitCode:
    """One line for each row on stdout. 0, whatever the states are; UserError when the plan cannot be read."""
    runs = RunsFolder(Path(args.runs).absolute(), Path(args.state or args.runs).absolute())
    path = Path(args.plan)
    submission = Submission.create(path, read_plan_text(path))
    shown = ""
    while True:
        works = is_held(runs.supervisor_lock)
        reports = _reports(submission, runs)
        queued = _queued(submission, runs)
        indent = None if args.follow else 1
        text = _as_json(reports, queued, works, indent) if args.json else _as_text(reports, queued, works)
        if text != shown:
            output.write(f"\n{text}" if shown and not args.json else text)
            shown = text
        if not args.follow or not (works or any(r.snapshot is not None and r.snapshot.state.active for r in reports)):
            return ExitCode.ACCEPTED
        time.sleep(FOLLOW_S)


def _reports(submission: Submission, runs: RunsFolder) -> list[RowReport]:
    """From the files as they are now: what an earlier look found may have changed."""
    execution = PlanExecution(submission, runs, UnsavedHashes(runs.hash_cache))
    execution.place_all()
    place_recorded(execution, runs)
    killed = killed_runs(each_decision(runs.decisions))
    return [
        _killed(item) if item.run is not None and item.run.name in killed else item for item in report(execution, {})
    ]


def _killed(item: RowReport) -> RowReport:
    """The folder of a run that was killed on request tells a crash; the queue knows better."""
    crashed = item.matrix.status == RunState.CRASHED
    return replace(item, matrix=replace(item.matrix, status=KILLED)) if crashed else item


def _queued(submission: Submission, runs: RunsFolder) -> dict[str, Entry]:
    """What the queue says of the plan's rows, by row key; empty where the plan is not in it."""
    if not runs.queue_db.exists():
        return {}
    entries = listing(runs, QueueDb(runs.queue_db)).entries
    return {entry.row.key: entry for entry in entries if entry.submission.plan_path == submission.plan_path}


def _state(item: RowReport, queued: Mapping[str, Entry]) -> tuple[str, str]:
    """(state, why): the queue knows of rows without a run, or whose run waits for its turn again."""
    entry = queued.get(item.row.key)
    if item.matrix.status == KILLED and (entry is None or entry.state == RunState.CRASHED):
        return KILLED, KILLED_REASON
    if entry is None:
        return item.matrix.status, item.matrix.note if item.snapshot is None else ""
    return str(entry.state), entry.reason


class UnsavedHashes(HashCache):
    """Looking at runs creates no folder."""

    def save(self) -> None:
        """Nothing is written."""


def _as_text(reports: list[RowReport], queued: Mapping[str, Entry], works: bool) -> str:
    table = [_HEADINGS, *(_cells(item, queued) for item in reports)]
    widths = [max(len(cells[i]) for cells in table) for i in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in table]
    for item in {item.run.name: item for item in reports if item.run is not None}.values():
        lines += _at_work(item)
    queue = "a supervisor is at work" if works else "no supervisor is at work"
    return "".join(f"{line.rstrip()}\n" for line in [*lines, "", queue])


def _at_work(item: RowReport) -> list[str]:
    """What the verdict would be now, and the end of the log, of a run that trains."""
    if item.run is None or item.snapshot is None or item.verdict is None or not item.snapshot.state.active:
        return []
    verdict = verdict_lines(f"{item.row.key}  so far", item.verdict, item.snapshot.duration_s)
    log = sanitise(last_line(item.run.log), _LONGEST) or "nothing yet"
    return ["", *(sanitise(line, _LONGEST) for line in verdict), f"  log: {log}"]


def _board_row(item: RowReport) -> BoardRow:
    """The figures that the board shows."""
    row = BoardRow(item.row.key, item.row.key)
    if item.snapshot is None or item.gathered is None or item.verdict is None:
        return row
    return figures(row, item.snapshot, item.gathered.evidence, item.verdict)


def _cells(item: RowReport, queued: Mapping[str, Entry]) -> tuple[str, ...]:
    snapshot, board = item.snapshot, _board_row(item)
    steps = "-" if snapshot is None else f"{snapshot.steps_completed}/{snapshot.steps_planned}"
    run = "-" if item.run is None else item.run.name
    verdict = "-" if snapshot is None else item.outcome.value
    if item.matrix.seeds is not None:
        verdict += ", seeds {}/{}".format(*item.matrix.seeds)
    state, why = _state(item, queued)
    figures_ = (
        "-" if board.eta_s is None else clock(board.eta_s),
        "-" if board.pace_s is None else f"{board.pace_s:.2f}",
        wer_with_change(board.domain, board.domain_change, "-"),
        wer_with_change(board.heldout, board.heldout_change, "-"),
    )
    why = why or (board.reason if snapshot is not None else "")
    cells = (item.row.key, run, state.replace("_", " "), steps, *figures_, verdict, why or "-")
    return tuple(sanitise(cell, _LONGEST) for cell in cells)


def _health(item: RowReport) -> dict[str, str] | None:
    if item.gathered is None or item.run is None:
        return None
    accepted = item.thresholds.accept_leakage if item.thresholds is not None else None
    state, told = headline(item.gathered.evidence.data_health, item.matrix.positions, accepted)
    return {"state": state.value, "summary": told}


def _as_json(reports: list[RowReport], queued: Mapping[str, Entry], works: bool, indent: int | None) -> str:
    rows = [_json_row(item, queued) for item in reports]
    return json.dumps({"schema": SCHEMA_VERSION, "supervisor": works, "rows": rows}, indent=indent) + "\n"


def _json_row(item: RowReport, queued: Mapping[str, Entry]) -> dict[str, Any]:
    board = _board_row(item)
    criteria = item.verdict.criteria if item.verdict is not None else ()
    return {
        "key": item.row.key,
        "experiment": item.row.experiment,
        "run": None if item.run is None else item.run.name,
        "state": _state(item, queued)[0],
        "reason": _state(item, queued)[1],
        "steps_completed": None if item.snapshot is None else item.snapshot.steps_completed,
        "steps_planned": item.row.settings.train.steps,
        "eta_s": board.eta_s,
        "seconds_per_step": board.pace_s,
        "best_step": board.best_step,
        "domain_wer": board.domain,
        "domain_change": board.domain_change,
        "heldout_wer": board.heldout,
        "heldout_change": board.heldout_change,
        "criteria": {criterion.name: criterion.state.value for criterion in criteria},
        "outcome": item.outcome.value,
        "seeds": None if item.matrix.seeds is None else dict(zip(("accepted", "of"), item.matrix.seeds, strict=True)),
        "data_health": _health(item),
    }
