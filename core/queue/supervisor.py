"""The supervisor: the only process that starts, stops and resumes trainers. One per state folder.

It keeps nothing that matters in memory: what is to be done stands in the queue's SQLite, what was done in the
run folders and in `decisions.jsonl`. Another one takes over after its death, with the trainers that live on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from core.errors import UserError, is_disk_full
from core.plan.next_action import Finished, RowStatus, Skip, Start, Wait
from core.queue.decisions import Decision, DecisionLog, read_decisions
from core.queue.execution import PlanExecution
from core.queue.executor import LocalExecutor
from core.queue.lock import KernelLock
from core.queue.record import write_run
from core.queue.slots import End, Slots
from core.queue.standing import Ended
from core.queue.wakeups import Wakeups
from core.queue.wishes import QueueDb, Submission
from core.runs.paths import RunPaths, RunsFolder
from core.runs.process import current_process
from core.speech.hashing import HashCache

TICK_S = 0.5
"""How soon a submission or a wish is noticed; the end of a trainer is noticed at once where pidfds exist."""
ELSEWHERE_S = 10.0
"""How often runs that another machine works on are looked at again."""
DISK_FULL = "the disk is full"


class Supervisor:
    """Runs until nothing is left to do, or until it is told to stop. `slots`: how many trainers at a time."""

    def __init__(self, runs: RunsFolder, lock: KernelLock, executor: LocalExecutor, slots: int = 1) -> None:
        self._runs = runs
        self._lock = lock
        self._db = QueueDb(runs.queue_db)
        self._log = DecisionLog(runs.decisions)
        self._slots = Slots(runs, executor, self._log, slots)
        self._hashes = HashCache(runs.hash_cache)
        self._executions: dict[str, PlanExecution] = {}
        self._changed = True
        self._look_again_at: float | None = None
        self._said: set[tuple[str, ...]] = set()
        """What stands in the decisions of an open submission already, and is said only once."""

    def run(self) -> None:
        """Work until nothing is left. OSError when the disk is full; trainers then go on by themselves."""
        self._log.append("supervisor_started", process=current_process().to_json())
        with Wakeups() as wakeups:
            self._take_ends(self._slots.adopt_all())
            while True:
                self._tick(wakeups.stop_asked)
                if not self._slots and self._leave(wakeups.stop_asked):
                    return
                wakeups.wait(self._slots.pidfds, TICK_S)

    def _tick(self, stop_asked: bool) -> None:
        self._take_submissions()
        if stop_asked:
            for slot in self._slots:
                slot.trainer.stop()
        self._take_ends(self._slots.ended())
        self._take_ends(self._slots.escalate())
        if self._look_again_at is not None and time.monotonic() >= self._look_again_at:
            self._changed, self._look_again_at = True, None
            for execution in self._executions.values():
                execution.elsewhere.clear()
        if self._changed and not stop_asked:
            self._changed = False
            for execution in list(self._executions.values()):
                self._work_on(execution)

    def _leave(self, stop_asked: bool) -> bool:
        """Whether it is time to end; the lock is free then."""
        if stop_asked:
            self._say_goodbye("told to stop")
            return True
        if self._executions:
            return False
        # A face that submits while this block lasts waits for it, and then finds the lock free.
        with self._db.leaving() as nothing_open:
            if nothing_open:
                self._say_goodbye("nothing is left to do")
        return nothing_open

    def _say_goodbye(self, reason: str) -> None:
        self._log.append("supervisor_ended", reason=reason)
        _say(f"ending: {reason}")
        self._lock.release()

    # What faces ask for

    def _take_submissions(self) -> None:
        if not self._db.changed():
            return
        for submission in self._db.open_submissions():
            if submission.id not in self._executions:
                self._take_submission(submission)
        for wish in self._db.open_wishes():
            self._log.append("wish", wish=wish.kind, submission=wish.submission, run=wish.run)
            self._db.close_wish(wish.number)
            self._obey(wish.kind, wish.submission, wish.run)

    def _take_submission(self, submission: Submission) -> None:
        name = submission.id
        decisions = [d for d in read_decisions(self._runs.decisions) if d.get("submission") == name]
        if any(decision.kind == "finish" for decision in decisions):
            self._db.close_submission(name)  # the supervisor before us came as far as to say so
            return
        if not any(decision.kind == "submitted" for decision in decisions):
            asked = {"overrides": submission.overrides, "only": submission.only}
            self._log.append("submitted", submission=name, plan=submission.plan_path, **asked)
        try:
            execution = PlanExecution(submission, self._runs, self._hashes)
        except UserError as error:
            self._finish(name, complete=False, reason=f"the plan cannot be read: {error}")
            return
        execution.place_all()
        self._executions[name] = execution
        for decision in decisions:
            self._remember(execution, decision)
        self._changed = True

    def _remember(self, execution: PlanExecution, decision: Decision) -> None:
        """What an earlier supervisor did for this submission."""
        if decision.kind == "exit":
            end = Ended(str(decision.get("outcome")), bool(decision.get("asked")))
            execution.ended(RunPaths(self._runs.root / str(decision.get("run"))), end)
        elif decision.kind == "wish":
            self._obey(str(decision.get("wish")), execution.submission.id, None)
        elif decision.kind in ("run", "skip"):
            self._said.add(_once(decision.kind, decision.fields))

    def _obey(self, kind: str, submission: str | None, run: str | None) -> None:
        execution = self._executions.get(submission or "")
        if execution is not None:
            execution.stopped = "killed on request" if kind == "kill" else "stopped on request"
        for slot in self._slots:
            if submission == slot.submission or run == slot.run.name:
                if kind == "kill":
                    slot.trainer.kill()
                else:
                    slot.trainer.stop()
        self._changed = True

    # Working on a plan

    def _work_on(self, execution: PlanExecution) -> None:
        name = execution.submission.id
        while execution.stopped is None:
            action = execution.next_action(self._slots.identities)
            for key, run in execution.started():
                self._once("run", submission=name, row=key, run=run.name)
            match action:
                case Finished():
                    not_run = execution.not_run(action)
                    self._finish(name, complete=True, reason=action.reason, not_run=not_run)
                    return
                case Wait():
                    if not self._slots:
                        # Somebody else works on a run; nobody tells us when that ends.
                        self._look_again_at = time.monotonic() + ELSEWHERE_S
                    return
                case Skip():
                    execution.skip(action.row.key, action.reason)
                    self._skipped(execution, action)
                case Start():
                    if not self._start(execution, action):
                        return
        if all(slot.submission != name for slot in self._slots):
            self._finish(name, complete=False, reason=execution.stopped)

    def _start(self, execution: PlanExecution, action: Start) -> bool:
        """Start the row's run, or take over what is there. False: it waits for a slot."""
        name, row = execution.submission.id, action.row.key
        placed = execution.place(action)
        if placed is None:
            self._skipped(execution, action)
            return True
        run = execution.folder(placed)
        if execution.standing(placed, self._slots.identities).status is not RowStatus.QUEUED:
            return True  # done, failed or running already: the next action takes that into account
        if not self._slots.free:
            return False
        try:
            write_run(run, placed.row, placed.resolved, execution.plan, self._runs.state)
            kind = self._slots.launch(placed, run, name, action)
        except OSError as error:
            if is_disk_full(error):
                self._pause(f"{DISK_FULL} ({error})")
            else:
                execution.close(row, f"cannot start: {error}")
                self._skipped(execution, action)
            return True
        execution.forget(run)
        if kind is None:
            # Its lock is held by a process that we cannot see, such as another container's.
            execution.elsewhere.add(placed.identity)
        else:
            _say(f"{run.name}: {kind} ({action.reason})")
        return True

    def _skipped(self, execution: PlanExecution, action: Start | Skip) -> None:
        row = action.row.key
        reason = execution.closed[row]
        inputs = dict(action.inputs)
        status = execution.status_of_closed(row)
        word = None if status is None else status.value
        name = execution.submission.id
        self._once("skip", submission=name, row=row, status=word, reason=reason, inputs=inputs)

    def _take_ends(self, ends: list[End]) -> None:
        for end in ends:
            for other in self._executions.values():
                other.forget(end.run)
            execution = self._executions.get(end.submission)
            if execution is not None:
                execution.ended(end.run, end.ended)
            self._changed = True
            _say(f"{end.run.name}: {end.ended.outcome} {end.message}".rstrip())
            if end.ended.outcome == "disk_full":
                self._pause(f"{DISK_FULL} ({end.run.name}: {end.message})")

    def _pause(self, reason: str) -> None:
        """Start nothing more for anybody; what is there can be resumed when the cause is gone."""
        for execution in self._executions.values():
            execution.stopped = execution.stopped or reason
        self._changed = True
        self._log.append("pause", reason=reason)

    def _finish(
        self, submission: str, *, complete: bool, reason: str, not_run: Mapping[str, str] | None = None
    ) -> None:
        self._executions.pop(submission, None)
        fields = {"complete": complete, "reason": reason, "not_run": dict(not_run or {})}
        self._log.append("finish", submission=submission, **fields)
        self._db.close_submission(submission)
        _say(f"submission {submission}: {reason}")

    def _once(self, kind: str, **fields: Any) -> None:
        if _once(kind, fields) not in self._said:
            self._said.add(_once(kind, fields))
            self._log.append(kind, **fields)


def _once(kind: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes a `run` or `skip` decision the same as an earlier one."""
    return (kind, str(fields.get("submission")), str(fields.get("row")), str(fields.get("run")))


def _say(text: str) -> None:
    """One line to supervisor.log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()
