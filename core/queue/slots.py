"""The trainers that live now: started, adopted, and recorded in `decisions.jsonl` when they begin and end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from core.plan.next_action import Start
from core.queue.decisions import Decision, DecisionLog
from core.queue.execution import Placed, how_it_ended
from core.queue.executor import LocalExecutor, Trainer
from core.queue.standing import Ended
from core.queue.talk import say
from core.runs.paths import RunPaths, RunsFolder
from core.runs.process import identity_from_json
from core.runs.store import read_run


@dataclass(slots=True)
class Slot:
    """A living trainer and what it was started for."""

    trainer: Trainer
    identity: str
    submission: str
    attempts_before: int
    """Attempts in the run folder when it was started: a trainer may die before its first event."""

    @property
    def run(self) -> RunPaths:
        """The run it works on."""
        return self.trainer.run


@dataclass(frozen=True, slots=True)
class End:
    """A trainer that is no more."""

    submission: str
    run: RunPaths
    ended: Ended
    message: str


class Slots:
    """At most `capacity` trainers at a time."""

    def __init__(self, runs: RunsFolder, executor: LocalExecutor, log: DecisionLog, capacity: int) -> None:
        self._runs = runs
        self._executor = executor
        self._log = log
        self._capacity = capacity
        self._slots: list[Slot] = []

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._slots))

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def free(self) -> bool:
        """Whether another trainer may be started. On a machine with GPUs: which one is asked here."""
        return len(self._slots) < self._capacity

    @property
    def identities(self) -> list[str]:
        """Of the runs being worked on."""
        return [slot.identity for slot in self._slots]

    def stop(self, names: Collection[str]) -> None:
        """Ask the trainers of these runs to finish their step, save and end."""
        for slot in self._slots:
            if slot.run.name in names:
                slot.trainer.stop()

    @property
    def pidfds(self) -> list[int | None]:
        """To wait on."""
        return [slot.trainer.pidfd for slot in self._slots]

    def launch(self, placed: Placed, run: RunPaths, submission: str, action: Start) -> str | None:
        """Start a trainer, or adopt one that lives; says which. None: a process out of our sight has the run.

        OSError when it cannot be started. `run.json` must be there.
        """
        attempts = read_run(run).attempts
        trainer, kind = self._executor.adopt(run, attempts[-1].process if attempts else None), "adopt"
        if trainer is None:
            trainer, kind = self._executor.start(run, placed.resolved.settings.train.threads), "start"
        if trainer is None:
            return None
        slot = Slot(trainer, placed.identity, submission, len(attempts))
        self._add(slot, kind, placed.row.key, action.reason, dict(action.inputs))
        say(f"{run.name}: {kind} ({action.reason})")
        return kind

    def adopt_all(self, unended: Mapping[str, Decision]) -> list[End]:
        """Take over the trainers that an earlier supervisor started; the ends that it did not see.

        `unended`: run → the decision that began it, where none says that it ended.
        """
        ends = [self._adopt(RunPaths(self._runs.root / name), started) for name, started in unended.items()]
        return [end for end in ends if end is not None]

    def ended(self) -> list[End]:
        """The trainers that ended since the last call; what they left behind is swept away."""
        return [self._end(slot) for slot in self if not slot.trainer.alive()]

    def escalate(self) -> list[End]:
        """Kill those whose grace is over. Those that SIGKILL does not end (stuck in the kernel) are given up.

        Such a process keeps the lock of its run, so nobody starts a second one there.
        """
        ends: list[End] = []
        for slot in self:
            if not slot.trainer.escalate():
                self._slots.remove(slot)
                ends.append(self._record(slot.submission, slot.run, Ended("unkillable", True), "", None))
        return ends

    def _add(self, slot: Slot, kind: str, row: str, reason: str, inputs: dict[str, object]) -> None:
        self._slots.append(slot)
        identity = slot.trainer.identity
        self._log.append(
            kind,
            submission=slot.submission,
            row=row,
            run=slot.run.name,
            reason=reason,
            inputs=inputs,
            attempts_before=slot.attempts_before,
            process=None if identity is None else identity.to_json(),
        )

    def _adopt(self, run: RunPaths, started: Decision) -> End | None:
        submission, before = str(started.get("submission")), int(started.get("attempts_before") or 0)
        snapshot = read_run(run)
        process = identity_from_json(started.get("process"))
        if len(snapshot.attempts) > before:
            process = snapshot.attempts[-1].process or process
        trainer = self._executor.adopt(run, process)
        if trainer is not None:
            slot = Slot(trainer, snapshot.identity, submission, before)
            self._add(slot, "adopt", str(started.get("row")), "its supervisor is gone", {})
            return None
        outcome, message = how_it_ended(run, before, process)
        return self._record(submission, run, Ended(outcome), message, None)

    def _end(self, slot: Slot) -> End:
        self._slots.remove(slot)
        slot.trainer.close()
        outcome, message = how_it_ended(slot.run, slot.attempts_before, slot.trainer.identity)
        ended = Ended(outcome, slot.trainer.stopping)
        return self._record(slot.submission, slot.run, ended, message, slot.trainer.exit_status)

    def _record(self, submission: str, run: RunPaths, ended: Ended, message: str, status: int | None) -> End:
        self._log.append(
            "exit",
            submission=submission,
            run=run.name,
            outcome=ended.outcome,
            asked=ended.asked,
            message=message,
            status=status,
        )
        return End(submission, run, ended, message)
