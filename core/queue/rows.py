"""Where each row stands and why, for every face: the one place that puts the queue's state and a run's into words.

*Queued* is said only where the supervisor will start it: that is decided by the function by which it decides
(`core.queue.retry_policy`). Only reads.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from core.errors import PlanError, RunFolderError, UserError
from core.plan.conditions import parse_condition
from core.plan.next_action import RowStatus, dependencies, waits_for
from core.plan.read import parse_plan
from core.plan.rows import all_rows, shown
from core.plan.schema import Plan, RunSettings
from core.plan.schema import Row as PlanRow
from core.queue.journal import Exit, Start, records
from core.queue.requests import QueueDb, QueueSnapshot, RowRequests, Submission, Target
from core.queue.retry_policy import COUNTED, LOST, decide
from core.queue.run_status import BEFORE_FIRST_EVENT, outcome_of, outcome_when_dead
from core.queue.search import drawn_by, learns
from core.queue.state import QueueState, SubmissionState
from core.runs.judged import judged
from core.runs.paths import RunPaths, RunsFolder
from core.runs.row import Outcome, Queued, Row, of_plan, told_by_plan
from core.runs.run_figures import of_run
from core.runs.snapshot import LOST_S, RunSnapshot, reason
from core.runs.status import Status
from core.runs.store import read_run, state_and_reason
from core.scoring.verdict import thresholds_of
from core.system.files import exists
from core.system.locks import is_claimed, is_held
from core.system.process import identity_from_json, is_alive

if TYPE_CHECKING:
    from core.queue.execution import PlanExecution

NOBODY = "no supervisor is at work to start it again"
_ASKED = {"stop": "asked to stop: it finishes its step and saves", "kill": "is being killed"}
_KILLED = "on request; what was saved last can be resumed"
_StatusAndReason = tuple[Status, str]


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A row of an open submission, with all that the queue knows of it."""

    submission: Submission
    row: PlanRow
    state: SubmissionState
    requested: RowRequests
    retries: int
    """`queue.retries` of its plan."""
    unheard: frozenset[str]
    """Rows of the submission that somebody asked to try again, and of which no supervisor has heard yet."""
    ending: bool
    obstacle: str = ""
    """What keeps it from being started now, were it its turn: its own first obstacle."""

    @property
    def run(self) -> str | None:
        """Folder of the run that it is, as the queue has said."""
        return self.state.runs.get(self.row.key)

    def is_of(self, settings: RunSettings | None, run: str | None) -> bool:
        """Whether a row of its plan with its key, as the plan is now, is this one: an edited row is another run.

        `settings` of that row, None: not known; `run`: its folder, where it has one.
        """
        if self.run is not None and run is not None:
            return self.run == run
        return settings is None or settings == self.row.settings

    def is_retried(self, run: str) -> bool:
        """Whether somebody asked to try this run again, in whichever row of the submission."""
        return self.state.is_retried(run, self.row.key, self.unheard)


class QueueRows:
    """The queue at one moment: its open submissions, their rows, and the word for any row that a face shows."""

    def __init__(self, runs: RunsFolder, state: QueueState, snapshot: QueueSnapshot | None = None) -> None:
        """`snapshot`: what its file holds; None where no queue was ever made, or it cannot be read."""
        self._runs, self._state = runs, state
        self.submissions = () if snapshot is None else tuple(snapshot.submissions)
        """The open ones, in the order of working."""
        self.paused = state.pause.reason if snapshot is not None else ""
        """Why the queue has paused by itself; empty: it has not."""
        self.supervised = is_held(runs.supervisor_lock) or is_claimed(runs.decisions)
        """Whether a supervisor is at work."""
        self._of_row: dict[tuple[str, str], list[QueueEntry]] = {}
        self._entries: dict[tuple[str, str], QueueEntry] = {}
        self._rows: dict[tuple[str, str], Row] = {}
        if snapshot is not None:
            for submission in snapshot.submissions:
                self._take(_entries(runs, submission, snapshot, state))

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the open submissions, in the order of starting."""
        return tuple(self._rows.values())

    def entries(self, submission: str) -> list[tuple[QueueEntry, Row]]:
        """Of an open submission: all that the queue knows of its rows, and the word for each, in that order."""
        return [(entry, self._rows[key]) for key, entry in self._entries.items() if key[0] == submission]

    def plan(self, submission: Submission) -> tuple[Plan, Sequence[PlanRow]] | None:
        """The plan of an open submission, and all its rows; None: it is none."""
        return _planned(self._runs, submission)

    def row(self, bare: Row, plan: str | None) -> Row:
        """A row with the word for it. `bare`: as its plan and its run's files tell it; `plan`: path of its plan."""
        bare = self._told(bare)
        if bare.run is not None and bare.status is Status.QUEUED:
            # A folder in which no trainer has ever worked says nothing.
            told = self.row(replace(bare, run=None, status=Status.NOT_RUN), plan)
            return replace(told, run=bare.run, outcome=bare.outcome)  # undecided where it may not be read
        entry = self._entry_of(bare, plan)
        if entry is not None:
            return self._at(entry, bare)
        if bare.run is not None:
            status, why = self._ended(bare)
            return replace(bare, status=status, reason=why)
        last = None
        if bare.status is Status.NOT_RUN and not bare.reason and bare.wanted is not None:
            last = self._last(bare.wanted, plan)
        return _told(bare if last is None else replace(bare, status=last[0], reason=last[1]))

    def listed(self, row: Row) -> Row | None:
        """The row of the queue that this one is, as it was when the queue was listed."""
        return self._rows.get((row.queued.submission, row.key))

    def judged(self, row: Row) -> Row:
        """A row of the queue with the verdict on its run, by its submission's plan: that reads all files of the run."""
        entry = self._entries.get((row.queued.submission, row.key))
        if entry is None or row.run is None:
            return row
        found = _planned(self._runs, entry.submission)
        if found is None:
            return row
        told = of_run(row, judged(read_run(row.run), thresholds_of(asdict(found[0].gate))))
        return replace(told, status=row.status, reason=row.reason)

    def is_of(self, queued: Row, planned: Row | None, run: RunPaths | None) -> bool:
        """Whether a row of the queue is this one of its plan as that is now, which is this run where it has one."""
        settings = None if planned is None or planned.wanted is None else planned.wanted.settings
        entry = self._entries[queued.queued.submission, queued.key]
        return planned is not None and entry.is_of(settings, _name(run))

    # Which row of the queue a row is

    def _entry_of(self, bare: Row, plan: str | None) -> QueueEntry | None:
        """Where its plan is queued twice: that which has its run before others, what goes on before what does not."""
        if bare.queued.submission:
            return self._entries.get((bare.queued.submission, bare.key))
        if plan is None:
            return None
        run, settings = _name(bare.run), None if bare.wanted is None else bare.wanted.settings
        hits = [entry for entry in self._of_row.get((plan, bare.key), ()) if entry.is_of(settings, run)]
        if len(hits) < 2:
            return next(iter(hits), None)
        return min(hits, key=lambda entry: (entry.run is None, resting(self._at(entry, bare))))

    def _take(self, entries: Sequence[QueueEntry]) -> None:
        """The rows of one submission, each with its own first obstacle."""
        begun = self._begun(entries)
        bare = [self._bare(entry, begun.get(entry.row.key)) for entry in entries]
        statuses = [(entry.row, self._word(entry, row)[0]) for entry, row in zip(entries, bare, strict=True)]
        first = ""
        for plain, row, (_, status) in zip(entries, bare, statuses, strict=True):
            waited_for = _waited_for(plain.row, statuses)
            entry = replace(plain, obstacle=self._obstacle(plain, waited_for, first))
            self._of_row.setdefault((entry.submission.plan_path, entry.row.key), []).append(entry)
            self._entries[entry.submission.id, entry.row.key] = entry
            self._rows[entry.submission.id, entry.row.key] = self._at(entry, row)
            if not first and status is Status.QUEUED and not waited_for:
                first = entry.row.key

    def _begun(self, entries: Sequence[QueueEntry]) -> Mapping[str, RunPaths]:
        """Row → its run, of those that are there already and that no supervisor has named yet."""
        named = {entry.run for entry in entries}
        if None not in named or all(run.name in named for run in self._folders):
            return {}
        return _begun_runs(self._runs, entries[0].submission)

    @cached_property
    def _folders(self) -> Sequence[RunPaths]:
        return self._runs.runs()

    def _bare(self, entry: QueueEntry, begun: RunPaths | None) -> Row:
        """The row as its plan and its run's folder tell it. `begun`: its run, as far as the queue has not said."""
        bare = of_plan(entry.row, entry.row.label, of=f"queue:{entry.submission.id}")
        bare = replace(bare, planned=False)
        name = entry.run or _name(begun)
        return bare if name is None else self._looked_at(bare, name)

    def _looked_at(self, bare: Row, name: str) -> Row:
        """The row with its run as its folder tells it now; without the figures that take long to read."""
        run = RunPaths(self._runs.root / name)
        if name in self._state.trainers or self._state.dead_attempts(name):
            return self._told(seen(bare, read_run(run)))
        state, why = state_and_reason(run)
        return replace(bare, run=run, status=state, reason=why)

    def _told(self, row: Row) -> Row:
        """The row; what seems to be at work, in a process that nobody here sees, has ended where the queue knows so."""
        dead = self._state.dead_attempts(_name(row.run) or "")
        if not row.status.active or not dead or row.figures.attempts > dead:
            return row
        return replace(row, status=Status.CRASHED, reason="its job on the cluster ended without a last word")

    # The words

    def _at(self, entry: QueueEntry, bare: Row) -> Row:
        """The row of an open submission."""
        known = bare
        if bare.run is None and entry.run is not None:
            known = self._looked_at(bare, entry.run)  # the face could not tell which run it is
        queued = Queued(entry.submission.id, entry.submission.plan_path, ending=entry.ending)
        if bare.status is Status.UNREAD:
            listed = self._rows[entry.submission.id, entry.row.key]
            return replace(bare, status=listed.status, reason=listed.reason, queued=listed.queued)
        status, why = self._word(entry, known)
        if status.active:
            queued = replace(queued, asked=self._asked_of(known))
        return _told(replace(bare, status=status, reason=why, queued=queued))

    def _word(self, entry: QueueEntry, seen: Row) -> _StatusAndReason:  # noqa: PLR0911 - one return a case
        run = _name(seen.run)
        if seen.status is Status.DONE:
            return seen.status, ""
        if run is not None and (waits := self._state.job_waits(run, seen.figures.attempts)):
            # Whatever the attempt before it said last: the job was queued again with its node's failure, say.
            return Status.WAITING, ", ".join(filter(None, (waits, self._asked_of(seen))))
        if run is not None and (seen.status.active or self._is_starting(run, seen.figures.attempts)):
            own = seen.reason if seen.status.active else ""
            why = ", ".join(filter(None, (self._state.device_of(run), own, self._asked_of(seen))))
            return (seen.status if seen.status.active else Status.STARTING), why
        requested = _requested(entry)
        if requested is not None:
            return requested
        status, why = (Status.QUEUED, "") if run is None else self._ended_in(entry, run, seen)
        if status != Status.QUEUED:
            return status, why
        if entry.obstacle:
            return Status.WAITING, "; ".join(filter(None, (entry.obstacle, why)))
        return status, why

    def _asked_of(self, row: Row) -> str:
        """What the trainer of its run was asked for, in words."""
        return _ASKED.get(self._state.asked_of(_name(row.run) or "") or "", "")

    def _is_starting(self, run: str, attempts: int) -> bool:
        """Whether the trainer that was started last lives and has said nothing yet: its imports take seconds.

        Where nobody here can tell whether it lives, it does as long as such a trainer may be silent.
        """
        begun = self._state.trainers.get(run)
        process = None if begun is None else identity_from_json(begun.process)
        alive = False if process is None else is_alive(process)
        if begun is not None and begun.job is not None:
            return self._state.job_starts(run, attempts)
        if begun is None or alive is False or (alive is None and time.time() - begun.time > LOST_S):
            return False
        return attempts <= begun.attempts_before

    def _ended(self, bare: Row) -> _StatusAndReason:
        """A run without a trainer, whoever has it; that it was killed only the queue knows."""
        if bare.status is Status.CRASHED and self._state.is_killed(_name(bare.run) or ""):
            return Status.KILLED, _KILLED
        return bare.status, bare.reason

    def _ended_in(self, entry: QueueEntry, run: str, seen: Row) -> _StatusAndReason:
        """A run without a trainer that a submission has: as it ended, or queued if it is started again."""
        ends = self._ends(entry, run, seen)
        status, why = self._ended(seen)
        if status is Status.QUEUED:
            if not ends:
                return status, why
            message = ends[-1].message or BEFORE_FIRST_EVENT
            if ends[-1].outcome == LOST:
                return Status.FAILED, message
            status, why = Status.CRASHED, f"its trainer ended: {message}"
            if self._state.is_killed(run):
                status, why = Status.KILLED, _KILLED
        no = self._not_again(entry, run, seen, ends)
        if no is not None:
            return status, "; ".join(filter(None, (why, no)))
        how = f" ({why})" if why and status is not Status.KILLED else ""
        halved = None if entry.is_retried(run) else entry.state.halves.get(run)
        again = "is started again" if halved is None else f"is run again with accumulation {halved}"
        return Status.QUEUED, f"{status.text} before{how}, {again}"

    def _ends(self, entry: QueueEntry, run: str, seen: Row) -> list[Exit]:
        """How its trainers ended for this submission: also the one that died, and nobody has written so down yet."""
        ends, begun = entry.state.ends_of(run), self._state.trainers.get(run)
        if begun is not None:
            asked = self._state.asked_of(run) is not None
            ends.append(_unwritten(begun, seen, asked=asked))
        return ends

    def _not_again(self, entry: QueueEntry, run: str, seen: Row, ends: Sequence[Exit]) -> str | None:
        """Why it is not started again; empty where its own last word says so. None: it is."""
        state = entry.state
        if state.over:
            return f"nothing more is started: {state.over}"
        if stopped := state.stopped(run):
            return stopped
        retried = entry.is_retried(run)
        now = decide(outcome_of(seen.status), ends, entry.retries, retried=retried)
        if now.status is not RowStatus.QUEUED and (retried or run not in state.halves):
            return now.reason if not ends or ends[-1].outcome in COUNTED else ""
        return None if self.supervised else NOBODY

    # Why a row is not started now

    def _obstacle(self, entry: QueueEntry, waited_for: Sequence[str], first: str) -> str:
        """`first`: the row that comes before all others that have nothing else to wait for; empty: this one does.

        What the queue waits for nobody knows while no supervisor is at work.
        """
        if entry.state.over:
            return f"nothing more is started: {entry.state.over}"
        if not self.supervised:
            return ""
        if self._state.pause.reason:
            return f"paused: {self._state.pause.reason}"
        if waited_for:
            return waits_for(waited_for)
        reason = "" if entry.state.wait is None else entry.state.wait.reason
        return f"{first} comes first: {reason}" if reason and first else reason

    # What was said last of a row that is in no queue

    def _last(self, row: PlanRow, plan: str | None) -> _StatusAndReason | None:
        """By the newest submission that asked for the row as it is now: an edited row is other work."""
        mine = self._state.of_plan(plan) if plan is not None else []
        if not any(state.last_reason(row.key) for _, state in mine):
            return None
        for name, state in mine:
            earlier = _asked_for(self._runs, name).get(row.key)
            if earlier is not None and _work(earlier) == _work(row):
                last = state.last_reason(row.key)
                return None if last is None else (Status(last[0]), last[1])
        return None


def queue_rows(runs: RunsFolder) -> QueueRows:
    """The queue as it stands. Nothing is made where no queue was; sqlite3.Error, OSError where it cannot be read."""
    snapshot = QueueDb(runs.queue_db).snapshot() if exists(runs.queue_db) else None
    return QueueRows(runs, QueueState(records(runs.decisions)), snapshot)


def _begun_runs(runs: RunsFolder, submission: Submission) -> Mapping[str, RunPaths]:
    """Row → its run, as far as that can be told in a moment: audio that was never hashed is not read for it."""
    try:
        execution = _execution(runs, submission)
    except (UserError, OSError):
        return {}
    return {key: run for key, run in execution.started() if exists(run.events)}


@lru_cache(maxsize=8)
def _execution(runs: RunsFolder, submission: Submission) -> PlanExecution:
    from core.manifests.hashing import HashCache
    from core.queue.execution import PlanExecution  # most looks at the queue need none of it
    from core.runs.resolve import ResolveError

    def too_long(manifest: str, done: int, total: int) -> None:
        if done < total:
            raise ResolveError(f"data.{manifest}: not hashed yet")

    execution = PlanExecution(submission, runs, HashCache(runs.hash_cache), too_long)
    execution.assign_all()
    return execution


def readable_queue(runs: RunsFolder) -> QueueRows:
    """As far as it can be read, on a read-only disk, say: what cannot be costs a word, and no run its verdict."""
    try:
        state = QueueState(records(runs.decisions))
    except (OSError, RunFolderError):
        state = QueueState()
    try:
        return QueueRows(runs, state, QueueDb(runs.queue_db).snapshot() if exists(runs.queue_db) else None)
    except (sqlite3.Error, OSError, ValueError, RunFolderError):
        return QueueRows(runs, state)


def seen(bare: Row, snapshot: RunSnapshot) -> Row:
    """The row with its run as it is at this moment, and why it is so."""
    figures = replace(bare.figures, attempts=len(snapshot.attempts))
    return replace(bare, run=snapshot.paths, status=snapshot.state, reason=reason(snapshot), figures=figures)


def target_of(row: Row) -> Target:
    """What a request for this row of the queue names."""
    return Target(row.queued.submission, row.key)


def resting(row: Row) -> int:
    """0: it goes on by itself; 1: when it is released; 2: it does not."""
    if row.active or row.status.in_turn:
        return 0
    return 1 if row.status is Status.HELD else 2


def _entries(
    runs: RunsFolder, submission: Submission, snapshot: QueueSnapshot, queue: QueueState
) -> Sequence[QueueEntry]:
    """The rows of one submission, in the order of starting."""
    requested, state = snapshot.rows.get(submission.id, RowRequests()), queue.of(submission.id)
    mine = [one for one in snapshot.requests.values() if one.submission == submission.id]
    unheard = frozenset(str(one.row) for one in mine if one.request == "retry")
    found = _planned(runs, submission)
    if found is None:
        return ()  # the supervisor says so, and closes it
    plan, rows = found
    begun = {*state.runs, *state.closed, *requested.held, *requested.removed}
    wanted = [row for row in shown(rows, begun) if submission.asks_for(row)]
    wanted.sort(key=lambda row: requested.ranks.get(row.key, 0.0))
    ending = submission.id in snapshot.ending
    return [QueueEntry(submission, row, state, requested, plan.queue.retries, unheard, ending) for row in wanted]


def _requested(entry: QueueEntry) -> _StatusAndReason | None:
    """Whatever became of its run: what somebody asked for the row, or why the queue has closed it."""
    key = entry.row.key
    if key in entry.requested.removed:
        return Status.REMOVED, ""
    if key in entry.requested.held:
        return Status.HELD, entry.requested.held[key]
    if key in entry.state.closed:
        word, why = entry.state.closed[key]
        return Status(word), why
    return None


def _unwritten(begun: Start, seen: Row, *, asked: bool) -> Exit:
    """The end of a trainer that has died, and of which nobody has written yet."""
    has_events = seen.figures.attempts > begun.attempts_before
    outcome, message = outcome_when_dead(seen.status, identity_from_json(begun.process), has_events=has_events)
    return Exit(run=begun.run, outcome=outcome, asked=asked, message=message)


def _waited_for(row: PlanRow, statuses: Sequence[tuple[PlanRow, Status]]) -> list[str]:
    """Rows of its submission that must have ended before this one can be decided on, and have not."""
    condition = None if row.when is None else parse_condition(row.when, row.after)
    experiments = dependencies(row, condition)
    return [other.key for other, status in statuses if status.goes_on and other.experiment in experiments]


def _told(row: Row) -> Row:
    """With what its plan says of it; where it has no run, with its outcome: a row that was skipped is none."""
    if row.run is None:
        row = replace(row, outcome=Outcome.SKIPPED if row.status is Status.SKIPPED else Outcome.PENDING)
    return told_by_plan(row)


def _name(run: RunPaths | None) -> str | None:
    return None if run is None else run.name


def _work(row: PlanRow) -> tuple[object, ...]:
    return (row.settings, row.after, row.when, row.adapter_from)


def _asked_for(runs: RunsFolder, name: str) -> Mapping[str, PlanRow]:
    """The rows that a submission asked for, as they were then."""
    try:
        submission = QueueDb(runs.queue_db).submission(name) if exists(runs.queue_db) else None
    except (sqlite3.Error, OSError):
        return {}  # locked for long, or on a disk that takes no lock: the next look may find it
    found = None if submission is None else _planned(runs, submission)
    if submission is None or found is None:
        return {}
    return {row.key: row for row in found[1] if submission.asks_for(row)}


def _planned(runs: RunsFolder, submission: Submission) -> tuple[Plan, Sequence[PlanRow]] | None:
    """A plan as it was submitted, and all its rows; None: it is none."""
    found = _parsed(submission.plan_text, submission.plan_path, submission.overrides)
    if found is None or not learns(found[0]):
        return found
    return found[0], all_rows(found[0], drawn_by(runs, found[0]))


@lru_cache(maxsize=16)
def _parsed(text: str, path: str, overrides: tuple[str, ...]) -> tuple[Plan, Sequence[PlanRow]] | None:
    try:
        plan = parse_plan(text, path, overrides)
        return plan, all_rows(plan)
    except PlanError:
        return None
