"""A queue whose files say what happened to its only row."""

from __future__ import annotations

import json
from typing import Any

from plan_folder import PlanFolder

from core.manifests.hashing import HashCache
from core.plan.next_action import RowStatus
from core.queue.execution import PlanExecution
from core.queue.journal import Journal, Record, decode, records
from core.queue.pauses import Pauses
from core.queue.rows import queue_rows
from core.queue.slots import Slots
from core.queue.state import QueueState, SubmissionState
from core.queue.work import Work
from core.runs.events import SCHEMA_VERSION, AttemptStarted, Final, Phase, Step, encode
from core.runs.events import Record as EventRecord
from core.runs.paths import RunPaths
from core.runs.row import Row
from core.system.files import append_line

ENDS = {"crash": "crashed", "stop": "stopped", "error": "error", "disk": "disk_full", "diverge": "diverged"}


def record(kind: str, **fields: Any) -> Record:
    """As it is read from the journal."""
    found = decode(json.dumps({"decision": kind, "time": 0, **fields}).encode())
    assert found is not None
    return found


class Scene:
    """A queue whose only row is `a`; what happened to it is written as the queue and its trainers write it."""

    def __init__(self, folder: PlanFolder, process: dict[str, Any]) -> None:
        self.folder, self.process, self.attempts = folder, process, 0
        folder.write(queue="retries = 1")
        folder.runs.root.mkdir()
        self.submission = folder.db.submit(folder.submission())
        self.log = Journal(folder.runs.decisions)
        self.say("submitted", plan=str(folder.plan), overrides=[], only=[])
        execution = self.execution()
        self.run: RunPaths = execution.folder(execution.assigned["a"])

    def execution(self, state: SubmissionState | None = None) -> PlanExecution:
        runs = self.folder.runs
        execution = PlanExecution(self.submission, runs, HashCache(runs.hash_cache), state=state)
        execution.assign_all()
        return execution

    def say(self, kind: str, **fields: Any) -> None:
        self.log.append(record(kind, submission=self.submission.id, **fields))

    def wish(self, word: str, row: str | None = "a") -> None:
        self.say("wish", wish=word, row=row, run=None)

    def start(self) -> None:
        if not self.run.config.exists():
            self.run.root.mkdir()
            self.run.config.write_text(json.dumps({"experiment": "a", "identity": self.run.name[2:]}))
        self.say("run", row="a", run=self.run.name)
        process = {"process": self.process, "gpu": None, "inputs": {}}
        self.say("start", row="a", run=self.run.name, reason="first", attempts_before=self.attempts, **process)

    def train(self, how: str) -> None:
        """An attempt in the run's folder."""
        self.attempts += 1
        events: list[Any] = [AttemptStarted(SCHEMA_VERSION, self.process, None, "cpu", "fp32"), Phase("training")]
        events.append(Step(3, 1.0, 1e-4, 1.0, 100, 60.0, 0.001))
        if how != "crash":
            events.append(Final(ENDS[how], f"said {how}", 3))
        for event in events:
            append_line(self.run.events, encode(EventRecord(self.attempts, 1e9, event)))

    def exit(self, outcome: str, *, asked: bool = False) -> None:
        self.say("exit", run=self.run.name, outcome=outcome, asked=asked, message="", status=None)

    def attempt(self, how: str, *, asked: bool = False) -> None:
        """Started, and ended so."""
        self.start()
        self.train(how)
        self.exit(ENDS[how], asked=asked)

    def again(self) -> None:
        """The submission is done with, and the plan is submitted again."""
        self.say("finish", complete=False, reason="", not_run={})
        with self.folder.db.closing(self.submission.id, at_once=True):
            pass
        self.submission = self.folder.db.submit(self.folder.submission())
        self.say("submitted", plan=str(self.folder.plan), overrides=[], only=[])
        self.say("run", row="a", run=self.run.name)

    def entry(self) -> Row:
        [entry] = queue_rows(self.folder.runs).rows
        return entry

    def would_start(self) -> bool:
        """What a supervisor that comes now makes of the same files."""
        runs = self.folder.runs
        state = QueueState(records(runs.decisions))
        execution = self.execution(state.of(self.submission.id))
        slots = Slots(runs, self.folder.executor, self.log, state, lambda: None)  # type: ignore[arg-type, return-value]
        Work(runs, execution, slots, Pauses(runs.root, self.log, state), self.log)
        decision = execution.decision(execution.assigned["a"], ())
        return execution.stopped is None and decision.status is RowStatus.QUEUED
