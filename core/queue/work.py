"""The work on one submission: asks what comes next and does it, until it has to wait or nothing is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.errors import is_disk_full, may_pass
from core.plan.expand import matches
from core.plan.next_action import Finished, Skip, Start, Stop, Wait
from core.plan.row_state import RowStatus
from core.queue.decisions import Decision, DecisionLog
from core.queue.execution import PlanExecution
from core.queue.forecast import measured_bytes
from core.queue.gpu.available import NO_SLOT
from core.queue.pauses import Pauses
from core.queue.record import write_run
from core.queue.slots import End, Heir, Slots
from core.queue.standing import Ended
from core.queue.wishes import RowWishes
from core.runs.paths import RunPaths, RunsFolder

REMOVED = "removed from the queue"


@dataclass(frozen=True, slots=True)
class Ending:
    """Why nothing more is done for a submission. `complete`: all was done that it asked for."""

    complete: bool
    reason: str
    not_run: Mapping[str, str] = field(default_factory=dict)


class Work:
    """One submission that is being worked on."""

    def __init__(
        self,
        runs: RunsFolder,
        execution: PlanExecution,
        slots: Slots,
        pauses: Pauses,
        log: DecisionLog,
        heir: Heir = lambda run: None,
    ) -> None:
        """`heir`: who else wants a run that this work would end."""
        self.execution = execution
        self.name = execution.submission.id
        self._runs = runs
        self._slots = slots
        self._pauses = pauses
        self._log = log
        self._heir = heir
        self._said: set[tuple[str, ...]] = set()
        """What stands in the decisions already, and is said only once."""
        self._runs_said: set[str] = set()
        """Runs of which the decisions say that a row is it."""
        self._run_said: dict[str, str] = {}
        """Row → the run that the decisions say it is, the newest."""
        self._wish = "stop"
        """How it was asked to end, where it was."""
        self._waits: str | None = None
        self._foreign = False
        """Whether a trainer that is none of ours works on a row's run."""
        self.waits_for_gpu = False
        """Whether it waits for a GPU, which somebody else may let go of at any time."""

    @property
    def waits_for_others(self) -> bool:
        """Whether it waits for something that nobody here will tell us of."""
        return bool(self._foreign or self.execution.elsewhere or (self._waits and not self._slots))

    def go_on(self) -> Ending | None:
        """Start what can be started. None: not at its end yet. OSError: a full disk, or what may pass."""
        execution = self.execution
        self.waits_for_gpu = False
        self._take_over()
        while execution.stopped is None:
            action = execution.next_action(self._slots.identities)
            for key, run in execution.started():
                self._once("run", row=key, run=run.name)
            for name, instead in execution.replaced.items():
                self._once("halve", row=instead.row, run=name, accumulation=instead.accumulation)
            match action:
                case Finished():
                    return Ending(True, action.reason, execution.not_run(action))
                case Wait():
                    self.waits(action.reason, over=action.over)
                    return None
                case Stop():
                    return self._stop(action)
                case Skip():
                    execution.skip(action.row.key, action.reason)
                    self._skipped(action.row.key, action.inputs)
                case Start():
                    if not self._start(action):
                        return None
        self.end_trainers()
        if all(slot.submission != self.name for slot in self._slots):
            return Ending(False, execution.stopped)
        return None

    def waits(self, reason: str, cause: str = "", *, over: bool = False) -> None:
        """Say why nothing is started, when that (or `cause`, where figures in the reason change) has changed.

        `over`: and nothing will be, whatever becomes of what runs.
        """
        cause = cause or reason
        if cause != self._waits:
            self._waits = cause
            self._log.append("wait", submission=self.name, reason=reason, over=over)

    def take_wishes(self, wishes: RowWishes) -> bool:
        """What is wished for its rows now. Whether that is anything new."""
        execution = self.execution
        if wishes == execution.wishes:
            return False
        execution.wishes = wishes
        removed = sorted(wishes.removed - set(execution.closed))
        for key in removed:
            execution.skip(key, REMOVED)
            self._skipped(key, {})
        runs = {run.name for key in removed if (run := self.run_of(key)) is not None}
        kept = {run.name for key in set(execution.placed) - set(execution.closed) if (run := self.run_of(key))}
        for slot in self._slots.let_go(self.name, self._heir, runs - kept):
            slot.trainer.stop()  # it was started in the moment in which somebody removed it
        return True

    def retry(self, key: str) -> None:
        """Try a row again, whatever became of it."""
        self._said.discard(_once("skip", {"row": key}))
        self.execution.retry(key, self._run_said.get(key))

    def reopen(self, key: str) -> None:
        """A row that was removed is asked for again."""
        self._said.discard(_once("skip", {"row": key}))
        self.execution.reopen(key)

    def has(self, run: RunPaths) -> bool:
        """Whether a row of it is this run, as far as was said: its trainer's ends count here too, then."""
        return run.name in self._runs_said

    def wants(self, run: RunPaths) -> str | None:
        """The row that is this run, if the run is to go on for this submission."""
        return self.execution.wants(run, self._slots.identities)

    def row_of(self, run: RunPaths) -> str | None:
        """A row that the submission asks for and that is this run."""
        execution, only = self.execution, self.execution.submission.only
        for row in execution.rows:
            found = self.run_of(row.key) if not only or matches(row, only) else None
            if found is not None and found.name == run.name:
                return row.key
        return None

    def inherits(self) -> None:
        """A trainer works for it from now on: whoever reads the decisions takes what it waited for over."""
        self._waits = None

    def run_of(self, key: str) -> RunPaths | None:
        """The run of a row, once it can be told."""
        placed = self.execution.placed.get(key)
        return None if placed is None else self.execution.folder(placed)

    @property
    def halves(self) -> bool:
        """Whether a run that ran out of memory is run again with smaller micro-batches."""
        return self.execution.plan.queue.on_out_of_memory == "halve"

    def facts_of(self, end: End) -> dict[str, Any]:
        """What a notification says of a run that ended."""
        rows = [
            key for key in self.execution.placed if (run := self.run_of(key)) is not None and run.name == end.run.name
        ]
        facts = self.execution.facts(end.run) if end.ended.outcome == "done" else {}
        known = {name: facts.get(name) for name in ("accepted", "domain_gain", "heldout_regression")}
        return {
            "run": end.run.name,
            "folder": str(end.run.root),
            "rows": rows,
            "outcome": end.ended.outcome,
            "message": end.message,
            **known,
        }

    def remember(self, decision: Decision) -> None:
        """What an earlier supervisor did for this submission, or how a trainer of one of its runs ended."""
        execution, row = self.execution, decision.get("row")
        if decision.kind == "exit":
            end = Ended(str(decision.get("outcome")), bool(decision.get("asked")))
            execution.ended(RunPaths(self._runs.root / str(decision.get("run"))), end)
        elif decision.kind == "wish" and row is None:
            self.stop(str(decision.get("wish")))
        elif decision.kind == "wish" and decision.get("wish") == "retry":
            self.retry(str(row))
        elif decision.kind == "wish" and decision.get("wish") == "add":
            self.reopen(str(row))
        elif decision.kind in ("run", "skip", "halve", "stop"):
            self._note(decision.kind, decision.fields)
        elif decision.kind == "wait":
            self._waits = str(decision.get("reason"))
        elif decision.kind in ("start", "adopt"):
            self._waits = None  # whoever reads the decisions takes the wait for over

    def stop(self, kind: str) -> None:
        """Nothing more is started for it; `kind` is the wish."""
        if kind in ("stop", "kill"):
            self.execution.stopped = "killed on request" if kind == "kill" else "stopped on request"
            self._wish = kind

    def end_trainers(self) -> None:
        """Carry out what it was asked as a whole; what another submission wants goes on."""
        for slot in self._slots.let_go(self.name, self._heir):
            slot.end(self._wish)

    def _take_over(self) -> None:
        """Adopt the trainers of this plan that live here and of which the decisions say nothing.

        A supervisor may die between the start of a trainer and the line about it, and people start trainers by hand:
        beside either, the slot is not free.
        """
        self._foreign = False
        for key, (placed, run) in self.execution.at_work(self._slots.identities).items():
            if self._slots.take_over(run, placed.identity, self.name, key):
                self._once("run", row=key, run=run.name)
                self._waits = None
            else:
                self._foreign = True

    def _stop(self, action: Stop) -> Ending | None:
        """None: it waits for trainers of its own to stop. Those that another submission wants go on, not for it."""
        runs = {row.key: run.name for row in action.rows if (run := self.run_of(row.key)) is not None}
        slots = self._slots.let_go(self.name, self._heir, runs.values())
        ending = {slot.run.name for slot in slots}
        for key, name in runs.items():
            if name in ending:
                self._once("stop", row=key, run=name, reason=action.reason)
        for slot in slots:
            slot.trainer.stop()
        if ending:
            stopped = ", ".join(key for key, name in runs.items() if name in ending)
            self.waits(f"{action.reason}; waiting for {stopped} to stop", over=True)
            return None
        return Ending(True, action.reason, self.execution.not_run(Finished(action.reason, action.not_run)))

    def _start(self, action: Start) -> bool:
        """Start the row's run, or take over what is there. False: it waits for a slot."""
        execution, row = self.execution, action.row.key
        placed = execution.place(action)
        if placed is None:
            self._skipped(row, action.inputs)
            return True
        run = execution.folder(placed)
        if execution.standing(placed, self._slots.identities).status is not RowStatus.QUEUED:
            return True  # done, failed or running already: the next action takes that into account
        choice = self._slots.choose(execution.plan.queue.gpu_free_gb)
        if choice.waits:
            self.waits(choice.waits, choice.cause)
            self.waits_for_gpu = choice.waits != NO_SLOT
            return False
        limit = execution.plan.queue.pause_after
        # Those that train now have most of theirs still to write; one that goes on has its own there already.
        needed = execution.expected_bytes(placed) * (1 + len(self._slots)) - measured_bytes(run)
        if paused := self._pauses.before_start(limit, needed):
            self.waits(paused)
            return False
        try:
            write_run(run, placed.row, placed.resolved, execution.plan)
            kind = self._slots.launch(placed, run, self.name, action, choice)
        except OSError as error:
            if is_disk_full(error) or may_pass(error):
                raise
            execution.close(row, f"cannot start: {error}")
            self._skipped(row, action.inputs)
            return True
        execution.forget(run)
        if kind is None:
            # A process that we cannot see, such as another container's, holds its lock or writes its events.
            execution.elsewhere.add(placed.identity)
        else:
            self._waits = None
        return True

    def _skipped(self, row: str, inputs: Mapping[str, Any]) -> None:
        status = self.execution.status_of_closed(row)
        word = None if status is None else status.value
        self._once("skip", row=row, status=word, reason=self.execution.closed[row], inputs=dict(inputs))

    def _once(self, kind: str, **fields: Any) -> None:
        if _once(kind, fields) not in self._said:
            self._note(kind, fields)
            self._log.append(kind, submission=self.name, **fields)

    def _note(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._said.add(_once(kind, fields))
        if kind == "run":
            self._runs_said.add(str(fields.get("run")))
            self._run_said[str(fields.get("row"))] = str(fields.get("run"))


def _once(kind: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes a `run` or `skip` decision the same as an earlier one."""
    return (kind, str(fields.get("row")), str(fields.get("run")))
