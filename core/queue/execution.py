"""One submission being worked on: which run each row of its plan is, where that stands, and what comes next.

A row's run is told by what it is made of, and by what became of the runs that it depends on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from core.errors import UserError
from core.manifests.hashing import HashCache
from core.plan.fits import in_rows
from core.plan.identity import run_identity
from core.plan.next_action import (
    ENDED,
    Action,
    Finished,
    RowState,
    RowStatus,
    Spent,
    Start,
    next_action,
    resolved_settings,
)
from core.plan.read import parse_plan
from core.plan.rows import EXPERIMENT, NEXT_DRAW, all_rows, complete, shown, with_seed, with_values
from core.plan.schema import Row, RunSettings
from core.queue.forecast import ALWAYS_BYTES, MEASURED, MOST_BEYOND_FORECAST, forecast_bytes, measured_bytes, unfit
from core.queue.journal import Halve
from core.queue.requests import RowRequests, Submission
from core.queue.retry_policy import RetryDecision, decide
from core.queue.run_status import Match, RecordedRun, RecordedRuns, RunStatusCache, newest_first, recorded_run
from core.queue.search import FAILED, Result, draw, drawn_by, result_of
from core.queue.state import OVER, SubmissionState
from core.runs.contents import Comparison, Content
from core.runs.judged import judged
from core.runs.paths import RunPaths, RunsFolder
from core.runs.resolve import Progress, Resolved, ResolveError, Resolver
from core.runs.store import read_run
from core.scoring.verdict import thresholds_of
from core.system.files import exists, is_file

MOST_ACCUMULATION = 64
"""`queue.on_out_of_memory = "halve"` goes no further: then it is not the batch that does not fit."""
REMOVED = "removed from the queue"
_BATCH_PHASES = ("training", "checkpointing")


@dataclass(frozen=True, slots=True)
class AssignedRun:
    """A row whose run is known by its identity; its folder is there once somebody has started it."""

    row: Row
    resolved: Resolved
    match: Match | None = None
    """The run that was found by what it recorded, where the row's data or model cannot be hashed here."""

    @property
    def identity(self) -> str:
        """Rows with equal identity share one run."""
        return self.resolved.identity


class PlanExecution:
    """The rows of one submitted plan. All but skips, ends and stops is read from the run folders."""

    def __init__(
        self,
        submission: Submission,
        runs: RunsFolder,
        hashes: HashCache,
        progress: Progress | None = None,
        *,
        trains: bool = False,
        state: SubmissionState | None = None,
    ) -> None:
        """PlanError when the text is no plan. `progress` hears of audio files that are read to hash them.

        `state`: what the queue's journal has come to, and will, for this submission; None: nobody works on it.

        `trains`: for what starts runs. Then rows whose data or model cannot be hashed have no run, and the hub may be
        asked for the commit of a model. Without it such rows have the runs whose records are of what they name.
        """
        self.submission = submission
        self.runs = runs
        self.plan = parse_plan(submission.plan_text, submission.plan_path, submission.overrides)
        self._draws = drawn_by(runs, self.plan)
        self.rows = all_rows(self.plan, self._draws)
        self.state = SubmissionState() if state is None else state
        self.elsewhere: set[str] = set()
        """Identities of runs whose lock an invisible process holds."""
        self.requests = RowRequests()
        """What is held, removed and moved; set anew by whoever reads the queue."""
        self.run_status = RunStatusCache(self.plan.gate, self.state.dead_attempts)
        self.recorded = RecordedRuns(runs)
        """What the runs of the folder say they are."""
        self.assigned: dict[str, AssignedRun] = {}
        """Row key → its run, as far as it can be told."""
        self.replaced: dict[str, Halve] = {}
        """Name of a run that ran out of memory → how its row goes on with another run."""
        self._trains = trains
        self._resolver = Resolver(self.plan, hashes, progress, asks_hub=trains)
        self._repeats = {row.key: row for row in self.rows if row.confirms is not None}
        """Those with other seeds, by row key."""
        self._due: set[str] = set()
        """Keys of the repeats of what was accepted, whether or not their runs can be told."""
        self._repeated: dict[str, str] = {}
        """Key of a repeat → identity of the run that it repeats."""
        self._folders: dict[str, list[RunPaths]] = {}

    @property
    def stopped(self) -> str | None:
        """Why nothing more is started for it, where it was asked to end as a whole; None to go on."""
        return OVER.get(self.state.asked.get(None, ""))

    @property
    def closed(self) -> dict[str, tuple[RowStatus, str]]:
        """Row key → SKIPPED or FAILED, and why the row does not run in this submission."""
        told = {key: (RowStatus(word), why) for key, (word, why) in self.state.closed.items()}
        return told | dict.fromkeys(self.requests.removed, (RowStatus.SKIPPED, REMOVED))

    def assign_all(self) -> dict[str, UserError]:
        """Find the run of every row whose settings are final: results that exist count from the start.

        Returns the rows whose model or data cannot be used, with the reason.
        """
        self._read_draws()
        unusable: dict[str, UserError] = {}
        for row in self.rows:
            try:
                self._resolver.resolve(row.settings)
            except UserError as error:
                unusable[row.key] = error
                if self._trains:
                    continue
            if not row.adapter_from and row.confirms is None and row.key != NEXT_DRAW:
                with suppress(UserError):  # which is told already
                    self._assign(row, row.settings)
        return unusable

    def asks_for(self, key: str) -> bool:
        """Whether the submission asks for the row with this key, which a search may just have drawn."""
        self._read_draws()
        return any(row.key == key and self.submission.asks_for(row) for row in self.rows)

    def _read_draws(self) -> None:
        """The rows that a search which learns has drawn by now, whoever asked it, with their runs."""
        draws = drawn_by(self.runs, self.plan)
        if draws == self._draws:
            return
        self._draws = draws
        earlier = {row.key for row in self.rows}
        self.rows = all_rows(self.plan, draws)
        self._repeats = {row.key: row for row in self.rows if row.confirms is not None}
        for row in self.rows:
            if row.key not in earlier and row.confirms is None:
                with suppress(UserError):  # it cannot run, as is said when its turn comes
                    self._assign(row, row.settings)

    def draw(self, running: Collection[str]) -> bool:
        """Let the search that learns draw one more row, by what became of the others; whether there is a new one.

        UserError: it cannot.
        """
        known, results = self.known(running), dict[int, Result]()
        for row in self.rows:
            number = row.key.removeprefix(f"{EXPERIMENT}#")
            if row.drawn and row.confirms is None and number.isdecimal():
                state, assigned = known.get(row.key, RowState()), self.assigned.get(row.key)
                if state.status in ENDED:
                    results[int(number)] = FAILED if assigned is None else self._result(self.folder(assigned))
        there = {run_identity(row.settings, {}) for row in self.rows if row.key != NEXT_DRAW}

        def is_new(values: Mapping[str, Any]) -> bool:
            return run_identity(complete(with_values(self.plan.defaults, values)), {}) not in there

        earlier = {row.key for row in self.rows}
        drawn = draw(self.runs, self.plan, results, is_new)
        self._read_draws()
        return drawn and any(row.key not in earlier for row in self.rows)

    def _result(self, run: RunPaths) -> Result:
        found = judged(read_run(run), thresholds_of(asdict(self.plan.gate)))
        return result_of(found.evidence, found.verdict, self.run_status.at(run).outcome)

    def unfit(self, rows: Collection[Row]) -> list[str]:
        """What the trainers of these rows would refuse, told before one starts; not of runs that have begun."""
        problems: dict[str, list[str]] = {}
        for row in rows:
            assigned = self.assigned.get(row.key)
            if assigned is None or exists(self.folder(assigned).events):
                continue
            for problem in unfit(assigned.resolved.settings, self.plan.queue.executor):
                problems.setdefault(problem, []).append(row.key)
        return in_rows(problems, len(rows))

    def assign_decided(self) -> None:
        """Find the runs of rows that take their architecture from others, where those have ended."""
        self._read_draws()
        self.fit_all()
        closed = self.closed
        for row in self.rows:
            if not row.adapter_from:
                continue
            sources = [o for o in self.rows if o.experiment in row.adapter_from and o.confirms is None]
            known = self.known(())
            ended = all(self._settled(other, known.get(other.key, RowState())) for other in sources)
            if row.key not in self.assigned and row.key not in closed and ended:
                settings, _ = resolved_settings(row, self.rows, known)
                try:
                    self._assign(row, settings)
                except UserError:
                    continue  # its data cannot be used, as `assign_all` says
        self.known(())  # finds the repeats of what was accepted

    def _settled(self, row: Row, state: RowState) -> bool:
        """Whether those that take their architecture from this row need not wait for it, as the queue sees it."""
        never = not self.submission.asks_for(row) and state.status in (RowStatus.QUEUED, RowStatus.HELD)
        return never or state.status in ENDED

    def shown_rows(self) -> list[Row]:
        """The rows that the submission asks for; drawn ones and repeats once they have a run, or are closed."""
        self._read_draws()
        wanted = [row for row in self.rows if self.submission.asks_for(row)]
        begun = {key for key, _ in self.started()} | set(self.closed)
        return shown(wanted, begun | self._due)

    def known(self, running: Collection[str]) -> dict[str, RowState]:
        """What is known of the rows, by key; the others are queued."""
        own = {key: assigned for key, assigned in self.assigned.items() if key not in self._repeats}
        found = {key: self._state(assigned, running) for key, assigned in own.items()}
        self._assign_repeats(found)
        found |= {key: self._state(self.assigned[key], running) for key in self._repeats if key in self.assigned}
        for key in self.requests.held:
            state = found.get(key, RowState())
            if state.status is RowStatus.QUEUED:
                found[key] = replace(state, status=RowStatus.HELD)
        return found | {key: RowState(status) for key, (status, _) in self.closed.items()}

    def next_action(self, running: Collection[str]) -> Action:
        """What to do now. `running`: identities of the runs that have a living trainer here."""
        self._read_draws()
        only = self.submission.only or None
        return next_action(
            self.rows, self.known(running), self.plan.queue, self.spent(running), only, self.requests.ranks
        )

    def wants(self, run: RunPaths, running: Collection[str]) -> str | None:
        """The row that is this run, if it would be started now: were the run not at work, and all other rows held."""
        known = self.known(running)
        mine = [key for key, assigned in self.assigned.items() if self.folder(assigned).name == run.name]
        mine = [key for key in mine if known[key].status is RowStatus.RUNNING and key not in self.requests.held]
        if not mine or self.stopped is not None:
            return None
        for row in self.rows:
            state = known.get(row.key, RowState())
            if row.key in mine:
                known[row.key] = replace(state, status=RowStatus.QUEUED)
            elif state.status is RowStatus.QUEUED:
                known[row.key] = replace(state, status=RowStatus.HELD)
        spent = self.spent(running)
        spent = replace(spent, runs=spent.runs - 1)  # the run was paid for; it must not stand in its own way
        action = next_action(self.rows, known, self.plan.queue, spent, self.submission.only or None)
        return action.row.key if isinstance(action, Start) else None

    def assign(self, start: Start) -> AssignedRun:
        """The run of a row that is to be started. UserError: it cannot run."""
        assigned = self._assign(start.row, start.settings)
        if unfit := self.unfit([start.row]):
            raise UserError("; ".join(unfit))
        return assigned

    def folder(self, assigned: AssignedRun) -> RunPaths:
        """The run's folder: the newest that has its identity, whoever made it, else the row's own."""
        if assigned.match is not None:
            return assigned.match.run
        found = self._folders.get(assigned.identity) or newest_first(self.runs.find_all(assigned.identity))
        if not found:
            return self.runs.run(assigned.row.experiment, assigned.identity)
        self._folders[assigned.identity] = found  # folders are never renamed
        return found[0]

    def others(self, assigned: AssignedRun) -> tuple[RunPaths, ...]:
        """Older runs that answer for the row as well as its own does."""
        if assigned.match is not None:
            return assigned.match.others
        return tuple(run for run in self.runs.find_all(assigned.identity) if run != self.folder(assigned))

    def comparison(self, assigned: AssignedRun) -> Comparison:
        """What the row names with what its run recorded."""
        if assigned.match is not None:
            return assigned.match.comparison
        recorded = self.recorded_run(assigned)
        if recorded is None:
            return Comparison((), ("its run.json cannot be read",))
        return recorded.compared(assigned.resolved.settings, self.contents(assigned.row))

    def recorded_run(self, assigned: AssignedRun) -> RecordedRun | None:
        """What the `run.json` of the row's run says; None where it cannot be read."""
        return recorded_run(self.folder(assigned))

    def contents(self, row: Row) -> dict[str, Content]:
        """The model and the manifests that the row names, as far as they can be hashed here."""
        return self._resolver.contents(row.settings)

    def started(self) -> list[tuple[str, RunPaths]]:
        """The rows that have a run folder, and which."""
        folders = [(key, self.folder(assigned)) for key, assigned in self.assigned.items()]
        return [(key, run) for key, run in folders if is_file(run.config)]

    def at_work(self, running: Collection[str]) -> dict[str, tuple[AssignedRun, RunPaths]]:
        """Row key → a run that is being worked on by a trainer that is not in `running`, each run once."""
        found: dict[str, tuple[AssignedRun, RunPaths]] = {}
        for key, assigned in self.assigned.items():
            known = {*running, *(other.identity for other, _ in found.values())}
            run = self.folder(assigned)
            if assigned.identity not in known and is_file(run.config) and self.run_status.at(run).outcome == "running":
                found[key] = assigned, run
        return found

    def decision(self, assigned: AssignedRun, running: Collection[str]) -> RetryDecision:
        """Where the row's run stands."""
        if assigned.identity in running:
            return RetryDecision(RowStatus.RUNNING)
        run = self.folder(assigned)
        found = self.run_status.at(run)
        if found.outcome == "running" or assigned.identity in self.elsewhere:
            return RetryDecision(RowStatus.RUNNING, "its trainer runs elsewhere")
        ends, retried = self.state.ends_of(run.name), self.state.is_retried(run.name, assigned.row.key)
        return decide(found.outcome, ends, self.plan.queue.retries, retried=retried)

    def spent(self, running: Collection[str]) -> Spent:
        """Runs of this plan that were started, by whatever submission, and their hours."""
        hours: dict[str, float] = {}
        counted: set[str] = set()
        for assigned in self.assigned.values():
            run = self.folder(assigned)
            found = self.run_status.at(run)
            if not found.attempts and assigned.identity not in running:
                continue
            hours[run.name] = found.hours
            # A run that waits to be resumed was paid for once; it must not stand in its own way.
            if self.decision(assigned, running).status is not RowStatus.QUEUED:
                counted.add(run.name)
        for name in self.replaced:
            hours[name] = self.run_status.at(RunPaths(self.runs.root / name)).hours
            counted.add(name)
        return Spent(runs=len(counted), hours=sum(hours.values()))

    def hours_left(self, running: Collection[str]) -> float:
        """Until the budget is used up, if what runs now goes on."""
        count = sum(assigned.identity in running for assigned in self.assigned.values())
        return (self.plan.queue.max_hours - self.spent(running).hours) / max(1, count)

    def expected_bytes(self, assigned: AssignedRun) -> int:
        """What this run will take on disk: by its settings, and by how far those of others were from what they took."""
        own, share = forecast_bytes(assigned.resolved.settings), 1.0
        for other in list(self.assigned.values())[:MEASURED]:
            foreseen = max(forecast_bytes(other.resolved.settings), ALWAYS_BYTES)
            share = max(share, measured_bytes(self.folder(other)) / foreseen)
        return int(own * min(share, MOST_BEYOND_FORECAST))

    def not_run(self, finished: Finished) -> dict[str, str]:
        """Row key → why the row has no result, for the run matrix."""
        reasons = dict(finished.not_run) | {key: why for key, (_, why) in self.closed.items()}
        for key, assigned in self.assigned.items():
            now = self.decision(assigned, ())
            if now.status is RowStatus.FAILED and now.reason:
                reasons.setdefault(key, now.reason)
        return reasons

    def _state(self, assigned: AssignedRun, running: Collection[str]) -> RowState:
        status = self.decision(assigned, running).status
        facts = self.run_status.facts(self.folder(assigned)) if status is RowStatus.DONE else {}
        return RowState(status, facts, assigned.resolved.settings)

    def fit_all(self) -> None:
        """Look again which runs take the place of those that ran out of memory."""
        for key, assigned in self.assigned.items():
            self.assigned[key] = self._fitting(assigned)

    def forget(self, run: RunPaths) -> None:
        """Look at the run's folder again: somebody worked in it."""
        self.run_status.forget(run)

    def _assign(self, row: Row, settings: RunSettings) -> AssignedRun:
        """Find the run of a row whose settings have been decided.

        UserError: its model or data cannot be used here, nor did anybody make a run of them that can be told.
        """
        assigned = self._fitting(self._of(row, settings))
        self.assigned[row.key] = assigned
        return assigned

    def _assign_repeats(self, found: Mapping[str, RowState]) -> None:
        """Find the runs that repeat with other seeds what was accepted."""
        for key, row in self._repeats.items():
            base = self.assigned.get(str(row.confirms))
            state = found.get(str(row.confirms))
            if base is None or state is None or state.facts.get("accepted") is not True:
                self.assigned.pop(key, None)
                self._due.discard(key)
                continue
            self._due.add(key)
            if self._repeated.get(key) != base.identity or key not in self.assigned:
                self.assigned.pop(key, None)
                settings = with_seed(base.resolved.settings, row.settings.train.seed)
                with suppress(ResolveError):  # data that are not here, and nobody has made that repeat
                    self._assign(row, settings)
                    self._repeated[key] = base.identity

    def _fitting(self, assigned: AssignedRun) -> AssignedRun:
        """The run that takes the place of one that ran out of memory in training, if the plan wants that.

        Derived from the run folders each time, so that whoever looks comes to the same run.
        """
        while self.plan.queue.on_out_of_memory == "halve":
            settings = assigned.resolved.settings
            accumulation = 2 * settings.train.accumulation
            run = self.folder(assigned)
            found = self.run_status.at(run)
            fits = found.outcome != "out_of_memory" or found.phase not in _BATCH_PHASES
            if fits or self.state.is_retried(run.name, assigned.row.key) or accumulation > MOST_ACCUMULATION:
                break
            smaller = replace(settings, train=replace(settings.train, accumulation=accumulation))
            try:
                next_one = self._of(assigned.row, smaller)
            except ResolveError:
                break  # its data are not here, and nobody has gone on with it
            key, name = assigned.row.key, self.submission.id
            self.replaced[run.name] = Halve(submission=name, row=key, run=run.name, accumulation=accumulation)
            assigned = next_one
        return assigned

    def _of(self, row: Row, settings: RunSettings) -> AssignedRun:
        """The run of these settings: by its identity, or by what the runs that are there recorded."""
        try:
            return AssignedRun(row, self._resolver.resolve(settings))
        except ResolveError:
            if self._trains:
                raise
            contents = self._resolver.contents(settings)
            found = self.recorded.match(settings, contents)
            if found is None:
                raise
            absolute = self._resolver.absolute(settings, contents)
            return AssignedRun(row, Resolved(absolute, dict(found.hashes), found.identity), found)
