"""A headless command attached to the queue: it follows its submission, keeps a supervisor up, stops what it started.

What the queue decides and what the runs say become lines for people, as they come.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from core.errors import Interrupted, RunFolderError
from core.queue import journal
from core.queue.client import QueueClient
from core.queue.execution import PlanExecution
from core.queue.executor import KILL_WAIT_S, STOP_GRACE_S
from core.queue.report import judge_run
from core.queue.requests import Submission
from core.queue.state import FAILURES, TOLD_TO_STOP, QueueState, SubmissionState
from core.runs.headline import headline
from core.runs.judged import Judged
from core.runs.paths import RunPaths, RunsFolder
from core.runs.row import Row
from core.runs.run_figures import of_run
from core.runs.store import RunFollower, last_line
from core.system.files import HeldFolder
from core.system.process import StopSignals
from lora_tui.diagnostics import say
from lora_tui.progress import RunProgress, verdict_lines

OF_ANOTHER = "another submission has it too and started it"
POLL_S = 0.5
MOST_RESTARTS = 3
RESTARTS_WITHIN_S = 600.0
"""A supervisor that ends unexpectedly more than three times in ten minutes is broken; a killed one is replaced."""
STOP_WAIT_S = STOP_GRACE_S + KILL_WAIT_S + 15.0
"""How long a stop may take before the face leaves the rest to the supervisor."""


@dataclass(slots=True)
class _Followed:
    follower: RunFollower
    progress: RunProgress
    stands: str = ""
    """What was last said of where it stands."""


class Follower:
    """Reads the decisions on one submission and the runs that its rows are, whoever started them. Says what is new."""

    def __init__(self, runs: RunsFolder, execution: PlanExecution, *, attached: bool = False) -> None:
        """`attached`: the submission was there before; what was done for it so far is not told again."""
        self._runs = runs
        self._execution = execution
        self._name = execution.submission.id
        self._reader = journal.JournalReader(runs.decisions)
        self._state = QueueState()
        self._live: dict[str, _Followed] = {}
        self._rows: dict[str, str] = {}
        """Run → the row that is it."""
        self._first = True
        self._quiet = attached
        self.ending: journal.Finish | None = None
        """How the queue ended the submission."""
        self.judged: set[str] = set()
        """Names of the runs whose verdict was said."""

    @property
    def told_to_stop(self) -> bool:
        """Whether somebody stopped the supervisor itself."""
        return self._state.supervisor_ended == TOLD_TO_STOP

    @property
    def paused(self) -> str | None:
        """Why the queue has paused until somebody lets it go on."""
        return self._state.pause.reason if self._state.pause.cause == FAILURES else None

    def poll(self) -> None:
        """Say what is new since the last call."""
        fresh = self._reader.read()
        if self._reader.anew:
            self._state = QueueState()
        for record in fresh:
            self._state.apply(record)
            match record:
                case journal.Start():
                    self._take_start(record)
                case journal.Exit():
                    self._end(record)
                case journal.Pause() if not self._first:
                    say(f"the queue pauses: {record.reason}")
                case journal.Resume() if not self._first:
                    say(f"the queue goes on: {record.reason}")
                case journal.Sink() if not self._first:
                    say(f"sink {record.sink}: {record.message}; training goes on without it")
                case journal.Named() | journal.Wait() | journal.Skip() | journal.Finish():
                    if record.submission == self._name:
                        self._take(record)
        # How the queue ended runs is none of the report's business: a verdict rests on the run folder alone.
        self._execution.state = SubmissionState(closed=self._state.of(self._name).closed)
        for followed in self._live.values():
            self._show(followed)
        self._first = self._quiet = False
        if self.paused is not None and self.ending is None:
            # It goes on only when somebody says so: whoever waits here would wait for ever.
            self.ending = journal.Finish(reason=f"{self.paused}; `lora-tui queue release --all` goes on")

    def states(self) -> list[str]:
        """Where the runs stand that have a trainer, or had one a moment ago."""
        lines = []
        for followed in self._live.values():
            snapshot = followed.follower.refresh()
            saved = max(snapshot.checkpoints, default=None)
            kept = "nothing was saved yet" if saved is None else f"checkpoint of step {saved} saved"
            lines.append(f"{followed.progress.label}  {snapshot.state} at step {snapshot.steps_completed}; {kept}")
        return lines + self.left_behind()

    def left_behind(self) -> list[str]:
        """The runs that train although the submission has ended."""
        if self.ending is None or self.paused is not None:
            return []
        live = [followed for followed in self._live.values() if followed.follower.refresh().state.active]
        return [f"{followed.progress.label}  goes on for another submission that has it too" for followed in live]

    def _take(self, record: journal.Named | journal.Wait | journal.Skip | journal.Finish) -> None:
        match record:
            case journal.Named(row=row, run=run) if self._execution.asks_for(row):
                self._rows.setdefault(run, row)
                if run in self._state.trainers:
                    self._begin(row, run, OF_ANOTHER, adopted=True)
            case journal.Wait(wait=wait) if not self._quiet:
                # While a run of the plan goes on, only what waits for people is worth a line.
                if wait.text and (wait.held or not self._live):
                    say(f"waiting: {wait.text}")
            case journal.Skip(row=row, reason=reason):
                if not self._quiet:
                    say(f"{row}  not run: {reason}")
            case journal.Finish():
                self.ending = record

    def _take_start(self, record: journal.Start) -> None:
        run, own = record.run, record.submission == self._name
        self.judged.discard(run)  # tried again, it has another end
        if own:
            self._rows[run] = record.row
        if run in self._rows:
            reason = record.reason if own else OF_ANOTHER
            self._begin(self._rows[run], run, reason, adopted=isinstance(record, journal.Adopt))

    def _begin(self, row: str, run: str, reason: str, *, adopted: bool) -> None:
        if run not in self._live:
            follower = RunFollower(RunPaths(self._runs.root / run))
            self._live[run] = _Followed(follower, RunProgress(row))
            if adopted or self._quiet:
                self._live[run].progress.skip_to(follower.refresh())
            if not self._quiet and (reason == OF_ANOTHER or not adopted):
                say(f"{row}  run {run}: {reason}")

    def _end(self, record: journal.Exit) -> None:
        followed = self._live.get(record.run)
        if followed is None:
            return
        self._show(followed)
        label, outcome, message, status = followed.progress.label, record.outcome, record.message, record.status
        if not message and status is not None and status < 0:
            message = f"killed by signal {-status}"
        if outcome == "done" or followed.follower.refresh().state.broken:
            del self._live[record.run]
            self.say_verdict(label, judge_run(self._execution, followed.follower.paths))
        else:
            say(f"{label}  {outcome.replace('_', ' ')}{f': {message}' if message else ''}")
            if outcome == "crashed":
                log = followed.follower.paths.log
                say(f"{label}  the end of {log}: {last_line(log) or 'it is empty'}")

    def say_verdict(self, label: str, found: Judged, row: Row | None = None) -> None:
        """The verdict table of a run, once. `row`: what it comes to there, where that may not be the run's verdict."""
        run = found.snapshot.paths.name
        if run in self.judged:
            return
        self.judged.add(run)
        if found.evidence.failure:
            say(f"{label}  {found.evidence.failure}")
        row = row or of_run(Row("", label), found)
        for line in verdict_lines(label, row.verdict or found.verdict, found.snapshot.duration_s, headline(row).text):
            say(line)
        for problem in found.problems:
            say(f"  problem: {problem}")

    def _show(self, followed: _Followed) -> None:
        snapshot = followed.follower.refresh()
        known = followed.progress.interval
        for line in followed.progress.news(snapshot, time.monotonic()):
            say(line)
        if followed.progress.interval > max(0, known) and snapshot.state.active:
            label = followed.progress.label
            stands = headline(of_run(Row("", label), judge_run(self._execution, followed.follower.paths))).text
            if stands != followed.stands:
                followed.stands = stands
                say(f"{label}  {stands}")


class Signals(StopSignals):
    """The first one interrupts, or is only counted while `patient`; the second interrupts."""

    patient = False

    def came(self) -> None:
        """Raise Interrupted, unless it is only counted."""
        if not self.patient:
            raise Interrupted("interrupted")
        if self.count > 1:
            raise Interrupted("interrupted again: the supervisor goes on stopping what was started")


class Session:
    """Attached to the queue until the submission ends. A signal stops what it started, cleanly."""

    def __init__(self, client: QueueClient, follower: Follower, submission: Submission, signals: Signals) -> None:
        self._client = client
        self._follower = follower
        self._submission = submission
        self._signals = signals
        self._restarts: list[float] = []

    def attend(self) -> journal.Finish:
        """Follow until the end. RunFolderError: the supervisor cannot be kept up, or the runs folder is gone."""
        home = HeldFolder(self._client.runs.root)
        while True:
            if lost := home.lost():
                raise RunFolderError(
                    f"{lost}. What trained there stops and saves, and goes on when the same command is given with "
                    "--runs where the folder is"
                )
            self._follower.poll()
            if self._follower.ending is not None:
                for line in self._follower.left_behind():
                    say(line)
                return self._follower.ending
            if self._signals.count:
                return self._stop()
            self._watch_supervisor()
            self._pause()

    def _pause(self) -> None:
        deadline = time.monotonic() + POLL_S
        while not self._signals.count and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _stop(self) -> journal.Finish:
        """Ask the queue to stop, and wait, but not for ever. Interrupted, unless all was done in that moment."""
        say("stopping: the trainer finishes its step and saves. A second signal ends this command at once")
        self._client.ask("stop", self._submission.id)
        deadline = time.monotonic() + STOP_WAIT_S
        while self._follower.ending is None and time.monotonic() < deadline:
            time.sleep(0.1)
            self._follower.poll()
            if self._follower.ending is None and not self._client.supervisor_works():
                self._client.ensure_supervisor()
        ending = self._follower.ending
        if ending is not None and ending.complete:
            return ending
        for line in self._follower.states():
            say(line)
        late = "" if ending is not None else ": the trainer has not ended yet, the supervisor sees to it"
        raise Interrupted(f"interrupted{late}. The same command goes on from what was saved")

    def _watch_supervisor(self) -> None:
        if self._client.supervisor_works():
            return
        self._follower.poll()
        if self._follower.ending is not None:
            return
        if self._follower.told_to_stop:
            raise Interrupted("the supervisor was told to stop; the same command goes on from what was saved")
        tail = self._client.log_tail()
        now = time.monotonic()
        self._restarts = [when for when in self._restarts if now - when < RESTARTS_WITHIN_S]
        if len(self._restarts) >= MOST_RESTARTS:
            raise RunFolderError(f"the supervisor ended unexpectedly again and again; the end of its log:\n{tail}")
        self._restarts.append(now)
        say(f"the supervisor ended unexpectedly; starting another one. The end of its log:\n{tail}", multiline=True)
        self._client.submit(self._submission)
