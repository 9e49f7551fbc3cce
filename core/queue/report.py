"""What came of a plan: its rows, each with its run, the verdict on it and the queue's word. Only reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from core.plan.next_action import RowStatus
from core.plan.schema import Row as PlanRow
from core.queue.execution import AssignedRun, PlanExecution
from core.queue.near_runs import NearRun, named, near_runs
from core.queue.rows import readable_queue
from core.runs.contents import Depth
from core.runs.judged import Judged, judged
from core.runs.judged_sets import JudgedSets
from core.runs.matrix import differing_settings
from core.runs.paths import RunPaths
from core.runs.reserve import other_part
from core.runs.row import Outcome, Row, of_plan
from core.runs.run_figures import doubted, of_run, with_seeds
from core.runs.status import Status
from core.runs.store import read_run
from core.scoring.data_health import JUDGED
from core.scoring.evidence import Thresholds
from core.scoring.units import Unit
from core.scoring.verdict import thresholds_of
from core.system.files import exists

_Known = dict[tuple[RunPaths, str | None], Judged]
"""Runs that rows have in common are judged once."""


def report(execution: PlanExecution, not_run: Mapping[str, str], required: Depth = Depth.NOTHING) -> list[Row]:
    """The wanted rows in the order of the plan. `not_run`: row key → why it was not run, or was given up.

    `required`: how far data and model must have been compared with what a run was made of. Rows that fall short are
    undecided, whatever the run's own verdict is: it may be one on something else.
    """
    execution.assign_decided()
    wanted = execution.shown_rows()
    columns = differing_settings([_shown_settings(row, execution) for row in wanted])
    queue, known, near = readable_queue(execution.runs), _Known(), dict[str, str]()
    bare = [_row(execution, row, column, not_run, known) for row, column in zip(wanted, columns, strict=True)]
    if any(row.run is None for row in bare):
        near = _near(execution)
    rows = [queue.row(_sure(execution, row, required), execution.submission.plan_path) for row in bare]
    rows = [replace(row, near=near.get(row.key, "")) if row.run is None else row for row in rows]
    return list(with_seeds(_with_luck(execution, rows), asked_repeats(execution)))


def _with_luck(execution: PlanExecution, rows: Sequence[Row]) -> list[Row]:
    """The rows, each with how many runs were judged on its sets: of this plan or not, in this runs folder."""
    hashes: dict[str, Mapping[str, str]] = {run.run.name: run.hashes for run in execution.recorded.all}
    for assigned in execution.assigned.values():
        hashes.setdefault(execution.folder(assigned).name, assigned.resolved.hashes)
    sets = JudgedSets()
    for name, known in hashes.items():
        sets.add(RunPaths(execution.runs.root / name), known)
    return [_tried(row, sets, hashes.get(row.run.name, {})) if row.run else row for row in rows]


def _tried(row: Row, sets: JudgedSets, hashes: Mapping[str, str]) -> Row:
    tried = None if row.judged is None else sets.tried(hashes, row.judged.thresholds.confidence)
    if tried is None or row.verdict is None:
        return row
    said = (tried.sentence,) if tried.sentence else ()
    return replace(row, tried=tried, verdict=replace(row.verdict, remarks=(*row.verdict.remarks, *said)))


def judge_run(execution: PlanExecution, run: RunPaths, gave_up: str | None = None) -> Judged:
    """The run now, its evidence, and its verdict by the plan's thresholds."""
    return judged(read_run(run), thresholds_of(asdict(execution.plan.gate)), gave_up)


def asked_repeats(execution: PlanExecution) -> dict[str, int]:
    """Row key → how many repeats with other seeds it needs once it is accepted."""
    found = dict[str, int]()
    for row in execution.rows:
        if row.confirms is not None and execution.submission.asks_for(row):
            found[row.confirms] = found.get(row.confirms, 0) + 1
    return found


def caveats(execution: PlanExecution, key: str, thresholds: Thresholds) -> tuple[tuple[str, ...], str]:
    """(remarks, doubt) on the verdict of a row's run.

    Remarks: what of the row's data and model is not, or could not be compared with, the run's, and which other runs
    match. Doubt: why the verdict may be one on something else than the row names; empty: it is not.
    """
    assigned = execution.assigned.get(key)
    if assigned is None:
        return (), ""
    run, speakers = execution.folder(assigned), _other_speakers(execution, assigned)
    gaps = () if assigned.match is None else assigned.match.comparison.gaps
    others = ", ".join(other.name for other in execution.others(assigned))
    newest = (f"Other runs match: {others}; the newest, {run.name}, is judged.",) if others else ()
    remarks = (*(f"Not compared: {gap}." for gap in gaps), *newest, *speakers)
    if differing := execution.comparison(assigned).differing:
        # A folder that has the row's identity in its name, and was made of something else by its own account.
        return remarks, f"{run.config}: {'; '.join(differing)}"
    if part := other_part(run, assigned.resolved.settings.data):
        return remarks, part
    by_speaker = thresholds.slices or thresholds.confidence is not None
    return remarks, " ".join(speakers) if by_speaker else ""


def _sure(execution: PlanExecution, row: Row, required: Depth) -> Row:
    """With what the verdict could not be sure of: contents that are not here, other runs that answer as well."""
    assigned = execution.assigned.get(row.key)
    if assigned is None or row.verdict is None or row.judged is None:
        return row
    row = surely(row, *caveats(execution, row.key, row.judged.thresholds))
    if short := execution.comparison(assigned).short_of(required):
        return doubted(row, f"--require-data: {'; '.join(short)}", always=True)
    return row


def surely(row: Row, remarks: tuple[str, ...], doubt: str) -> Row:
    """The row with these remarks before its verdict's own, and undecided where there is a doubt."""
    if row.verdict is not None:
        row = replace(row, verdict=replace(row.verdict, remarks=(*remarks, *row.verdict.remarks)))
    return doubted(row, doubt) if doubt else row


def _other_speakers(execution: PlanExecution, assigned: AssignedRun) -> tuple[str, ...]:
    """Evaluation sets whose audio and texts are those of the run, but whose speakers or fields are others by now.

    They change no WER over a whole set, but slices of it and how sure it is: those would be of other speakers.
    """
    recorded = None if assigned.match is not None else execution.recorded_run(assigned)
    if recorded is None:
        return ()
    return tuple(
        f"data.{name}: speakers or fields of {getattr(assigned.resolved.settings.data, name)} are not those that the "
        "run was scored with: restore them, or remove the run's folder and train again."
        for name, digest in assigned.resolved.lines.items()
        if name in JUDGED and recorded.lines.get(name) not in (None, digest)
    )


def _near(execution: PlanExecution) -> dict[str, str]:
    """Row key → the runs that are nearly its own, so that nobody looks for them."""
    found: dict[str, list[NearRun]] = {}
    for one in near_runs(execution):
        found.setdefault(one.row.key, []).append(one)
    return {key: named(runs) for key, runs in found.items()}


def _row(execution: PlanExecution, row: PlanRow, column: str, not_run: Mapping[str, str], known: _Known) -> Row:
    """As the plan and its run's folder tell it."""
    bare = of_plan(row, column, Unit(execution.plan.gate.unit))
    assigned = execution.assigned.get(row.key)
    run = execution.folder(assigned) if assigned is not None else None
    if assigned is None or run is None or not exists(run.events):
        status = Status(execution.closed[row.key][0].value) if row.key in execution.closed else Status.NOT_RUN
        outcome = Outcome.SKIPPED if status is Status.SKIPPED else Outcome.PENDING
        return replace(bare, status=status, outcome=outcome, reason=not_run.get(row.key, ""))
    decision = execution.decision(assigned, ())
    given_up = decision.status is RowStatus.FAILED and decision.rejects
    gave_up = (decision.reason or not_run.get(row.key)) if given_up else None
    if (run, gave_up) not in known:
        known[run, gave_up] = judge_run(execution, run, gave_up)
    return of_run(bare, known[run, gave_up])


def _shown_settings(row: PlanRow, execution: PlanExecution) -> dict[str, Any]:
    """The row's settings as the plan writes them, with the architecture that it was given, or is yet to be given."""
    shown, assigned = asdict(row.settings), execution.assigned.get(row.key)
    if assigned is not None:
        shown["adapter"]["target_modules"] = assigned.resolved.settings.adapter.target_modules
        shown["train"]["accumulation"] = assigned.resolved.settings.train.accumulation
    elif row.adapter_from:
        shown["adapter"]["target_modules"] = "decided later"
    return shown
