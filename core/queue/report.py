"""What came of a plan: for each row its run, its verdict and its line in the run matrix. Only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from core.errors import RunFolderError
from core.plan.row_state import RowStatus
from core.plan.schema import Row, RunSettings
from core.queue.entries import Listing, listed, told
from core.queue.execution import PlanExecution
from core.queue.journal import records
from core.queue.last_reason import LastReason, LastReasons
from core.queue.near_runs import NearRun, named, near_runs
from core.queue.placement import Placed
from core.queue.state import QueueState
from core.runs.contents import Depth
from core.runs.judged import Judged, judged
from core.runs.matrix import MatrixRow, differing_settings, history_row, run_row, unrun_row
from core.runs.paths import RunPaths
from core.runs.snapshot import RunSnapshot, reason
from core.runs.store import read_run
from core.scoring.evidence import Decision, State, Thresholds, Verdict
from core.scoring.verdict import thresholds_of
from core.system.files import exists


class Outcome(StrEnum):
    """What a row comes to, for the exit code."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"
    """Started, and either not ended or lacking evidence."""
    PENDING = "pending"
    """Never started."""
    SKIPPED = "skipped"
    """Its condition did not hold: it is no run."""


@dataclass(frozen=True, slots=True)
class RowReport:
    """One row of the plan."""

    row: Row
    outcome: Outcome
    failed: bool
    """It ended, or could not even start, for another reason than its result: an error, a crash, no memory."""
    matrix: MatrixRow
    why: str = ""
    """Why its state (`matrix.status`) is what it is."""
    run: RunPaths | None = None
    gave_up: str | None = None
    """Why the queue does not go on with a run that did not end by itself."""
    judged: Judged | None = None
    verdict: Verdict | None = None
    """On the row: the run's own, unless that may be one on something else."""
    near: tuple[NearRun, ...] = ()
    """Of a row without a run: runs of its experiment that are other ones."""

    @property
    def snapshot(self) -> RunSnapshot | None:
        """The run at this moment."""
        return None if self.judged is None else self.judged.snapshot


_OF_DECISION = {
    Decision.ACCEPTED: Outcome.ACCEPTED,
    Decision.REJECTED: Outcome.REJECTED,
    Decision.UNDECIDED: Outcome.UNDECIDED,
}
_NOT_RUN = "not run"


def report(execution: PlanExecution, not_run: Mapping[str, str], required: Depth = Depth.NOTHING) -> list[RowReport]:
    """The wanted rows in the order of the plan. `not_run`: row key → why it was not run, or was given up.

    `required`: how far data and model must have been compared with what a run was made of. Rows that fall short are
    undecided, whatever the run's own verdict is: it may be one on something else.
    """
    execution.place_decided()
    rows = execution.shown_rows()
    columns = differing_settings([asdict(_shown_settings(row, execution)) for row in rows])
    known: dict[tuple[RunPaths, str | None], Judged] = {}
    reports = [_row(execution, row, column, not_run, known) for row, column in zip(rows, columns, strict=True)]
    reports = [_compared(execution, item, required) for item in reports]
    return [_with_seeds(item, reports) for item in _with_near_runs(execution, _told(execution, reports))]


def _compared(execution: PlanExecution, item: RowReport, required: Depth) -> RowReport:
    """With what the verdict could not be sure of: contents that are not here, other runs that answer as well."""
    placed = execution.placed.get(item.row.key)
    if placed is None or item.verdict is None or item.run is None:
        return item
    others = _other_speakers(placed, item)
    verdict = replace(item.verdict, remarks=(*remarks(execution, item.row.key), *others, *item.verdict.remarks))
    comparison = execution.comparison(placed)
    short = comparison.short_of(required)
    thresholds = item.judged.thresholds if item.judged is not None else Thresholds()
    unsure = others if thresholds.slices or thresholds.confidence is not None else ()
    if not short and ((not comparison.differing and not unsure) or verdict.decision is Decision.REJECTED):
        return replace(item, verdict=verdict, matrix=replace(item.matrix, verdict=verdict))
    if short:
        said = f"--require-data: {'; '.join(short)}"
    elif comparison.differing:
        # A folder that has the row's identity in its name, and was made of something else by its own account.
        said = f"{item.run.config}: {'; '.join(comparison.differing)}"
    else:
        said = " ".join(unsure)
    verdict = _unknown(verdict, said)
    line = replace(item.matrix, verdict=verdict, note=verdict.criteria[0].reason)
    return replace(item, verdict=verdict, outcome=Outcome.UNDECIDED, matrix=line)


def _other_speakers(placed: Placed, item: RowReport) -> tuple[str, ...]:
    """Evaluation sets whose audio and texts are those of the run, but whose speakers or fields are others by now.

    They change no WER over a whole set, but slices of it and how sure it is: those would be of other speakers.
    """
    recorded = (item.snapshot.config or {}).get("lines") if item.snapshot is not None else None
    if placed.match is not None or not isinstance(recorded, dict):
        return ()
    return tuple(
        f"data.{name}: speakers or fields of {getattr(placed.resolved.settings.data, name)} are not those that the run "
        "was scored with: restore them, or remove the run's folder and train again."
        for name, digest in placed.resolved.lines.items()
        if name in ("domain", "heldout", "selection") and recorded.get(name) not in (None, digest)
    )


def remarks(execution: PlanExecution, key: str) -> tuple[str, ...]:
    """What of a row's data and model could not be compared with its run's, and which other runs would answer for it."""
    placed = execution.placed.get(key)
    if placed is None:
        return ()
    gaps = () if placed.match is None else placed.match.comparison.gaps
    others = ", ".join(run.name for run in execution.others(placed))
    newest = (f"Other runs match: {others}; the newest, {execution.folder(placed).name}, is judged.",) if others else ()
    return (*(f"Not compared: {gap}." for gap in gaps), *newest)


def _unknown(verdict: Verdict, reason: str) -> Verdict:
    """The same criteria, none of which can be judged."""
    criteria = tuple(replace(one, state=State.UNKNOWN, reason=reason) for one in verdict.criteria)
    return replace(verdict, criteria=criteria, decision=Decision.UNDECIDED)


def _with_near_runs(execution: PlanExecution, reports: Sequence[RowReport]) -> list[RowReport]:
    """Rows without a run that say which runs are nearly theirs, so that nobody looks for them."""
    if all(item.run is not None for item in reports):
        return list(reports)
    near: dict[str, list[NearRun]] = {}
    for one in near_runs(execution):
        near.setdefault(one.row.key, []).append(one)
    return [_with_near(item, near.get(item.row.key, [])) if item.run is None else item for item in reports]


def _with_near(item: RowReport, near: Sequence[NearRun]) -> RowReport:
    if not near:
        return item
    note, why = ("; ".join(filter(None, (text, named(near)))) for text in (item.matrix.note, item.why))
    return replace(item, near=tuple(near), why=why, matrix=replace(item.matrix, note=note))


def _told(execution: PlanExecution, reports: Collection[RowReport]) -> list[RowReport]:
    """With the queue's word for each row, and why."""
    queue, state = Listing(), QueueState()
    # What cannot be read, on a read-only disk, say, costs a word: runs are judged all the same.
    with suppress(OSError, RunFolderError):
        state = QueueState(records(execution.runs.decisions))
    with suppress(sqlite3.Error, OSError, ValueError, RunFolderError):
        queue = listed(execution.runs, state)
    found: list[RowReport] = []
    reasons = LastReasons(execution.runs)
    for bare in reports:
        item = bare
        run = None if item.run is None else item.run.name
        entry = queue.find(execution.submission.plan_path, item.row.key, run, item.row.settings)
        if entry is None and item.snapshot is None and item.matrix.status == _NOT_RUN and not item.matrix.note:
            item = _with_last_reason(item, reasons.of(state, execution.submission.plan_path, item.row))
        own = item.matrix.note if item.snapshot is None else reason(item.snapshot)
        word, why = told(item.matrix.status, own, entry, killed=run is not None and state.is_killed(run))
        note = why if item.snapshot is None else item.matrix.note
        found.append(replace(item, why=why, matrix=replace(item.matrix, status=word, note=note)))
    return found


def _with_last_reason(item: RowReport, last: LastReason | None) -> RowReport:
    if last is None:
        return item
    word, why = last
    outcome = Outcome.SKIPPED if word == Outcome.SKIPPED else item.outcome
    return replace(item, outcome=outcome, matrix=replace(item.matrix, status=word, note=why))


def _with_seeds(item: RowReport, reports: Collection[RowReport]) -> RowReport:
    """What an accepted row comes to, once its repeats with other seeds count."""
    repeats = [other.outcome for other in reports if other.row.confirms == item.row.key]
    if item.outcome is not Outcome.ACCEPTED or not repeats:
        return item
    count = repeats.count(Outcome.ACCEPTED)
    if count < len(repeats):
        outcome = Outcome.REJECTED if Outcome.REJECTED in repeats else Outcome.UNDECIDED
        item = replace(item, outcome=outcome)
    return replace(item, matrix=replace(item.matrix, seeds=(count, len(repeats))))


def matrix_rows(execution: PlanExecution, reports: Collection[RowReport]) -> list[MatrixRow]:
    """The lines of the run matrix: earlier results made elsewhere first."""
    history = [
        history_row(entry.id, entry.title, entry.note, entry.domain_wer, entry.heldout_wer)
        for entry in execution.plan.history
    ]
    return [*history, *(row.matrix for row in reports)]


def judge_run(execution: PlanExecution, run: RunPaths, gave_up: str | None = None) -> Judged:
    """The run now, its evidence, and its verdict by the plan's thresholds."""
    return judged(read_run(run), thresholds_of(asdict(execution.plan.gate)), gave_up)


def _row(
    execution: PlanExecution,
    row: Row,
    column: str,
    not_run: Mapping[str, str],
    known: dict[tuple[RunPaths, str | None], Judged],
) -> RowReport:
    """`known`: runs that other rows have in common with this one are judged once."""
    placed = execution.placed.get(row.key)
    run = execution.folder(placed) if placed is not None else None
    if placed is None or run is None or not exists(run.events):
        skipped = execution.status_of_closed(row.key) is RowStatus.SKIPPED
        failed = execution.status_of_closed(row.key) is RowStatus.FAILED
        word = "skipped" if skipped else ("failed" if failed else _NOT_RUN)
        line = unrun_row(
            row.key, column, word, not_run.get(row.key, ""), title=row.title, steps=row.settings.train.steps
        )
        return RowReport(row, Outcome.SKIPPED if skipped else Outcome.PENDING, failed, line)
    standing = execution.standing(placed, ())
    given_up = standing.status is RowStatus.FAILED and standing.rejects
    gave_up = (standing.reason or not_run.get(row.key)) if given_up else None
    if (run, gave_up) not in known:
        known[run, gave_up] = judge_run(execution, run, gave_up)
    found = known[run, gave_up]
    outcome = _OF_DECISION[found.verdict.decision] if found.ended else Outcome.UNDECIDED
    line = run_row(row.key, column, found, title=row.title)
    return RowReport(row, outcome, found.evidence.broke_down, line, "", run, gave_up, found, found.verdict)


def _shown_settings(row: Row, execution: PlanExecution) -> RunSettings:
    """The row's settings as the plan writes them, with the architecture that it was given."""
    placed = execution.placed.get(row.key)
    if placed is None:
        return row.settings
    used = placed.resolved.settings
    return replace(
        row.settings,
        adapter=replace(row.settings.adapter, target_modules=used.adapter.target_modules),
        train=replace(row.settings.train, accumulation=used.train.accumulation),
    )
