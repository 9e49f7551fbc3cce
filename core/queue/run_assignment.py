"""Which run each row of a plan is: by what it is made of, and by what became of the runs that it depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from core.errors import UserError
from core.plan.next_action import RowState
from core.plan.rows import with_seed
from core.plan.schema import Plan, Row, RunSettings
from core.queue.recorded_runs import Match, RecordedRuns, newest_first
from core.queue.run_status import RunStatusCache
from core.runs.paths import RunPaths, RunsFolder
from core.runs.resolve import Resolved, ResolveError, Resolver
from core.system.files import is_file

MOST_ACCUMULATION = 64
"""`queue.on_out_of_memory = "halve"` goes no further: then it is not the batch that does not fit."""
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


@dataclass(frozen=True, slots=True)
class Replaced:
    """A run that ran out of memory, and how its row goes on."""

    row: str
    accumulation: int
    """Of the run that takes its place."""


class RunAssignment:
    """Of the rows of one plan."""

    def __init__(
        self,
        plan: Plan,
        rows: Sequence[Row],
        runs: RunsFolder,
        resolver: Resolver,
        run_status: RunStatusCache,
        recorded: RecordedRuns | None,
    ) -> None:
        """`recorded`: for whoever trains nothing, the runs that rows may be whose data cannot be hashed here."""
        self.assigned: dict[str, AssignedRun] = {}
        """Row key → its run, as far as it can be told."""
        self.unusable: dict[str, UserError] = {}
        """Row key → why its model or data cannot be used here, as `assign_all` found."""
        self.replaced: dict[str, Replaced] = {}
        """Name of a run that ran out of memory → the row that goes on with another run."""
        self.retried: set[str] = set()
        """Names of the runs that are to be tried again as they are, whatever became of them."""
        self.repeats = {row.key: row for row in rows if row.confirms is not None}
        """Those with other seeds, by row key."""
        self.due: set[str] = set()
        """Keys of the repeats of what was accepted, whether or not their runs can be told."""
        self._plan, self._rows, self._runs = plan, rows, runs
        self._resolver, self._run_status, self._recorded = resolver, run_status, recorded
        self._repeated: dict[str, str] = {}
        """Key of a repeat → identity of the run that it repeats."""
        self._folders: dict[str, list[RunPaths]] = {}

    def assign_all(self) -> dict[str, UserError]:
        """Find the run of every row whose settings are final: results that exist count from the start.

        Returns the rows whose model or data cannot be used, with the reason.
        """
        self.unusable.clear()
        for row in self._rows:
            try:
                self._resolver.resolve(row.settings)
            except UserError as error:
                self.unusable[row.key] = error
                if self._recorded is None:
                    continue
            if not row.adapter_from and row.confirms is None:
                with suppress(UserError):  # which is in `unusable`
                    self.assign(row, row.settings)
        return self.unusable

    def assign(self, row: Row, settings: RunSettings) -> AssignedRun:
        """Find the run of a row whose settings have been decided.

        UserError: its model or data cannot be used here, nor did anybody make a run of them that can be told.
        """
        assigned = self._fitting(self._of(row, settings))
        self.assigned[row.key] = assigned
        return assigned

    def assign_repeats(self, found: Mapping[str, RowState]) -> None:
        """Find the runs that repeat with other seeds what was accepted."""
        for key, row in self.repeats.items():
            base = self.assigned.get(str(row.confirms))
            state = found.get(str(row.confirms))
            if base is None or state is None or state.facts.get("accepted") is not True:
                self.assigned.pop(key, None)
                self.due.discard(key)
                continue
            self.due.add(key)
            if self._repeated.get(key) != base.identity or key not in self.assigned:
                self.assigned.pop(key, None)
                settings = with_seed(base.resolved.settings, row.settings.train.seed)
                with suppress(ResolveError):  # data that are not here, and nobody has made that repeat
                    self.assign(row, settings)
                    self._repeated[key] = base.identity

    def fit_all(self) -> None:
        """Look again which runs take the place of those that ran out of memory."""
        for key, assigned in self.assigned.items():
            self.assigned[key] = self._fitting(assigned)

    def folder(self, assigned: AssignedRun) -> RunPaths:
        """The run's folder: the newest that has its identity, whoever made it, else the row's own."""
        if assigned.match is not None:
            return assigned.match.run
        found = self._folders.get(assigned.identity) or newest_first(self._runs.find_all(assigned.identity))
        if not found:
            return self._runs.run(assigned.row.experiment, assigned.identity)
        self._folders[assigned.identity] = found  # folders are never renamed
        return found[0]

    def others(self, assigned: AssignedRun) -> tuple[RunPaths, ...]:
        """Older runs that answer for the row as well as its own does."""
        if assigned.match is not None:
            return assigned.match.others
        return tuple(run for run in self._runs.find_all(assigned.identity) if run != self.folder(assigned))

    def started(self) -> list[tuple[str, RunPaths]]:
        """The rows that have a run folder, and which."""
        folders = [(key, self.folder(assigned)) for key, assigned in self.assigned.items()]
        return [(key, run) for key, run in folders if is_file(run.config)]

    def _fitting(self, assigned: AssignedRun) -> AssignedRun:
        """The run that takes the place of one that ran out of memory in training, if the plan wants that.

        Derived from the run folders each time, so that whoever looks comes to the same run.
        """
        while self._plan.queue.on_out_of_memory == "halve":
            settings = assigned.resolved.settings
            accumulation = 2 * settings.train.accumulation
            run = self.folder(assigned)
            found = self._run_status.at(run)
            fits = found.outcome != "out_of_memory" or found.phase not in _BATCH_PHASES
            if fits or run.name in self.retried or accumulation > MOST_ACCUMULATION:
                break
            smaller = replace(settings, train=replace(settings.train, accumulation=accumulation))
            try:
                next_one = self._of(assigned.row, smaller)
            except ResolveError:
                break  # its data are not here, and nobody has gone on with it
            self.replaced[run.name] = Replaced(assigned.row.key, accumulation)
            assigned = next_one
        return assigned

    def _of(self, row: Row, settings: RunSettings) -> AssignedRun:
        """The run of these settings: by its identity, or by what the runs that are there recorded."""
        try:
            return AssignedRun(row, self._resolver.resolve(settings))
        except ResolveError:
            if self._recorded is None:
                raise
            contents = self._resolver.contents(settings)
            found = self._recorded.match(settings, contents)
            if found is None:
                raise
            absolute = self._resolver.absolute(settings, contents)
            return AssignedRun(row, Resolved(absolute, dict(found.hashes), found.identity), found)
