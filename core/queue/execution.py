"""One submission being worked on: where the run of each row of its plan stands, and what comes next."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from core.errors import UserError
from core.manifests.hashing import HashCache
from core.plan.fits import in_rows
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
from core.plan.rows import all_rows, shown
from core.plan.schema import Row
from core.queue.forecast import ALWAYS_BYTES, MEASURED, MOST_BEYOND_FORECAST, forecast_bytes, measured_bytes
from core.queue.recorded_runs import RecordedRun, RecordedRuns, recorded_run
from core.queue.requests import RowRequests, Submission
from core.queue.retry_policy import RetryDecision, decide
from core.queue.run_assignment import AssignedRun, RunAssignment
from core.queue.run_status import Facts, RunStatusCache
from core.queue.state import SubmissionState
from core.runs.contents import Comparison, Content
from core.runs.paths import RunPaths, RunsFolder
from core.runs.preflight import preflight
from core.runs.resolve import Progress, Resolver
from core.system.files import exists, is_file


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
        self.rows = all_rows(self.plan)
        self.state = SubmissionState() if state is None else state
        self.closed: dict[str, str] = {}
        """Row key → why it does not run: its condition did not hold, or its data cannot be used."""
        self.stopped: str | None = None
        """Why nothing more is started for it; None to go on."""
        self.elsewhere: set[str] = set()
        """Identities of runs whose lock an invisible process holds."""
        self.requests = RowRequests()
        """What is held, removed and moved; set anew by whoever reads the queue."""
        self._run_status = RunStatusCache(self.plan.gate)
        self.recorded = RecordedRuns(runs)
        """What the runs of the folder say they are."""
        self._resolver = Resolver(self.plan, hashes, progress, asks_hub=trains)
        recorded = None if trains else self.recorded
        self._assignment = RunAssignment(self.plan, self.rows, runs, self._resolver, self._run_status, recorded)
        self.assigned = self._assignment.assigned
        """Row key → its run, as far as it can be told."""
        self.unusable = self._assignment.unusable
        """Row key → why its model or data cannot be used here, as `assign_all` found."""
        self.replaced = self._assignment.replaced
        """Name of a run that ran out of memory → the row that goes on with another run."""
        self._closed: dict[str, RowState] = {}

    def assign_all(self) -> dict[str, UserError]:
        """Find the run of every row whose settings are final; the rows whose model or data cannot be used, and why."""
        return self._assignment.assign_all()

    def unfit(self, rows: Collection[Row]) -> list[str]:
        """What the trainers of these rows would refuse, told before one starts; not of runs that have begun."""
        problems: dict[str, list[str]] = {}
        for row in rows:
            assigned = self.assigned.get(row.key)
            if assigned is None or exists(self.folder(assigned).events):
                continue
            for problem in preflight(assigned.resolved.settings):
                problems.setdefault(problem, []).append(row.key)
        return in_rows(problems, len(rows))

    def assign_decided(self) -> None:
        """Find the runs of rows that take their architecture from others, where those have ended."""
        self._assignment.fit_all()
        for row in self.rows:
            if not row.adapter_from:
                continue
            sources = [o for o in self.rows if o.experiment in row.adapter_from and o.confirms is None]
            known = self.known(())
            ended = all(self._settled(other, known.get(other.key, RowState())) for other in sources)
            if row.key not in self.assigned and row.key not in self._closed and ended:
                settings, _ = resolved_settings(row, self.rows, known)
                try:
                    self._assignment.assign(row, settings)
                except UserError:
                    continue  # its data cannot be used, as `assign_all` says
        self.known(())  # finds the repeats of what was accepted

    def _settled(self, row: Row, state: RowState) -> bool:
        """Whether those that take their architecture from this row need not wait for it, as the queue sees it."""
        never = not self.submission.asks_for(row) and state.status in (RowStatus.QUEUED, RowStatus.HELD)
        return never or state.status in ENDED

    def shown_rows(self) -> list[Row]:
        """The rows that the submission asks for; drawn ones and repeats once they have a run, or are closed."""
        wanted = [row for row in self.rows if self.submission.asks_for(row)]
        begun = {key for key, _ in self.started()} | set(self.closed)
        return shown(wanted, begun | self._assignment.due)

    def known(self, running: Collection[str]) -> dict[str, RowState]:
        """What is known of the rows, by key; the others are queued."""
        repeats = self._assignment.repeats
        found = {key: self._state(assigned, running) for key, assigned in self.assigned.items() if key not in repeats}
        self._assignment.assign_repeats(found)
        found |= {key: self._state(self.assigned[key], running) for key in repeats if key in self.assigned}
        for key in self.requests.held:
            state = found.get(key, RowState())
            if state.status is RowStatus.QUEUED:
                found[key] = replace(state, status=RowStatus.HELD)
        return found | self._closed

    def next_action(self, running: Collection[str]) -> Action:
        """What to do now. `running`: identities of the runs that have a living trainer here."""
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

    def assign(self, start: Start) -> AssignedRun | None:
        """The run of a row that is to be started. None: it cannot run, and the row is closed as failed."""
        try:
            assigned = self._assignment.assign(start.row, start.settings)
        except UserError as error:
            self.close(start.row.key, f"cannot run: {error}")
            return None
        if unfit := self.unfit([start.row]):
            self.close(start.row.key, f"cannot run: {'; '.join(unfit)}")
            return None
        return assigned

    def close(self, key: str, reason: str) -> None:
        """The row counts as failed in this submission: its trainer cannot even be started."""
        self._closed[key] = RowState(RowStatus.FAILED)
        self.closed[key] = reason

    def skip(self, key: str, reason: str) -> None:
        """The row's condition does not hold: it will not run in this submission."""
        self._closed[key] = RowState(RowStatus.SKIPPED)
        self.closed[key] = reason

    def retry(self, key: str) -> None:
        """Somebody asked to try the row again: what ended it so far no longer counts.

        Its run, where it is not placed yet, is what was said of it: rows that depend on others are placed later.
        """
        self.reopen(key)
        run = self.folder(self.assigned[key]).name if key in self.assigned else self.state.runs.get(key)
        if run is not None:
            self._assignment.retried.add(run)

    def reopen(self, key: str) -> None:
        """The row may run after all."""
        self._closed.pop(key, None)
        self.closed.pop(key, None)

    def status_of_closed(self, key: str) -> RowStatus | None:
        """SKIPPED or FAILED, where the row does not run in this submission."""
        return self._closed[key].status if key in self._closed else None

    def folder(self, assigned: AssignedRun) -> RunPaths:
        """The run's folder: the one that has its identity, whoever made it, else the row's own."""
        return self._assignment.folder(assigned)

    def others(self, assigned: AssignedRun) -> tuple[RunPaths, ...]:
        """Older runs that answer for the row as well as its own does."""
        return self._assignment.others(assigned)

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
        return self._assignment.started()

    def at_work(self, running: Collection[str]) -> dict[str, tuple[AssignedRun, RunPaths]]:
        """Row key → a run that is being worked on by a trainer that is not in `running`, each run once."""
        found: dict[str, tuple[AssignedRun, RunPaths]] = {}
        for key, assigned in self.assigned.items():
            known = {*running, *(other.identity for other, _ in found.values())}
            run = self.folder(assigned)
            if assigned.identity not in known and is_file(run.config) and self._run_status.at(run).outcome == "running":
                found[key] = assigned, run
        return found

    def decision(self, assigned: AssignedRun, running: Collection[str]) -> RetryDecision:
        """Where the row's run stands."""
        if assigned.identity in running:
            return RetryDecision(RowStatus.RUNNING)
        run = self.folder(assigned)
        found = self._run_status.at(run)
        if found.outcome == "running" or assigned.identity in self.elsewhere:
            return RetryDecision(RowStatus.RUNNING, "its trainer runs elsewhere")
        ends, retried = self.state.ends_of(run.name), run.name in self._assignment.retried
        return decide(found.outcome, ends, self.plan.queue.retries, retried=retried)

    def spent(self, running: Collection[str]) -> Spent:
        """Runs of this plan that were started, by whatever submission, and their hours."""
        hours: dict[str, float] = {}
        counted: set[str] = set()
        for assigned in self.assigned.values():
            run = self.folder(assigned)
            found = self._run_status.at(run)
            if not found.attempts and assigned.identity not in running:
                continue
            hours[run.name] = found.hours
            # A run that waits to be resumed was paid for once; it must not stand in its own way.
            if self.decision(assigned, running).status is not RowStatus.QUEUED:
                counted.add(run.name)
        for name in self.replaced:
            hours[name] = self._run_status.at(RunPaths(self.runs.root / name)).hours
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

    def facts(self, run: RunPaths) -> Facts:
        """What the run's result says to conditions, by the plan's thresholds."""
        return dict(self._run_status.facts(run))

    def not_run(self, finished: Finished) -> dict[str, str]:
        """Row key → why the row has no result, for the run matrix."""
        reasons = dict(finished.not_run) | self.closed
        for key, assigned in self.assigned.items():
            now = self.decision(assigned, ())
            if now.status is RowStatus.FAILED and now.reason:
                reasons.setdefault(key, now.reason)
        return reasons

    def _state(self, assigned: AssignedRun, running: Collection[str]) -> RowState:
        status = self.decision(assigned, running).status
        facts = self._run_status.facts(self.folder(assigned)) if status is RowStatus.DONE else {}
        return RowState(status, facts, assigned.resolved.settings)

    def ended(self, run: RunPaths) -> None:
        """A trainer of a run of this plan has ended, for whichever submission it was started."""
        self.forget(run)
        self._assignment.fit_all()

    def forget(self, run: RunPaths) -> None:
        """Look at the run's folder again: somebody worked in it."""
        self._run_status.forget(run)
