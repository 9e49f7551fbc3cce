"""The queue row by row, and the one word for each that every face says. Only reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from core.errors import PlanError
from core.plan.expand import matches
from core.plan.read import parse_plan
from core.plan.rows import all_rows, shown
from core.plan.schema import Row, RunSettings
from core.queue.ended_runs import EndedRuns, is_taken_up
from core.queue.journal import records
from core.queue.state import KILLED, KILLED_REASON, QueueState
from core.queue.wishes import QueueDb, RowWishes, Submission, Target
from core.runs.paths import RunPaths, RunsFolder
from core.runs.snapshot import RunState
from core.runs.store import state_and_reason
from core.system.locks import is_held

_TOLD = {"stop": "asked to stop: it finishes its step and saves", "kill": "is being killed"}
_ACTIVE = frozenset(state.value for state in RunState if state.active)
_PENDING = frozenset({RunState.QUEUED.value, RunState.DONE.value, *_ACTIVE})
_ENDED = frozenset({KILLED, *(state.value for state in RunState)}) - _PENDING


class EntryState(StrEnum):
    """States that only the queue knows; else a row with a run has a RunState's value, or `killed`."""

    QUEUED = "queued"
    """It is started, or its run is resumed, when its turn comes."""
    WAITING = "waiting"
    """As queued, and the queue has said why it does not start."""
    HELD = "held"
    REMOVED = "removed"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of an open submission."""

    submission: Submission
    row: Row
    state: str
    reason: str = ""
    """Why it waits, is held, or does not run; where it runs; how its run ended."""
    run: RunPaths | None = None
    asked: str = ""
    """What its trainer was asked for."""
    again: bool = False
    """Whether somebody asked to try it again, whatever became of it."""
    ending: bool = False
    """Whether somebody asked its submission to end: only the plan, submitted again, goes on with it."""

    @property
    def target(self) -> Target:
        """What a wish for this row names."""
        return Target(self.submission.id, self.row.key)

    @property
    def active(self) -> bool:
        """Whether a trainer works on it."""
        return self.run is not None and self.state in _ACTIVE

    @property
    def resting(self) -> int:
        """0: it goes on by itself; 1: when it is released; 2: it does not."""
        if self.active or self.state in (EntryState.QUEUED, EntryState.WAITING):
            return 0
        return 1 if self.state == EntryState.HELD else 2

    @property
    def retriable(self) -> bool:
        """Whether `retry` means anything: it ended, or is held, removed or closed; of one that goes on it forgives."""
        waits = self.state in (EntryState.QUEUED, EntryState.WAITING)
        return not self.active and self.state != RunState.DONE and (self.run is not None or not waits)

    def is_of(self, settings: RunSettings | None, run: str | None) -> bool:
        """Whether a row of its plan with its key, as the plan is now, is this one: an edited row is another run.

        `settings` of that row, None: not known; `run`: its folder, where it has one.
        """
        if self.run is not None and run is not None:
            return self.run.name == run
        return settings is None or settings == self.row.settings


@dataclass(frozen=True)
class Listing:
    """The open submissions in the order of working, their rows in the order of starting, and why nothing starts."""

    submissions: tuple[Submission, ...] = ()
    entries: tuple[Entry, ...] = ()
    paused: str = ""
    """Why the queue has paused by itself; empty: it has not."""

    def find(self, plan: str | None, key: str, run: str | None, settings: RunSettings | None = None) -> Entry | None:
        """The entry of a plan's row, by what `Entry.is_of` takes.

        Where the plan is queued twice: the one that has the row's run before others, what goes on before what does not.
        """
        hits = [entry for entry in self._of_row.get((plan, key), ()) if entry.is_of(settings, run)]
        return min(hits, key=lambda entry: (entry.run is None, entry.resting), default=None)

    @cached_property
    def _of_row(self) -> dict[tuple[str | None, str], list[Entry]]:
        found: dict[tuple[str | None, str], list[Entry]] = {}
        for entry in self.entries:
            found.setdefault((entry.submission.plan_path, entry.row.key), []).append(entry)
        return found


def listing(runs: RunsFolder, db: QueueDb, state: QueueState | None = None) -> Listing:
    """The queue as it stands. Resolves nothing: no manifest and no audio is read.

    `state`: what the journal comes to, where that is known already.
    """
    asked = db.asked()
    state = QueueState(records(runs.decisions)) if state is None else state
    supervised = is_held(runs.supervisor_lock)
    entries: list[Entry] = []
    for submission in asked.submissions:
        wished = asked.rows.get(submission.id, RowWishes())
        # Beside those of which the journal tells, those that no supervisor has heard yet.
        unheard = {str(w.row) for w in asked.wishes if w.kind == "retry" and w.submission == submission.id}
        found = _Rows(runs, submission, wished, state, unheard, supervised).entries()
        entries += [replace(entry, ending=True) for entry in found] if submission.id in asked.ending else found
    return Listing(tuple(asked.submissions), tuple(entries), state.pause.reason)


def listed(runs: RunsFolder, state: QueueState | None = None) -> Listing:
    """The same; empty where no queue was ever made, and none is made for it."""
    return listing(runs, QueueDb(runs.queue_db), state) if runs.queue_db.exists() else Listing()


def told(state: str, reason: str, entry: Entry | None, *, killed: bool = False) -> tuple[str, str]:
    """The word for a row and why, for every face.

    `state`, `reason`: as the run's folder tells them, or the plan, to who asks; `entry`: what the queue says, where
    the row is in it; `killed`: whether somebody had the run's last trainer killed.
    """
    if killed and state == RunState.CRASHED:
        state, reason = KILLED, KILLED_REASON
    active = state in _ACTIVE
    outdated = entry is not None and entry.active and entry.state != RunState.STARTING
    if entry is None or active or outdated or state == RunState.DONE:
        return state, (entry.asked if entry is not None and active else "") or reason
    queued = entry.state in (EntryState.QUEUED, EntryState.WAITING)
    if queued and entry.run is None and (word := state.replace(" ", "_")) in _ENDED:
        # No supervisor has looked at the row yet, but what it will make of it is known.
        if not is_taken_up(word, again=entry.again):
            return state, reason
        reason = f"{state} before"
    return str(entry.state), entry.reason or ("" if entry.active else reason)


class _Rows:
    """The rows of one submission."""

    def __init__(
        self,
        runs: RunsFolder,
        submission: Submission,
        wishes: RowWishes,
        state: QueueState,
        unheard: set[str],
        supervised: bool,
    ) -> None:
        """`unheard`: rows that somebody asked to try again, of which no supervisor has spoken."""
        self._runs, self._submission, self._wishes, self._state = runs, submission, wishes, state
        self._said = state.of(submission.id)
        self._retried = self._said.retried | unheard
        again = frozenset(self._said.runs.get(row, "") for row in self._retried)
        self._ended = EndedRuns(state, self._said, again, supervised=supervised)

    def entries(self) -> list[Entry]:
        """In the order of starting."""
        submission, wishes, said = self._submission, self._wishes, self._said
        try:
            plan = parse_plan(submission.plan_text, submission.plan_path, submission.overrides)
            rows = all_rows(plan)
        except PlanError:
            return []  # the supervisor says so, and closes it
        self._ended.retries = plan.queue.retries
        begun = {*said.runs, *said.closed, *wishes.held, *wishes.removed}
        wanted = [row for row in shown(rows, begun) if not submission.only or matches(row, submission.only)]
        wanted.sort(key=lambda row: wishes.ranks.get(row.key, 0.0))
        return [self._entry(row) for row in wanted]

    def _entry(self, row: Row) -> Entry:
        runs = self._said.runs
        entry = Entry(self._submission, row, EntryState.QUEUED, again=row.key in self._retried)
        if row.key not in runs:
            return self._not_started(self._wished(entry) or entry)
        run = RunPaths(self._runs.root / runs[row.key])
        state, reason = state_and_reason(run)
        if not state.active and run.name in self._state.trainers:
            if self._ended.is_starting(run):
                state, reason = RunState.STARTING, ""
            else:
                state, reason = state_and_reason(run)  # its trainer may have said its first word since
        entry = replace(entry, run=run, state=state.value, reason=reason)
        if state is RunState.DONE:
            return entry
        if state.active:
            return self._at_work(entry)
        if (wished := self._wished(entry)) is not None:
            return wished
        word, why = self._ended.told(run, state, reason)
        return self._not_started(replace(entry, state=word, reason=why))

    def _wished(self, entry: Entry) -> Entry | None:
        """Whatever became of its run: what somebody wished for the row, or why the queue has closed it."""
        key = entry.row.key
        if key in self._wishes.removed:
            return replace(entry, state=EntryState.REMOVED, reason="")
        if key in self._wishes.held:
            return replace(entry, state=EntryState.HELD, reason=self._wishes.held[key])
        if key in self._said.closed:
            word, reason = self._said.closed[key]
            return replace(entry, state=word, reason=reason)
        return None

    def _not_started(self, entry: Entry) -> Entry:
        """A queued row with what it waits for, by the word of the supervisor at work, or why it never starts."""
        paused = f"paused: {self._state.pause.reason}" if self._state.pause.reason else ""
        over = f"nothing more is started: {self._said.over}" if self._said.over else ""
        waits = over or ((self._said.waits or paused) if self._ended.supervised else "")
        if entry.state != EntryState.QUEUED or not waits:
            return entry
        return replace(entry, state=EntryState.WAITING, reason="; ".join(filter(None, (waits, entry.reason))))

    def _at_work(self, entry: Entry) -> Entry:
        name = "" if entry.run is None else entry.run.name
        asked = _TOLD.get(self._state.asked_of(name) or "", "")
        place = self._state.place_of(name)
        return replace(entry, reason=", ".join(filter(None, (place, entry.reason, asked))), asked=asked)
