"""What came of a plan: for each row its run, its verdict and its line in the run matrix. Only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from core.plan.identity import run_identity
from core.plan.row_state import RowStatus
from core.plan.schema import Row, RunSettings
from core.queue.asked_ends import killed_among
from core.queue.entries import Listing, listed, told
from core.queue.execution import PlanExecution
from core.queue.last_words import LastWords, Word, last_words
from core.queue.placement import Placed
from core.runs.documents import read_config
from core.runs.evidence import Gathered, gather
from core.runs.matrix import MatrixRow, differing_settings, history_row, run_row, unrun_row
from core.runs.paths import RunPaths, RunsFolder
from core.runs.reason import reason
from core.runs.resolve import Resolved
from core.runs.snapshot import RunSnapshot, RunState
from core.runs.store import read_run
from core.scoring.evidence import Decision, Thresholds, Verdict
from core.scoring.verdict import judge, thresholds_of


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
    snapshot: RunSnapshot | None = None
    gathered: Gathered | None = None
    verdict: Verdict | None = None
    thresholds: Thresholds | None = None


_OF_DECISION = {
    Decision.ACCEPTED: Outcome.ACCEPTED,
    Decision.REJECTED: Outcome.REJECTED,
    Decision.UNDECIDED: Outcome.UNDECIDED,
}
Judged = tuple[RunSnapshot, Gathered, Verdict]
_NOT_RUN = "not run"
_FAILED = (RunState.FAILED, RunState.OUT_OF_MEMORY)


def report(execution: PlanExecution, not_run: Mapping[str, str]) -> list[RowReport]:
    """The wanted rows in the order of the plan. `not_run`: row key → why it was not run, or was given up."""
    execution.place_decided()
    rows = execution.shown_rows()
    columns = differing_settings([asdict(_shown_settings(row, execution)) for row in rows])
    judged: dict[tuple[RunPaths, str | None], Judged] = {}
    reports = [_row(execution, row, column, not_run, judged) for row, column in zip(rows, columns, strict=True)]
    return [_with_seeds(item, reports) for item in _told(execution, reports)]


def _told(execution: PlanExecution, reports: Collection[RowReport]) -> list[RowReport]:
    """With the queue's word for each row, and why."""
    queue, killed = Listing(), set[str]()
    crashed = {r.run.name for r in reports if r.run is not None and r.matrix.status == RunState.CRASHED}
    # What cannot be read, on a read-only disk, say, costs a word: runs are judged all the same.
    with suppress(sqlite3.Error, OSError, ValueError):
        queue = listed(execution.runs)
    with suppress(OSError):
        killed = killed_among(execution.runs.decisions, crashed)
    found: list[RowReport] = []
    words: LastWords | None = None
    for bare in reports:
        item = bare
        run = None if item.run is None else item.run.name
        entry = queue.find(execution.submission.plan_path, item.row.key, run, item.row.settings)
        if entry is None and item.snapshot is None and item.matrix.status == _NOT_RUN and not item.matrix.note:
            with suppress(OSError):
                words = words or last_words(execution.runs)
                item = _with_last_word(item, words.of(execution.submission.plan_path, item.row))
        own = item.matrix.note if item.snapshot is None else reason(item.snapshot)
        word, why = told(item.matrix.status, own, entry, killed=run in killed)
        note = why if item.snapshot is None else item.matrix.note
        found.append(replace(item, why=why, matrix=replace(item.matrix, status=word, note=note)))
    return found


def _with_last_word(item: RowReport, word: Word | None) -> RowReport:
    if word is None:
        return item
    outcome = Outcome.SKIPPED if word[0] == Outcome.SKIPPED else item.outcome
    return replace(item, outcome=outcome, matrix=replace(item.matrix, status=word[0], note=word[1]))


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


def place_recorded(execution: PlanExecution, runs: RunsFolder) -> list[str]:
    """Find the runs of rows whose data is not here, by the hashes that the runs themselves record.

    For judging copied run folders without their audio. Returns the keys of the rows that were found so.
    """
    missing = [row for row in execution.rows if row.key not in execution.placed and row.confirms is None]
    found: list[str] = []
    if not missing:
        return found
    for run in runs.runs():
        config, _ = read_config(run)
        hashes = (config or {}).get("hashes")
        if config is None or not isinstance(hashes, dict):
            continue
        for row in missing:
            settings = _with_recorded_modules(row, config)
            if run_identity(settings, hashes) == config.get("identity"):
                resolved = Resolved(settings, hashes, str(config["identity"]))
                execution.placed[row.key] = Placed(row, resolved)
                found.append(row.key)
    return found


def taken_as_recorded(execution: PlanExecution, key: str) -> str | None:
    """Why the hashes of a row's model and data are those that its run records, where they could not be made again."""
    problem = execution.unusable.get(key)
    if problem is None or key not in execution.placed:
        return None
    first, *more = str(problem).splitlines()
    extra = f" (and {len(more)} more problems)" if more else ""
    return f"model and data are taken as the run records them, for they cannot be hashed here: {first}{extra}"


def judge_run(execution: PlanExecution, run: RunPaths, gave_up: str | None = None) -> Judged:
    """The run now, its evidence, and its verdict by the plan's thresholds."""
    snapshot = read_run(run)
    thresholds = thresholds_of(asdict(execution.plan.gate))
    gathered = gather(snapshot, run, gave_up, thresholds)
    return snapshot, gathered, judge(gathered.evidence, thresholds)


def _row(
    execution: PlanExecution,
    row: Row,
    column: str,
    not_run: Mapping[str, str],
    judged: dict[tuple[RunPaths, str | None], Judged],
) -> RowReport:
    """`judged`: runs that other rows have in common with this one are judged once."""
    placed = execution.placed.get(row.key)
    run = execution.folder(placed) if placed is not None else None
    if placed is None or run is None or not run.events.exists():
        skipped = execution.status_of_closed(row.key) is RowStatus.SKIPPED
        failed = execution.status_of_closed(row.key) is RowStatus.FAILED
        word = "skipped" if skipped else ("failed" if failed else _NOT_RUN)
        line = unrun_row(
            row.key, column, word, not_run.get(row.key, ""), title=row.title, steps=row.settings.train.steps
        )
        return RowReport(row, Outcome.SKIPPED if skipped else Outcome.PENDING, failed, line)
    standing = execution.standing(placed, ())
    gave_up = (standing.reason or not_run.get(row.key)) if standing.status is RowStatus.FAILED else None
    if (run, gave_up) not in judged:
        judged[run, gave_up] = judge_run(execution, run, gave_up)
    snapshot, gathered, verdict = judged[run, gave_up]
    ended = snapshot.state is RunState.DONE or snapshot.state.broken or gave_up is not None
    outcome = _OF_DECISION[verdict.decision] if ended else Outcome.UNDECIDED
    failed = snapshot.state in _FAILED or (gave_up is not None and not snapshot.state.broken)
    thresholds = thresholds_of(asdict(execution.plan.gate))
    line = run_row(row.key, column, snapshot, gathered, verdict, title=row.title, thresholds=thresholds)
    if (taken := taken_as_recorded(execution, row.key)) is not None:
        line = replace(line, evidence=(*line.evidence, ("Not hashed again", taken)))
    return RowReport(row, outcome, failed, line, "", run, gave_up, snapshot, gathered, verdict, thresholds)


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


def _with_recorded_modules(row: Row, config: Mapping[str, object]) -> RunSettings:
    if not row.adapter_from:
        return row.settings
    settings = config.get("settings")
    adapter = settings.get("adapter") if isinstance(settings, dict) else None
    modules = adapter.get("target_modules") if isinstance(adapter, dict) else None
    if not isinstance(modules, list) or config.get("experiment") != row.experiment:
        return row.settings
    return replace(row.settings, adapter=replace(row.settings.adapter, target_modules=tuple(modules)))
