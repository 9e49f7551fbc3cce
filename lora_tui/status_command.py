"""`lora-tui status`: where the runs of a plan stand. Reads; starts and changes nothing."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from core import console
from core.errors import ExitCode, PlanError
from core.plan.expand import unknown_ids
from core.queue.execution import PlanExecution
from core.queue.near_runs import NearRun, near_runs
from core.queue.other_version import supervisor_note
from core.queue.report import Outcome, RowReport, report
from core.queue.wishes import Submission
from core.runs.figures import clock
from core.runs.health_text import headline
from core.runs.paths import RunsFolder
from core.runs.plan_file import DEFAULT_PLAN, read_plan_text
from core.runs.state_folder import runs_folder
from core.runs.store import run_state
from core.sanitise import sanitise
from core.system.locks import is_held
from core.user_paths import user_path
from lora_tui.cells import table
from lora_tui.dashboard.reading.log_text import last_line
from lora_tui.dashboard.reading.run_figures import figures
from lora_tui.dashboard.reading.snapshots import BoardRow
from lora_tui.dashboard.text.columns import wer_with_change
from lora_tui.progress import verdict_lines
from lora_tui.reports.report import of_lines
from lora_tui.unsaved_hashes import UnsavedHashes

SCHEMA_VERSION = 1
FOLLOW_S = 2.0
_LONGEST = 300
"""Characters of a cell or a line; `--json` has all of them."""
_HEADINGS = ("ROW", "RUN", "STATE", "STEPS", "ETA", "S/STEP", "DOMAIN", "HELDOUT", "VERDICT", "WHY")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    add = parser.add_argument
    add("plan", nargs="?", type=user_path, default=DEFAULT_PLAN, metavar="PLAN", help="default: ./%(default)s")
    add("--follow", action="store_true", help="print it again when it changes, until the queue has nothing left to do")
    add("--only", action="append", default=[], metavar="ID", help="an experiment or a row; repeatable")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="as the plan was started with; repeatable")
    add("--json", action="store_true", help="print JSON; with --follow one document a line")
    add("--runs", default="runs", metavar="DIR", help="the runs folder; default: ./%(default)s")
    add("--state", metavar="DIR", help="the folder of queue, locks and caches")


def run(args: argparse.Namespace) -> ExitCode:
    """One line for each row on stdout. 0, whatever the states are; UserError when the plan cannot be read."""
    runs = runs_folder(Path(args.runs), Path(args.state) if args.state else None)
    path = Path(args.plan)
    submission = Submission.create(path, read_plan_text(path), args.set, args.only)
    shown: str | dict[str, Any] = ""
    while True:
        works, note = is_held(runs.supervisor_lock), supervisor_note(runs)
        execution = _execution(submission, runs)
        reports, others = report(execution, {}), near_runs(execution)
        now = _as_json(reports, others, works, note) if args.json else _as_text(reports, others, works, note)
        if now != shown:
            if isinstance(now, str):
                console.out(f"\n{now}" if shown else now, multiline=True)
            else:
                console.document(now, indent=None if args.follow else 1)
            shown = now
        if not args.follow or not (works or any(r.snapshot is not None and r.snapshot.state.active for r in reports)):
            return ExitCode.ACCEPTED
        time.sleep(FOLLOW_S)


def _execution(submission: Submission, runs: RunsFolder) -> PlanExecution:
    """From the files as they are now: what an earlier look found may have changed."""
    execution = PlanExecution(submission, runs, UnsavedHashes(runs.hash_cache))
    if unknown := unknown_ids(execution.rows, submission.only):
        raise PlanError("\n".join(f"--only {name}: no such experiment" for name in unknown))
    execution.place_all()
    return execution


def _as_text(reports: list[RowReport], others: list[NearRun], works: bool, note: str) -> str:
    lines = table([_HEADINGS, *(_cells(item) for item in reports)])
    for item in {item.run.name: item for item in reports if item.run is not None}.values():
        lines += _at_work(item)
    active = [(near, state) for near in others if (state := run_state(near.run)).active]
    lines += [
        sanitise(f"{near.row.key}  {near.run.name} is at work ({state}), and {near.why}", _LONGEST)
        for near, state in active
    ]
    remarks = of_lines([item.matrix for item in reports]).remarks()
    lines = [*(sanitise(remark, _LONGEST) for remark in remarks), *([""] if remarks else []), *lines]
    queue = "a supervisor is at work" if works else "no supervisor is at work"
    return "".join(f"{line.rstrip()}\n" for line in [*lines, "", queue, *([sanitise(note)] if note else [])])


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
    return row if item.judged is None else figures(row, item.judged)


def _cells(item: RowReport) -> tuple[str, ...]:
    snapshot, board = item.snapshot, _board_row(item)
    steps = "-" if snapshot is None else f"{snapshot.steps_completed}/{snapshot.steps_planned}"
    run = "-" if item.run is None else item.run.name
    verdict = "-" if snapshot is None else item.outcome.value
    if item.verdict is not None and item.verdict.failed:
        verdict = item.verdict.word
    elif item.verdict is not None and item.outcome is Outcome.UNDECIDED and item.matrix.seeds is None:
        now = item.verdict.decision.value  # where the run has not ended, the outcome does not say what it would be
        verdict = now if now == verdict else f"so far {now}"
    if item.matrix.seeds is not None:
        verdict += ", seeds {}/{}".format(*item.matrix.seeds)
    figures_ = (
        "-" if board.eta_s is None else clock(board.eta_s),
        "-" if board.pace_s is None else f"{board.pace_s:.2f}",
        wer_with_change(board.domain, board.domain_change, "-"),
        wer_with_change(board.heldout, board.heldout_change, "-"),
    )
    why = item.why or board.reason
    cells = (item.row.key, run, item.matrix.status.replace("_", " "), steps, *figures_, verdict, why or "-")
    return tuple(sanitise(cell, _LONGEST) for cell in cells)


def _health(item: RowReport) -> dict[str, str] | None:
    if item.judged is None:
        return None
    accepted, evidence = item.judged.thresholds.accept_leakage, item.judged.evidence
    state, told = headline(evidence.data_health, item.matrix.positions, accepted, evidence.caps)
    return {"state": state.value, "summary": told}


def _as_json(reports: list[RowReport], others: list[NearRun], works: bool, note: str) -> dict[str, Any]:
    near = [
        {"run": one.run.name, "row": one.row.key, "state": run_state(one.run).value, "why": one.why} for one in others
    ]
    rows = [_json_row(item) for item in reports]
    return {"schema": SCHEMA_VERSION, "supervisor": works, "note": note or None, "rows": rows, "other_runs": near}


def _json_row(item: RowReport) -> dict[str, Any]:
    board = _board_row(item)
    criteria = item.verdict.criteria if item.verdict is not None else ()
    return {
        "key": item.row.key,
        "experiment": item.row.experiment,
        "run": None if item.run is None else item.run.name,
        "state": item.matrix.status,
        "reason": item.why,
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
        "remarks": list(item.matrix.remarks),
    }
