"""The supervisor: the only process that starts, stops and resumes trainers. One per state folder.

It keeps nothing that matters in memory: what is to be done stands in the queue's SQLite, what was done in the
run folders and in the journal. Another one takes over after its death, with the trainers that live on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from core.console import log_line
from core.errors import RunFolderError, UserError, is_disk_full, may_pass
from core.manifests.hashing import HashCache
from core.plan.next_action import Wait
from core.queue import journal
from core.queue.execution import PlanExecution
from core.queue.executors import Cluster, Executor
from core.queue.forecast import measured_bytes
from core.queue.gpu.choice import Devices
from core.queue.gpu.nvml import NvmlReader
from core.queue.notify import Followers, Notifier
from core.queue.pauses import Pauses
from core.queue.requests import QueueDb, RowRequests, Submission
from core.queue.slots import Slots
from core.queue.slurm.executor import SlurmCluster
from core.queue.state import TOLD_TO_STOP, QueueState
from core.queue.work import Work
from core.runs.model_card import write_card
from core.runs.paths import RunPaths, RunsFolder
from core.system.files import HeldFolder
from core.system.process import Wakeups, current_process

TICK_S = 0.5
"""How soon a submission or a request is noticed; the end of a trainer is noticed at once where pidfds exist."""
ELSEWHERE_S = 10.0
"""How often runs that another machine works on are looked at again."""
GPU_LOOK_S = 2.0
"""How often a GPU that somebody else fills is looked at again."""
JOBS_END_S = 300.0
"""Where a runs folder is lost, its jobs are waited for no longer: Slurm may not answer."""
DISK_FULL = "the disk is full"


class Supervisor:
    """Runs until nothing is left to do, or until it is told to stop. `devices`: what trainers may run on now.

    `let_go`: of all that keeps others from the runs folder, lock and claim, so that the next one may begin at once.

    `executor`: starts trainers on this machine; `cluster`: as jobs, for plans that say so.
    """

    def __init__(
        self,
        runs: RunsFolder,
        let_go: Callable[[], None],
        executor: Executor,
        devices: Callable[[], Devices] | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self._runs = runs
        self._let_go = let_go
        self._db = QueueDb(runs.queue_db)
        runs.root.mkdir(parents=True, exist_ok=True)
        self._state = QueueState(journal.records(runs.decisions))
        self._home = HeldFolder(runs.root)
        self._log = journal.Journal(runs.decisions, self._home, self._state.apply)
        self._cluster = cluster or SlurmCluster(runs)
        self._slots = Slots(runs, executor, self._log, self._state, devices or NvmlReader().read, self._cluster)
        self._pauses = Pauses(runs.root, self._log, self._state, self._notify_all)
        self._notifier = Notifier()
        self._followers = Followers(runs, self._log)
        self._hashes = HashCache(runs.hash_cache)
        self._works: dict[str, Work] = {}
        """By submission, in the order in which they are worked on."""
        self._deferred: frozenset[str] = frozenset()
        """Submissions whose data could not be reached, and that are looked at again."""
        self._changed = True
        self._look_again_at: float | None = None

    def run(self, wakeups: Wakeups) -> None:
        """Work until nothing is left. OSError when the disk is full; trainers then go on by themselves.

        RunFolderError: the runs folder is no longer at its path; what worked there has stopped.
        """
        with closing(self._home), closing(self._cluster):
            self._run(wakeups)

    def _run(self, wakeups: Wakeups) -> None:
        self._log.append(journal.SupervisorStarted(process=current_process().to_json()))
        ending = [one for one in self._db.snapshot().requests.values() if one.request in ("stop", "kill")]
        for request in ending:  # of which no supervisor has spoken
            if not self._state.of(str(request.submission)).finished:
                self._state.apply(request)
        with closing(self._slots):
            ends = self._slots.adopt_all([str(request.submission) for request in ending if request.row is None])
            self._take_ends(ends)
            self._take_submissions()
            for end in ends:  # no plan was known when they were taken
                self._notify_end(end)
            while True:
                self._check_folder(wakeups)
                try:
                    self._tick(wakeups.stop_asked)
                except OSError:
                    self._check_folder(wakeups)
                    raise
                here = any(slot.trainer.job is None or not wakeups.stop_asked for slot in self._slots)
                if not here and self._leave(wakeups.stop_asked):
                    self._notifier.close()
                    return
                wakeups.wait(self._slots.pidfds, TICK_S)

    def _tick(self, stop_asked: bool) -> None:
        if self._look_again_at is not None and time.monotonic() >= self._look_again_at:
            self._changed, self._look_again_at = True, None
            for work in self._works.values():
                work.execution.elsewhere.clear()
        self._take_submissions()
        if stop_asked:
            for slot in self._slots:
                if slot.trainer.job is None:  # jobs go on, and the next supervisor finds them
                    slot.trainer.stop()
            if not self._state.stopping:
                self._log.append(journal.SupervisorStopping())
        self._take_ends(self._slots.ended())
        self._take_ends(self._slots.escalate())
        self._pauses.look()
        if self._changed and not stop_asked:
            before, self._changed = self._slots.identities, False
            for work in list(self._works.values()):
                self._go_on(work)
            # What was started for one plan may be a run of another, which says so at its turn.
            self._changed |= len(self._works) > 1 and self._slots.identities != before
        for slot in self._slots:
            for work in self._concerned(slot.submission, slot.run.name):
                self._followers.see_to(work.execution.plan.queue.sinks, slot.run, slot.attempts_before)
        self._followers.look()
        self._hashes.forget()  # faces hash what they submit; and thousands of clips take much memory

    def _check_folder(self, wakeups: Wakeups) -> None:
        """RunFolderError, once all trainers have stopped, if the runs folder is no longer at its path.

        Whatever lies there now is not what it works on: another supervisor may.
        """
        if not (lost := self._home.lost()):
            return
        log_line(f"{lost}: its trainers are stopped, and nothing more is started")
        self._record_lost(journal.SupervisorStopping())
        with suppress(OSError):
            self._slots.rebase(self._home.here)
        for slot in self._slots:
            slot.trainer.stop()
        patience = time.monotonic() + JOBS_END_S
        while any(slot.trainer.job is None or time.monotonic() < patience for slot in self._slots):
            with suppress(OSError):
                self._slots.escalate()
                self._slots.ended()
            wakeups.wait(self._slots.pidfds, TICK_S)
        self._record_lost(journal.SupervisorEnded(reason=lost))
        self._let_go()
        self._notifier.close()
        raise RunFolderError(lost)

    def _record_lost(self, record: journal.Record) -> None:
        with suppress(OSError):  # it was deleted
            self._log.append(record)

    def _leave(self, stop_asked: bool) -> bool:
        """Whether it is time to end; the lock is free then."""
        if stop_asked:
            self._say_goodbye(TOLD_TO_STOP)
            return True
        if self._works or self._deferred:
            return False
        # A face that submits while this block lasts waits for it, and then finds the lock free.
        with self._db.leaving() as nothing_open:
            if nothing_open:
                self._say_goodbye("nothing is left to do")
        return nothing_open

    def _say_goodbye(self, reason: str) -> None:
        self._log.append(journal.SupervisorEnded(reason=reason))
        log_line(f"ending: {reason}")
        self._let_go()

    # What faces ask for

    def _take_submissions(self) -> None:
        if not self._db.changed() and not (self._deferred and self._changed):
            return
        self._deferred = frozenset()
        snapshot = self._db.snapshot()  # at one moment: a request that comes with its submission is not heard before it
        for submission in snapshot.submissions:
            if submission.id not in self._works:
                self._take_submission(submission)
        order = [submission.id for submission in snapshot.submissions if submission.id in self._works]
        if order != list(self._works):
            self._works = {name: self._works[name] for name in order}
            self._changed = True
        for orphan in {slot.submission for slot in self._slots} - {*self._works, *self._deferred}:
            self._slots.let_go(orphan, self._any_that_has)  # its own is closed, or lost with the file
        for name, work in self._works.items():
            if work.take_requests(snapshot.rows.get(name, RowRequests())):
                self._changed = True
                self._pauses.ask_anew()
        for number, request in snapshot.requests.items():
            self._log.append(request)
            self._obey(request)
            self._db.close_request(number)  # killed before this, the next supervisor obeys it again

    def _take_submission(self, submission: Submission) -> None:
        name = submission.id
        if self._state.of(name).finished:  # the supervisor before us came as far as to say so
            with self._db.closing(name) as closed:
                if closed:
                    return
        if not self._state.of(name).plan:
            overrides, only = list(submission.overrides), list(submission.only)
            self._log.append(
                journal.Submitted(submission=name, plan=submission.plan_path, overrides=overrides, only=only)
            )
        state = self._state.of(name)
        try:
            execution = PlanExecution(submission, self._runs, self._hashes, trains=True, state=state)
            execution.assign_all()
        except UserError as error:
            self._finish(journal.Finish(submission=name, reason=f"the plan cannot be read: {error}"))
            return
        except OSError as error:
            if not may_pass(error):
                raise
            reason = f"its data cannot be reached ({error}); tried again"
            if state.wait is None or state.wait.text != reason:
                self._log.append(journal.Wait(submission=name, reason=reason))
            log_line(f"submission {name}: {reason}")
            self._deferred |= {name}
            self._look_again(ELSEWHERE_S)
            return
        successor = partial(self._successor, name)
        self._works[name] = Work(self._runs, execution, self._slots, self._pauses, self._log, successor)
        self._changed = True

    def _obey(self, request: journal.Request) -> None:
        self._changed = True
        self._pauses.ask_anew()
        work = self._works.get(request.submission or "")
        if work is not None and work.execution.stopped is not None:
            work.end_trainers()
        lifts = request.request == "retry" or (request.request == "release" and request.row is None)
        if lifts:
            self._pauses.resume(f"on request ({request.request})")
        if request.request not in ("stop", "kill"):
            return
        run = None if work is None or request.row is None else work.run_of(request.row)
        for slot in self._slots:
            if run is not None and slot.run.name == run.name:
                slot.end(request.request)

    def _successor(self, submission: str, run: RunPaths) -> tuple[str, str] | None:
        """The submission beside this one that wants the run, and its row: it has the trainer from now on."""
        running, others = self._slots.identities, self._works.items()
        return self._hand_over(
            (name, work.execution.wants(run, running)) for name, work in others if name != submission
        )

    def _any_that_has(self, run: RunPaths) -> tuple[str, str] | None:
        """The submission that has the run, wanted or not, and its row: it has the trainer from now on."""
        return self._hand_over((name, work.row_of(run)) for name, work in self._works.items())

    def _hand_over(self, successors: Iterable[tuple[str, str | None]]) -> tuple[str, str] | None:
        for name, row in successors:
            if row is not None:
                self._changed = True
                return name, row
        return None

    # Working on plans

    def _go_on(self, work: Work) -> None:
        if self._home.lost():
            return  # while data were hashed, say
        ending = None
        try:
            ending = work.go_on()
        except OSError as error:
            if is_disk_full(error):
                self._pauses.disk_full(f"{DISK_FULL} ({error})")
            elif may_pass(error):
                work.waits(Wait(f"cannot go on now ({error}); tried again every {ELSEWHERE_S:.0f} s"))
                self._look_again(ELSEWHERE_S)
            else:
                raise
        if ending is not None:
            self._finish(ending)
        elif work.waits_for_gpu:
            self._look_again(GPU_LOOK_S)
        elif work.waits_for_others:
            # Somebody else works on a run; nobody tells us when that ends.
            self._look_again(ELSEWHERE_S)
        if ending is None and any(work.execution.state.has(slot.run.name) for slot in self._slots):
            self._look_again(3600 * work.execution.hours_left(self._slots.identities))

    def _look_again(self, seconds: float) -> None:
        """Ask for the next action again after so long, though nothing has happened."""
        when = time.monotonic() + max(TICK_S, seconds)
        self._look_again_at = when if self._look_again_at is None else min(when, self._look_again_at)

    def _take_ends(self, ends: list[journal.Exit]) -> None:
        for end in ends:
            run = RunPaths(self._runs.root / end.run)
            for other in self._works.values():
                other.execution.forget(run)
            for one in self._concerned(end.submission, end.run):
                one.execution.fit_all()
                one.say_replaced()  # before the end counts as a failure
            self._changed = True
            log_line(f"{end.run}: {end.outcome} {end.message}".rstrip())
            if end.outcome == "done":
                self._pauses.run_done()
                _write_card(run)
            self._notify_end(end)
            if end.outcome == "disk_full":
                self._pauses.disk_full(f"{DISK_FULL} ({end.run}: {end.message})", measured_bytes(run))

    def _notify_end(self, end: journal.Exit) -> None:
        for one in self._concerned(end.submission, end.run):
            self._notify(one, "run_ended", one.facts_of(end))

    def _concerned(self, submission: str, run: str) -> list[Work]:
        """The work that a trainer was started for, and the others that have a row which is its run."""
        return [work for work in self._works.values() if work.name == submission or work.execution.state.has(run)]

    def _notify(self, work: Work, event: str, facts: Mapping[str, Any]) -> None:
        """Notify the plan's program."""
        plan = Path(work.execution.plan.path)
        about = {"submission": work.name, "plan": str(plan), **facts}
        self._notifier.send(work.execution.plan.queue.notify, plan.parent, event, about)

    def _notify_all(self, event: str, facts: Mapping[str, Any]) -> None:
        """The programs of all plans; it is of a pause, or of its end, after which everything is looked at again."""
        self._changed = True
        for work in self._works.values():
            self._notify(work, event, facts)

    def _finish(self, ending: journal.Finish) -> None:
        submission = ending.submission
        with self._db.closing(submission, at_once=not ending.complete) as closed:
            self._changed |= not closed
            if not closed:
                return  # first see what was asked for in this moment
            self._log.append(ending)
        self._pauses.ask_anew()
        work = self._works.pop(submission, None)
        if work is not None:
            self._notify(work, "finished", {"complete": ending.complete, "reason": ending.reason})
        log_line(f"submission {submission}: {ending.reason}")


def _write_card(run: RunPaths) -> None:
    """A model card beside the adapter, which is whole without one."""
    try:
        write_card(run)
    except (OSError, UserError) as error:
        log_line(f"{run.name}: no model card: {error}")
