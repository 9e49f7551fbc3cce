"""One submission being worked on: which run each row of its plan is, where it stands, and what comes next."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.errors import UserError
from core.plan.expand import matches
from core.plan.next_action import Action, Finished, Spent, Start, next_action, resolved_settings
from core.plan.read import parse_plan
from core.plan.row_state import ENDED, RowState, RowStatus
from core.plan.rows import all_rows, shown, with_seed
from core.plan.schema import Row
from core.queue.forecast import forecast_bytes
from core.queue.how_ended import outcome_of
from core.queue.standing import Ended, Standing, standing
from core.queue.wishes import RowWishes, Submission
from core.runs.evidence import gather
from core.runs.paths import RunPaths, RunsFolder
from core.runs.resolve import Progress, Resolved, Resolver
from core.runs.store import read_run
from core.scoring.outcome import outcome_facts
from core.scoring.verdict import judge, thresholds_of
from core.speech.hashing import HashCache

MOST_ACCUMULATION = 64
"""`queue.on_out_of_memory = "halve"` goes no further: then it is not the batch that does not fit."""
_BATCH_PHASES = ("training", "checkpointing")
_MEASURED = 8
"""Run folders that are measured to tell how much space the next one will take."""
Facts = dict[str, bool | float | None]


@dataclass(frozen=True, slots=True)
class Placed:
    """A row whose run is known by its identity; its folder is there once somebody has started it."""

    row: Row
    resolved: Resolved

    @property
    def identity(self) -> str:
        """Rows with equal identity share one run."""
        return self.resolved.identity


@dataclass(frozen=True, slots=True)
class Replaced:
    """A run that ran out of memory, and how its row goes on."""

    row: str
    accumulation: int
    """Of the run that takes its place."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the queue needs to know of a run folder."""

    outcome: str
    """How the newest attempt ended: done, stopped, diverged, …, crashed; queued: never started; running."""
    attempts: int
    hours: float
    phase: str | None


class PlanExecution:
    """The rows of one submitted plan. All but skips, ends and stops is read from the run folders."""

    def __init__(
        self, submission: Submission, runs: RunsFolder, hashes: HashCache, progress: Progress | None = None
    ) -> None:
        """PlanError when the text is no plan. `progress` hears of audio files that are read to hash them."""
        self.submission = submission
        self.runs = runs
        self.plan = parse_plan(submission.plan_text, submission.plan_path, submission.overrides)
        self.rows = all_rows(self.plan)
        self.ends: dict[str, list[Ended]] = {}
        """Run folder name → how the trainers ended that this submission started."""
        self.closed: dict[str, str] = {}
        """Row key → why it does not run: its condition did not hold, or its data cannot be used."""
        self.stopped: str | None = None
        """Why nothing more is started for it; None to go on."""
        self.elsewhere: set[str] = set()
        """Identities of runs whose lock an invisible process holds."""
        self.wishes = RowWishes()
        """What is held, removed and moved; set anew by whoever reads the queue."""
        self.forgiven: set[str] = set()
        """Names of the runs that are to be tried again, whatever became of them."""
        self.replaced: dict[str, Replaced] = {}
        """Name of a run that ran out of memory → the row that goes on with another run."""
        self.placed: dict[str, Placed] = {}
        """Row key → its run, as far as it can be told."""
        self.unusable: dict[str, UserError] = {}
        """Row key → why its model or data cannot be used here, as `place_all` found."""
        self._resolver = Resolver(self.plan, hashes, progress)
        self._closed: dict[str, RowState] = {}
        self._repeats = {row.key: row for row in self.rows if row.confirms is not None}
        self._repeated: dict[str, str] = {}
        """Key of a repeat → identity of the run that it repeats."""
        self._facts: dict[str, Facts] = {}
        self._looks: dict[str, Look] = {}
        self._folders: dict[str, RunPaths] = {}

    def place_all(self) -> dict[str, UserError]:
        """Find the run of every row whose settings are final: results that exist count from the start.

        Returns the rows whose model or data cannot be used, with the reason.
        """
        self.unusable = {}
        for row in self.rows:
            try:
                resolved = self._resolver.resolve(row.settings)
            except UserError as error:
                self.unusable[row.key] = error
                continue
            if not row.adapter_from and row.confirms is None:
                self.placed[row.key] = self._fitting(Placed(row, resolved))
        return self.unusable

    def place_decided(self) -> None:
        """Find the runs of rows that take their architecture from others, where those have ended."""
        self._fit_all()
        for row in self.rows:
            if not row.adapter_from:
                continue
            sources = [o.key for o in self.rows if o.experiment in row.adapter_from and o.confirms is None]
            known = self.known(())
            ended = all(known.get(key, RowState()).status in ENDED for key in sources)
            if row.key not in self.placed and row.key not in self._closed and ended:
                settings, _ = resolved_settings(row, self.rows, known)
                try:
                    self.placed[row.key] = self._fitting(Placed(row, self._resolver.resolve(settings)))
                except UserError:
                    continue  # its data cannot be used, as `place_all` says
        self.known(())  # finds the repeats of what was accepted

    def shown_rows(self) -> list[Row]:
        """The rows that the submission asks for; drawn ones and repeats once they have a run, or are closed."""
        only = self.submission.only
        wanted = [row for row in self.rows if not only or matches(row, only)]
        begun = {key for key, _ in self.started()} | set(self.closed)
        due = {row.key for row in wanted if row.confirms is not None and row.key in self.placed}
        return shown(wanted, begun | due)

    def known(self, running: Collection[str]) -> dict[str, RowState]:
        """What is known of the rows, by key; the others are queued."""
        found = {key: self._state(placed, running) for key, placed in self.placed.items() if key not in self._repeats}
        self._place_repeats(found)
        found |= {key: self._state(self.placed[key], running) for key in self._repeats if key in self.placed}
        for key in self.wishes.held:
            state = found.get(key, RowState())
            if state.status is RowStatus.QUEUED:
                found[key] = replace(state, status=RowStatus.HELD)
        return found | self._closed

    def next_action(self, running: Collection[str]) -> Action:
        """What to do now. `running`: identities of the runs that have a living trainer here."""
        only = self.submission.only or None
        return next_action(
            self.rows, self.known(running), self.plan.queue, self.spent(running), only, self.wishes.ranks
        )

    def place(self, start: Start) -> Placed | None:
        """The run of a row that is to be started. None: it cannot run, and the row is closed as failed."""
        try:
            placed = self._fitting(Placed(start.row, self._resolver.resolve(start.settings)))
        except UserError as error:
            self.close(start.row.key, f"cannot run: {error}")
            return None
        self.placed[start.row.key] = placed
        return placed

    def close(self, key: str, reason: str) -> None:
        """The row counts as failed in this submission: its trainer cannot even be started."""
        self._closed[key] = RowState(RowStatus.FAILED)
        self.closed[key] = reason

    def skip(self, key: str, reason: str) -> None:
        """The row's condition does not hold: it will not run in this submission."""
        self._closed[key] = RowState(RowStatus.SKIPPED)
        self.closed[key] = reason

    def retry(self, key: str) -> None:
        """Somebody asked to try the row again: what ended it so far no longer counts."""
        self._closed.pop(key, None)
        self.closed.pop(key, None)
        if key in self.placed:
            run = self.folder(self.placed[key])
            self.ends.pop(run.name, None)
            self.forgiven.add(run.name)

    def status_of_closed(self, key: str) -> RowStatus | None:
        """SKIPPED or FAILED, where the row does not run in this submission."""
        return self._closed[key].status if key in self._closed else None

    def folder(self, placed: Placed) -> RunPaths:
        """The run's folder: the one that has its identity, whoever made it, else the row's own."""
        found = self._folders.get(placed.identity) or self.runs.find(placed.identity)
        if found is None:
            return self.runs.run(placed.row.experiment, placed.identity)
        self._folders[placed.identity] = found  # folders are never renamed
        return found

    def started(self) -> list[tuple[str, RunPaths]]:
        """The rows that have a run folder, and which."""
        folders = [(key, self.folder(placed)) for key, placed in self.placed.items()]
        return [(key, run) for key, run in folders if run.config.is_file()]

    def at_work(self, running: Collection[str]) -> dict[str, tuple[Placed, RunPaths]]:
        """Row key → a run that is being worked on by a trainer that is not in `running`, each run once."""
        found: dict[str, tuple[Placed, RunPaths]] = {}
        for key, placed in self.placed.items():
            known = {*running, *(other.identity for other, _ in found.values())}
            run = self.folder(placed)
            if placed.identity not in known and run.config.is_file() and self._look(run).outcome == "running":
                found[key] = placed, run
        return found

    def standing(self, placed: Placed, running: Collection[str]) -> Standing:
        """Where the row's run stands."""
        if placed.identity in running:
            return Standing(RowStatus.RUNNING)
        run = self.folder(placed)
        look = self._look(run)
        if look.outcome == "running" or placed.identity in self.elsewhere:
            return Standing(RowStatus.RUNNING, "its trainer runs elsewhere")
        ends, forgiven = self.ends.get(run.name, ()), run.name in self.forgiven
        return standing(look.outcome, ends, self.plan.queue.retries, forgiven=forgiven)

    def spent(self, running: Collection[str]) -> Spent:
        """Runs of this plan that were started, by whatever submission, and their hours."""
        hours: dict[str, float] = {}
        counted: set[str] = set()
        for placed in self.placed.values():
            run = self.folder(placed)
            look = self._look(run)
            if not look.attempts and placed.identity not in running:
                continue
            hours[run.name] = look.hours
            # A run that waits to be resumed was paid for once; it must not stand in its own way.
            if self.standing(placed, running).status is not RowStatus.QUEUED:
                counted.add(run.name)
        for name in self.replaced:
            hours[name] = self._look(RunPaths(self.runs.root / name)).hours
            counted.add(name)
        return Spent(runs=len(counted), hours=sum(hours.values()))

    def hours_left(self, running: Collection[str]) -> float:
        """Until the budget is used up, if what runs now goes on."""
        count = sum(placed.identity in running for placed in self.placed.values())
        return (self.plan.queue.max_hours - self.spent(running).hours) / max(1, count)

    def expected_bytes(self, placed: Placed) -> int:
        """What this run will take on disk: by its settings, or by the plan's other runs where those took more."""
        measured = max((_size(self.folder(p)) for p in list(self.placed.values())[:_MEASURED]), default=0)
        return max(measured, forecast_bytes(placed.resolved.settings))

    def facts(self, run: RunPaths) -> Facts:
        """What the run's result says to conditions, by the plan's thresholds."""
        return dict(self._facts_of(run))

    def not_run(self, finished: Finished) -> dict[str, str]:
        """Row key → why the row has no result, for the run matrix."""
        reasons = dict(finished.not_run) | self.closed
        for key, placed in self.placed.items():
            now = self.standing(placed, ())
            if now.status is RowStatus.FAILED and now.reason:
                reasons.setdefault(key, now.reason)
        return reasons

    def _place_repeats(self, found: Mapping[str, RowState]) -> None:
        """Find the runs that repeat with other seeds what was accepted."""
        for key, row in self._repeats.items():
            base = self.placed.get(str(row.confirms))
            state = found.get(str(row.confirms))
            if base is None or state is None or state.facts.get("accepted") is not True:
                self.placed.pop(key, None)
            elif self._repeated.get(key) != base.identity or key not in self.placed:
                settings = with_seed(base.resolved.settings, row.settings.train.seed)
                self.placed[key] = self._fitting(Placed(row, self._resolver.resolve(settings)))
                self._repeated[key] = base.identity

    def _fit_all(self) -> None:
        for key, placed in self.placed.items():
            self.placed[key] = self._fitting(placed)

    def _fitting(self, placed: Placed) -> Placed:
        """The run that takes the place of one that ran out of memory in training, if the plan wants that.

        Derived from the run folders each time, so that whoever looks comes to the same run.
        """
        while self.plan.queue.on_out_of_memory == "halve":
            settings = placed.resolved.settings
            accumulation = 2 * settings.train.accumulation
            run = self.folder(placed)
            look = self._look(run)
            fits = look.outcome != "out_of_memory" or look.phase not in _BATCH_PHASES
            if fits or run.name in self.forgiven or accumulation > MOST_ACCUMULATION:
                break
            self.replaced[run.name] = Replaced(placed.row.key, accumulation)
            smaller = replace(settings, train=replace(settings.train, accumulation=accumulation))
            placed = Placed(placed.row, self._resolver.resolve(smaller))
        return placed

    def _state(self, placed: Placed, running: Collection[str]) -> RowState:
        status = self.standing(placed, running).status
        facts = self._facts_of(self.folder(placed)) if status is RowStatus.DONE else {}
        return RowState(status, facts, placed.resolved.settings)

    def _facts_of(self, run: RunPaths) -> Facts:
        if run.name not in self._facts:
            snapshot = read_run(run)
            thresholds = thresholds_of(asdict(self.plan.gate))
            evidence = gather(snapshot, run, thresholds=thresholds).evidence
            verdict = judge(evidence, thresholds)
            self._facts[run.name] = outcome_facts(evidence, verdict, snapshot.steps.seconds_per_step)
        return self._facts[run.name]

    def _look(self, run: RunPaths) -> Look:
        if run.name in self._looks:
            return self._looks[run.name]
        snapshot = read_run(run)
        look = Look(outcome_of(snapshot.state), len(snapshot.attempts), snapshot.duration_s / 3600, snapshot.phase)
        if look.outcome not in ("running", "queued"):
            self._looks[run.name] = look  # until `ended` says that another attempt was made
        return look

    def ended(self, run: RunPaths, end: Ended) -> None:
        """A trainer that was started for this submission has ended."""
        self.ends.setdefault(run.name, []).append(end)
        self.forget(run)
        self._fit_all()

    def forget(self, run: RunPaths) -> None:
        """Look at the run's folder again: somebody worked in it."""
        self._looks.pop(run.name, None)
        self._facts.pop(run.name, None)


def _size(run: RunPaths) -> int:
    files = (Path(folder) / name for folder, _, names in os.walk(run.root) for name in names)
    return sum(file.lstat().st_size for file in files if file.exists())
