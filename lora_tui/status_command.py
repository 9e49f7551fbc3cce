"""`lora-tui status`: where the runs of a plan stand. Reads; starts and changes nothing."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import Any

from core import console
from core.console import coloured
from core.errors import ExitCode, PlanError
from core.manifests.hashing import UnsavedHashes
from core.plan.rows import unknown_ids
from core.queue.client import supervisor_note
from core.queue.execution import PlanExecution
from core.queue.near_runs import NearRun, near_runs
from core.queue.report import report
from core.queue.requests import Submission
from core.queue.rows import readable_queue
from core.queue.upcoming import upcoming
from core.runs.data_health import headline as health_headline
from core.runs.headline import headline, verdict_of
from core.runs.paths import RunsFolder
from core.runs.position import read_positions
from core.runs.row import Outcome, Row, clock, rate_of
from core.runs.state_folder import runs_folder
from core.runs.store import run_state
from core.sanitise import sanitise
from core.system.locks import is_held
from lora_tui.cells import table, verdict_piece
from lora_tui.dashboard.reading.log_text import last_lines
from lora_tui.dashboard.text.columns import wer_with_change
from lora_tui.progress import verdict_lines
from lora_tui.reports.json_document import runs_judged
from lora_tui.reports.report import of_lines
from lora_tui.request import add_choice, add_folders, add_plan, read_plan_text

SCHEMA_VERSION = 1
FOLLOW_S = 2.0
_LONGEST = 300
_COUNTED = re.compile(r"\d+/\d+$")
"""Characters of a cell or a line; `--json` has all of them."""
_HEADINGS = ("ROW", "RUN", "STATE", "STEPS", "ETA", "S/STEP", "DOMAIN", "HELDOUT", "VERDICT", "WHERE IT STANDS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    add = parser.add_argument
    add_plan(parser)
    add("--follow", action="store_true", help="print it again when it changes, until the queue has nothing left to do")
    add_choice(parser)
    add("--json", action="store_true", help="print JSON; with --follow one document a line")
    add_folders(parser)


def run(args: argparse.Namespace) -> ExitCode:
    """One line for each row on stdout. 0, whatever the states are; UserError when the plan cannot be read."""
    runs = runs_folder(Path(args.runs), Path(args.state) if args.state else None)
    path = Path(args.plan)
    submission = Submission.create(path, read_plan_text(path), args.set, args.only)
    shown: str | dict[str, Any] = ""
    while True:
        works, note = is_held(runs.supervisor_lock), supervisor_note(runs)
        execution = _execution(submission, runs)
        rows, others = report(execution, {}), near_runs(execution)
        following = upcoming(readable_queue(runs), execution)
        told = rows, others, works, note, following
        now = _as_json(*told) if args.json else _as_text(*told)
        if now != shown:
            if isinstance(now, str):
                console.out((f"\n{now}" if shown else now).removesuffix("\n"), sanitised=True)
            else:
                console.document(now, indent=None if args.follow else 1)
            shown = now
        if not args.follow or not (works or any(row.active for row in rows)):
            return ExitCode.ACCEPTED
        time.sleep(FOLLOW_S)


def _execution(submission: Submission, runs: RunsFolder) -> PlanExecution:
    """From the files as they are now: what an earlier look found may have changed."""
    execution = PlanExecution(submission, runs, UnsavedHashes(runs.hash_cache))
    if unknown := unknown_ids(execution.rows, submission.only):
        raise PlanError("\n".join(f"--only {name}: no such experiment" for name in unknown))
    execution.assign_all()
    return execution


def _as_text(rows: list[Row], others: list[NearRun], works: bool, note: str, following: str) -> str:
    rate = rate_of(rows)
    heads = (f"{name} {rate}" if name in ("DOMAIN", "HELDOUT") else name for name in _HEADINGS)
    columns = {_HEADINGS.index("STATE"): _state_role, _HEADINGS.index("VERDICT"): _verdict_role}

    def paint(number: int, column: int, cell: str) -> str:
        if number == 0:
            return coloured(cell, "strong")
        return coloured(cell, columns[column](rows[number - 1])) if column in columns else cell

    lines = table([tuple(heads), *(_cells(row) for row in rows)], paint=paint)
    for row in {row.run.name: row for row in rows if row.run is not None}.values():
        lines += _at_work(row)
    active = [(near, state) for near in others if (state := run_state(near.run)).active]
    lines += [
        sanitise(f"{near.row.key}  {near.run.name} is at work ({state}), and {near.why}", _LONGEST)
        for near, state in active
    ]
    remarks = of_lines(rows).remarks()
    lines = [*(sanitise(remark, _LONGEST) for remark in remarks), *([""] if remarks else []), *lines]
    queue = "a supervisor is at work" if works else "no supervisor is at work"
    last = [f"next: {sanitise(following, _LONGEST)}"] if following else []
    return "".join(f"{line.rstrip()}\n" for line in [*lines, "", *last, queue, *([sanitise(note)] if note else [])])


def _at_work(row: Row) -> list[str]:
    """What the verdict would be now, and the end of the log, of a run that trains."""
    if row.run is None or row.judged is None or row.verdict is None or not row.judged.snapshot.state.active:
        return []
    verdict = verdict_lines(f"{row.key}  so far", row.verdict, row.figures.duration_s, headline(row).text)
    log = sanitise("".join(last_lines(row.run.log, 1)), _LONGEST) or "nothing yet"
    return ["", *(sanitise(line, _LONGEST) for line in verdict), f"  log: {log}"]


def _verdict(row: Row) -> str:
    if row.verdict is None:
        return "-"
    said = row.outcome.value
    if row.verdict.failed:
        said = row.verdict.word
    elif row.outcome is Outcome.UNDECIDED and row.seeds is None:
        said = verdict_of(row) or said  # where the run has not ended, the outcome does not say what it would be
    return said if row.seeds is None else f"{said}, seeds {row.seeds[0]}/{row.seeds[1]}"


def _cells(row: Row) -> tuple[str, ...]:
    figures = row.figures
    cells = (
        row.key,
        "-" if row.run is None else row.run.name,
        _state(row),
        "-" if row.run is None else f"{figures.steps}/{figures.steps_planned}",
        "-" if figures.eta_s is None else clock(figures.eta_s),
        "-" if figures.pace_s is None else f"{figures.pace_s:.2f}",
        wer_with_change(figures.domain, "-"),
        wer_with_change(figures.heldout, "-"),
        _verdict(row),
        headline(row).text,
    )
    return tuple(sanitise(cell, _LONGEST) for cell in cells)


def _state(row: Row) -> str:
    """`evaluating 12/300`: how far its trainer is, where it can count."""
    return f"{row.status.text} {row.reason}" if row.active and _COUNTED.search(row.reason) else row.status.text


def _state_role(row: Row) -> str:
    return "active" if row.active else "fail" if row.status.broken else ""


def _verdict_role(row: Row) -> str:
    return verdict_piece(verdict_of(row), row.seeds)[1]


def _health(row: Row) -> dict[str, str] | None:
    if row.judged is None:
        return None
    accepted, evidence = row.judged.thresholds.accept_leakage, row.judged.evidence
    positions, _ = read_positions(row.judged.snapshot.paths)
    state, told = health_headline(evidence.data_health, positions, accepted, evidence.caps)
    return {"state": state.value, "summary": told}


def _as_json(rows: list[Row], others: list[NearRun], works: bool, note: str, following: str) -> dict[str, Any]:
    near = [
        {"run": one.run.name, "row": one.row.key, "state": run_state(one.run).value, "why": one.why} for one in others
    ]
    told = [_json_row(row) for row in rows]
    queue = {"supervisor": works, "note": note or None, "next": following or None}
    return {"schema": SCHEMA_VERSION, **queue, "rows": told, "other_runs": near}


def _json_row(row: Row) -> dict[str, Any]:
    figures, criteria = row.figures, row.verdict.criteria if row.verdict is not None else ()
    return {
        "key": row.key,
        "experiment": row.experiment,
        "run": None if row.run is None else row.run.name,
        "state": row.status.value,
        "reason": row.reason,
        "headline": headline(row).text,
        "steps_completed": figures.steps,
        "steps_planned": None if row.wanted is None else row.wanted.settings.train.steps,
        "eta_s": figures.eta_s,
        "seconds_per_step": figures.pace_s,
        "best_step": figures.best_step,
        "candidate": None if row.verdict is None else row.verdict.chosen,
        "rate": None if figures.unit is None else figures.unit.rate,
        "domain_wer": figures.domain.now,
        "domain_change": figures.domain.change,
        "heldout_wer": figures.heldout.now,
        "heldout_change": figures.heldout.change,
        "criteria": {criterion.name: criterion.state.value for criterion in criteria},
        "outcome": row.outcome.value,
        "seeds": None if row.seeds is None else dict(zip(("accepted", "of"), row.seeds, strict=True)),
        "data_health": _health(row),
        "runs_judged": runs_judged(row),
        "remarks": list(row.remarks),
    }
