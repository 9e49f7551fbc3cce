"""What the queue's journal comes to: the only fold of its records. Pure: no file, no clock.

Supervisor and faces read it, each keeping one to which it applies what is new.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from core.plan.next_action import Wait
from core.queue import journal
from core.queue.gpu.choice import uuids

TOLD_TO_STOP = "told to stop"
"""The reason with which a supervisor ends that somebody stopped: what had paused is paused for the next one, too."""
FAILURES = "failures"
DISK = "disk"
"""Causes of a pause."""
NOT_RUN = "not run"
OVER = {"stop": "stopped on request", "kill": "killed on request"}
"""Why nothing more is started for a submission that was asked for that as a whole."""
_NEUTRAL = ("stopped", "rebooted", "disk_full", "lost", "interrupted", "cancelled")
"""Ends that say nothing about the plan: they neither make nor break a series."""
_RESULTS = ("done", "diverged", "stopped_early")
"""Ends that are a result of the run's own settings: they break a series."""
JOB_WAITS = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
"""States of a job on a cluster that has not started, or is to start again."""
_NUMBERS = re.compile(r"\d+")


@dataclass(slots=True)
class FailureSeries:
    """Different runs that failed alike, one after the other. Numbers in messages do not count."""

    failure: str = ""
    runs: dict[str, None] = field(default_factory=dict)
    """In the order in which they failed."""
    _last: str = ""
    _before: tuple[str, dict[str, None]] | None = None
    """The series that the last end broke."""

    def add(self, ended: journal.Exit) -> None:
        """A trainer has ended."""
        if ended.asked or ended.outcome in _NEUTRAL:
            return
        words = f"{ended.outcome.replace('_', ' ')}: {ended.message}".rstrip(": ")
        failure = "" if ended.outcome in _RESULTS else words
        self._last, self._before = ended.run, None
        if not failure or _NUMBERS.sub("", failure) != _NUMBERS.sub("", self.failure):
            self._before, self.runs = (self.failure, self.runs), {}
        self.failure = failure
        if failure:
            self.runs.setdefault(ended.run)

    def take_back(self, run: str) -> None:
        """The run goes on with smaller micro-batches: its end was no failure."""
        if self._last == run and self._before is not None:
            (self.failure, self.runs), self._before = self._before, None
        else:
            self.runs.pop(run, None)

    def reason(self, limit: int) -> str | None:
        """Why the queue pauses when `limit` runs failed alike (0: never)."""
        if not limit or len(self.runs) < limit:
            return None
        return f"{len(self.runs)} runs in a row failed alike ({', '.join(self.runs)}): {self.failure}"


@dataclass(slots=True)
class PauseState:
    """Whether the queue starts nothing more by itself, and what is on the way to that."""

    cause: str | None = None
    """`failures` or `disk`; None: it does start runs."""
    reason: str = ""
    bytes: int = 0
    """That the run will take for which it paused."""
    series: FailureSeries = field(default_factory=FailureSeries)


@dataclass(slots=True)
class _Trainers:
    """Of all runs, for whichever submission they were started."""

    ends: dict[str, list[journal.Exit]] = field(default_factory=dict)
    """Run → how they ended."""
    begun: dict[str, int] = field(default_factory=dict)
    """Run → how many were started or adopted."""
    dead: dict[str, int] = field(default_factory=dict)
    """Run → so many of its attempts have ended by what a cluster said."""


@dataclass(slots=True)
class SubmissionState:
    """What was said of one submission. Rows are named by their keys, runs by their folders."""

    plan: str = ""
    """Path of its plan; empty: nobody has said that it was submitted."""
    finished: bool = False
    """Whether its end is the last that was said of it."""
    runs: dict[str, str] = field(default_factory=dict)
    """Row → its run."""
    named: set[tuple[str, str]] = field(default_factory=set)
    """(row, run) of which was said that the row is that run, at whatever time."""
    closed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Row that does not run → (skipped or failed, why)."""
    not_run: dict[str, str] = field(default_factory=dict)
    """Row → why it had no result when the submission ended."""
    wait: Wait | None = None
    """Why nothing is started for it at the moment; None: nothing was said of that since it was started for last."""
    over: str = ""
    """Why nothing is started for it any more, though it is open: it waits for trainers to end."""
    retried: set[str] = field(default_factory=set)
    """Rows that somebody asked to try again, whatever became of them."""
    halves: dict[str, int] = field(default_factory=dict)
    """Run that ran out of memory and whose row goes on with another → the accumulation of that one."""
    asked: dict[str | None, str] = field(default_factory=dict)
    """Row (None: all of it) → `stop` or `kill`, where its trainer was asked for that and has not ended since."""
    _trainers: _Trainers = field(default_factory=_Trainers, repr=False)
    _since: dict[str, int] = field(default_factory=dict)
    """Run that a row is, or was → how many of its trainers had ended before that, or before it was retried."""
    _stopped: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Run that the queue asked to end for the plan's own sake → (why, how many trainers it had had by then)."""

    def has(self, run: str) -> bool:
        """Whether a row of it is this run, or was: the ends of its trainers count here, whoever had it started."""
        return run in self._since

    def ends_of(self, run: str) -> list[journal.Exit]:
        """How its trainers ended while a row was this run, since somebody asked to try it again."""
        return self._trainers.ends.get(run, [])[self._since[run] :] if run in self._since else []

    def dead_attempts(self, run: str) -> int:
        """So many of its attempts have ended for sure, though their processes were on machines that nobody sees."""
        return self._trainers.dead.get(run, 0)

    def stopped(self, run: str) -> str:
        """Why the queue asked it to end for the plan's own sake; empty: it did not, or the run was started since."""
        reason, begun = self._stopped.get(run, ("", 0))
        return reason if begun == self._trainers.begun.get(run, 0) else ""

    def is_retried(self, run: str, row: str, also: Collection[str] = ()) -> bool:
        """Whether somebody asked to try this run again, in whichever row. `row`: is the run if nothing else was said.

        `also`: rows of which that was asked, and no supervisor has heard yet.
        """
        return any(self.runs.get(key, run if key == row else None) == run for key in {*self.retried, *also})

    def last_reason(self, row: str) -> tuple[str, str] | None:
        """(skipped, failed or not run; why) of a row that has no run."""
        if row in self.closed:
            return self.closed[row]
        return (NOT_RUN, self.not_run[row]) if row in self.not_run else None

    def _take_run(self, row: str, run: str) -> None:
        self.runs[row] = run
        self._since.setdefault(run, len(self._trainers.ends.get(run, ())))

    def _take_request(self, request: str, row: str | None) -> None:
        if request in OVER:
            self.asked[row] = request
            self.over = OVER[request] if row is None else self.over
        if row is None:
            return
        if request in ("retry", "add"):
            self.closed.pop(row, None)
        if request in ("retry", "add", "release"):
            self.not_run.pop(row, None)
        if request == "retry":
            self.retried.add(row)
            if row in self.runs:
                self._since[self.runs[row]] = len(self._trainers.ends.get(self.runs[row], ()))


class QueueState:
    """All of it. `apply` takes the records in their order; everything else only reads."""

    def __init__(self, records: Iterable[journal.Record] = ()) -> None:
        self.stopping = False
        """Whether a supervisor has said that it was told to stop, and none has said since that it starts or ends."""
        self.supervisor_ended: str | None = None
        """Why the last supervisor ended; None: none has said so since the last one started."""
        self.pause = PauseState()
        self.done_last = ""
        """What the queue did last, in words."""
        self.started: set[str] = set()
        """Runs whose trainers were started or adopted since somebody emptied it."""
        self.submissions: dict[str, SubmissionState] = {}
        """In the order in which they were first heard of."""
        self.trainers: dict[str, journal.Start] = {}
        """Run → how its trainer began of which nobody has said that it ended."""
        self.jobs: dict[str, journal.Job] = {}
        """Run → how its trainer's job stands on the cluster."""
        self.killed: set[str] = set()
        """Runs whose last trainer was killed on request."""
        self._history = _Trainers()
        self._asked_to_end: set[str] = set()
        """Runs that the queue told to end for their plan's own sake."""
        self._stops = 0
        """How many supervisors were told to stop, and told their trainers so."""
        self._stops_before: dict[str, int] = {}
        """Run with a trainer → how many of these did not mean it."""
        self._gpus: dict[str, str] = {}
        self._removed: dict[str, dict[str, None]] = {}
        """Plan → rows that somebody removed since it was submitted last."""
        for record in records:
            self.apply(record)

    # Questions

    def of(self, submission: str) -> SubmissionState:
        """Of a submission; an empty state where nothing was said of it."""
        return self.submissions.get(submission) or SubmissionState()

    def asked_of(self, run: str, but: Collection[str] = ()) -> str | None:
        """`stop` or `kill`, where that was asked of the run's trainer, and it has not ended yet.

        `but`: submissions of which what was asked of them as a whole does not count.
        """
        begun = self.trainers.get(run)
        if begun is None:
            return None
        asked = self.of(begun.submission).asked
        found = {asked.get(begun.row), None if begun.submission in but else asked.get(None)}
        if "kill" in found:
            return "kill"
        # A supervisor that is told to stop lets jobs go on.
        told = run in self._asked_to_end or (begun.job is None and self._stops_before[run] < self._stops)
        return "stop" if "stop" in found or told else None

    def is_killed(self, run: str) -> bool:
        """Whether the run's last trainer was killed on request, or is dead by now if it has to be."""
        return run in self.killed or self.asked_of(run) == "kill"

    def dead_attempts(self, run: str) -> int:
        """So many of its attempts have ended for sure, though their processes were on machines that nobody sees."""
        return self._history.dead.get(run, 0)

    def job_waits(self, run: str, attempts: int) -> str:
        """Why its trainer's job has not started on the cluster, and when it is expected to; empty: it has, or is none.

        `attempts`: in the run's folder; one that came since says that it has started, though no supervisor has.
        """
        begun, job = self.trainers.get(run), self.jobs.get(run)
        if begun is None or begun.job is None or (job is not None and job.state not in JOB_WAITS):
            return ""
        if attempts > (begun.attempts_before if job is None else job.attempts):
            return ""
        why = "" if job is None or not job.reason else f": {job.reason}"
        when = (
            "" if job is None or job.expected is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(job.expected))
        )
        return f"Slurm job {begun.job} waits{why}" + (f", expected to start {when}" if when else "")

    def job_starts(self, run: str, attempts: int) -> bool:
        """Whether its trainer's job runs, and none of so many attempts in its folder is of that."""
        job = self.jobs.get(run)
        return job is not None and job.state not in JOB_WAITS and attempts <= job.attempts

    def device_of(self, run: str) -> str:
        """Where its trainer works, such as `on GPU 1`, `as job 12`; empty: on the CPU, or it has none."""
        begun = self.trainers.get(run)
        if begun is not None and begun.job:
            return f"as Slurm job {begun.job}"
        given = [] if begun is None else uuids(begun.gpu)
        return f"on {', '.join(self._gpus.get(gpu, gpu) for gpu in given)}" if given else ""

    def of_plan(self, plan: str) -> list[tuple[str, SubmissionState]]:
        """The submissions of the plan at this path, the newest first."""
        return [(name, found) for name, found in reversed(self.submissions.items()) if found.plan == plan]

    def removed_rows(self, plan: str) -> list[str]:
        """Rows of the plan at this path that somebody took out of the queue, and nobody has asked for since."""
        return list(self._removed.get(plan, ()))

    def rows_called(self, name: str) -> Iterator[tuple[str, str, str | None]]:
        """(submission, row, run) with a row, run folder or identity of this name, of the newest submission first."""
        for submission, found in reversed(self.submissions.items()):
            for row in reversed({**found.closed, **found.runs}):
                run = found.runs.get(row)
                if name == row or (run is not None and name in (run, run.rpartition("-")[2])):
                    yield submission, row, run

    # The fold

    def apply(self, record: journal.Record) -> None:  # noqa: PLR0912 - one branch a record
        """Take one more record."""
        match record:
            case journal.Exit():
                self._exit(record)
            case journal.Start():
                self._begin(record)
            case journal.Job():
                if record.run in self.trainers:
                    self.jobs[record.run] = record
            case journal.Request(submission=str(name)):
                self._request(name, record)
            case journal.Devices():
                self._gpus = {gpu: str(name) for gpu, name in record.gpus.items()}
            case journal.OfSubmission():
                self._submission(record)
            case journal.Pause(cause=cause, reason=reason):
                self.pause = replace(self.pause, cause=cause or DISK, reason=reason, bytes=record.bytes)
                self.done_last = f"paused: {reason}"
            case journal.Resume():
                self.pause = PauseState()
            case journal.SupervisorStarted():
                self.stopping, self.supervisor_ended = False, None
            case journal.SupervisorStopping():
                self.stopping = True
                self._stops += 1
            case journal.SupervisorEnded(reason=reason):
                self.stopping, self.supervisor_ended = False, reason
                if reason != TOLD_TO_STOP:
                    self.pause = PauseState()

    def _heard(self, submission: str) -> SubmissionState:
        found = self.submissions.get(submission)
        if found is None:
            found = self.submissions[submission] = SubmissionState(_trainers=self._history)
        found.finished = False
        return found

    def _submission(self, record: journal.OfSubmission) -> None:
        found = self._heard(record.submission)
        match record:
            case journal.Named(row=row, run=run) if run:
                found.named.add((row, run))
                found._take_run(row, run)
            case journal.Skip():
                found.closed[record.row] = ("failed" if record.status == "failed" else "skipped", record.reason)
            case journal.Wait():
                found.wait = record.wait
                self.done_last = f"waiting: {found.wait.text}" if found.wait.text else self.done_last
                found.over = found.wait.text if record.over else found.over
            case journal.Halve():
                found.halves[record.run] = record.accumulation
                self.pause.series.take_back(record.run)
            case journal.Stop():
                found._stopped[record.run] = record.reason, self._history.begun.get(record.run, 0)
                self._asked_to_end.add(record.run)
            case journal.Submitted():
                found.plan = record.plan
                self.done_last = ""
                self._removed.pop(record.plan, None)
            case journal.Finish():
                found.asked.clear()
                found.not_run = {row: str(why) for row, why in record.not_run.items()}
                found.finished = True
                self.done_last = f"ended: {record.reason}" if record.reason else "ended"

    def _begin(self, record: journal.Start) -> None:
        if not record.run:
            return
        run, before = record.run, self.trainers.get(record.run)
        own, adopted = self._heard(record.submission), isinstance(record, journal.Adopt)
        if not adopted or before is None or before.submission != record.submission:
            # What was asked of the row before did not mean this trainer.
            own.asked.pop(record.row, None)
            self._asked_to_end.discard(run)
            self._stops_before[run] = self._stops
        self.trainers[run] = record
        self.started.add(run)
        self.done_last = f"started {record.row}" + (f": {record.reason}" if record.reason else "")
        self._history.begun[run] = self._history.begun.get(run, 0) + 1
        self.killed.discard(run)
        if run in self._history.dead:  # its folder may be new since, and so are the attempts in it
            self._history.dead[run] = min(self._history.dead[run], record.attempts_before)
        if not adopted:
            self.jobs.pop(run, None)
        own.wait = None
        own._take_run(record.row, run)
        own.closed.pop(record.row, None)
        if not adopted:
            self._removed.get(own.plan, {}).pop(record.row, None)

    def _exit(self, record: journal.Exit) -> None:
        if not record.run:
            return
        run = record.run
        if record.outcome == "crashed" and self.asked_of(run) == "kill":
            self.killed.add(run)
        if record.attempts:
            self._history.dead[run] = record.attempts
        self.jobs.pop(run, None)
        begun = self.trainers.pop(run, None)
        if begun is not None:
            self.of(begun.submission).asked.pop(begun.row, None)
        self._asked_to_end.discard(run)
        self._stops_before.pop(run, None)
        ends = self._history.ends.setdefault(run, [])
        self._heard(record.submission)._since.setdefault(run, len(ends))
        ends.append(record)
        self.pause.series.add(record)

    def _request(self, submission: str, record: journal.Request) -> None:
        found = self._heard(submission)
        found._take_request(record.request, record.row)
        if record.request == "retry" or (record.request == "release" and record.row is None):
            self.pause.series = FailureSeries()  # somebody has seen what failed
        if record.row is None:
            return
        if record.request == "remove":
            self._removed.setdefault(found.plan, {})[record.row] = None
        elif record.request in ("retry", "release", "add"):
            self._removed.get(found.plan, {}).pop(record.row, None)
