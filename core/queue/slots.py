"""The trainers that live now: started, adopted, and recorded in the journal when they begin and end."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from core.console import log_line
from core.plan.next_action import Start
from core.plan.schema import QueueSettings, threads_of_each
from core.queue import journal
from core.queue.execution import AssignedRun
from core.queue.executors import Cluster, Executor, Trainer
from core.queue.gpu.available import NO_SLOT, AvailableGpus
from core.queue.gpu.choice import Choice, Devices, uuids
from core.queue.prune import prunable, prune
from core.queue.retry_policy import LOST
from core.queue.run_status import is_lost, read_outcome
from core.queue.state import JOB_WAITS, QueueState
from core.runs.paths import RunPaths, RunsFolder
from core.runs.snapshot import LOST_S, Attempt, RunSnapshot
from core.runs.store import RunFollower, read_run
from core.system.files import HeldFolder
from core.system.process import ProcessIdentity, identity_from_json, is_alive

LOCAL = QueueSettings()
"""Of plans that say nothing of where their trainers run."""
STUCK = "killed, but stuck in the kernel"
UNSEEN_LOOK_S = 10.0
"""How often the events of trainers out of sight are read."""


@dataclass(slots=True)
class Slot:
    """A living trainer and what it was started for."""

    trainer: Trainer
    identity: str
    submission: str
    attempts_before: int
    """Attempts in the run folder when it was started: a trainer may die before its first event."""
    free_before: Mapping[str, int] = field(default_factory=dict)
    """UUID of a GPU of its → bytes that were free there when it was started, where that is known."""
    home: HeldFolder | None = None
    """Its run folder as it was when the trainer was started or adopted."""

    @property
    def run(self) -> RunPaths:
        """The run it works on."""
        return self.trainer.run

    def end(self, request: str) -> None:
        """`kill`: now. `stop`: when its step is finished and saved."""
        if request == "kill":
            self.trainer.kill()
        else:
            self.trainer.stop()


@dataclass(frozen=True, slots=True)
class _Begun:
    """A trainer that the journal says was begun, and not that it ended; it does not live here."""

    record: journal.Start
    events: RunFollower

    def process(self, snapshot: RunSnapshot) -> ProcessIdentity | None:
        """As its events say it, else as the journal does."""
        told = identity_from_json(self.record.process)
        return (snapshot.attempts[-1].process or told) if self._has_events(snapshot) else told

    def may_live(self, snapshot: RunSnapshot) -> bool:
        """Whether it is of another machine or container, and silent for no longer than such a trainer may be."""
        process = self.process(snapshot)
        waits = self.record.job is not None and not self._has_events(snapshot)  # in a cluster that is not seen here
        if not waits and (process is None or is_alive(process) is not None):
            return False
        return snapshot.state.active if self._has_events(snapshot) else time.time() - self.record.time <= LOST_S

    def _has_events(self, snapshot: RunSnapshot) -> bool:
        return len(snapshot.attempts) > self.record.attempts_before


Successor = Callable[[RunPaths], tuple[str, str] | None]
"""Who else wants a run: (submission, row)."""


class Slots:
    """One trainer on each GPU that nobody else fills; without GPUs, one trainer. On a cluster, so many jobs."""

    def __init__(
        self,
        runs: RunsFolder,
        executor: Executor,
        log: journal.Journal,
        state: QueueState,
        devices: Callable[[], Devices],
        cluster: Cluster | None = None,
    ) -> None:
        """`executor`: of this machine. `state`: what the journal has come to, and will."""
        self._runs = runs
        self._executor = executor
        self._cluster = cluster
        self._log = log
        self._state = state
        self._gpus = AvailableGpus(runs, log, devices)
        self._slots: list[Slot] = []
        self._given_up: list[Slot] = []
        """Those whose trainers SIGKILL did not end: run and place stay taken until they are dead."""
        self._begun: dict[str, _Begun] = {}
        """Run → a trainer that may work out of our sight."""
        self._look_at = 0.0

    def close(self) -> None:
        """Let the trainers work on by themselves: another supervisor adopts them."""
        for slot in self._slots:
            slot.trainer.release()
            self._let_go_of_folder(slot)
        self._slots.clear()

    def rebase(self, folder: Path) -> None:
        """What trainers leave is looked for in `folder`: the runs folder was moved there."""
        self._begun.clear()
        for slot in self._slots:
            slot.trainer.run = RunPaths(folder / slot.run.name)
            self._let_go_of_folder(slot)

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._slots))

    def __len__(self) -> int:
        return len(self._slots)

    def choose(self, queue: QueueSettings, devices: int = 1) -> Choice:
        """Where another trainer may be started now on so many GPUs for a plan with this `[queue]`, or why nowhere."""
        if (cluster := self._cluster_of(queue)) is not None:
            full = cluster.full([slot.trainer for slot in self], queue.slurm.jobs)
            return Choice(waits=full, cause=full)
        here = [slot for slot in self if slot.trainer.job is None]
        taken = {slot.run.name: slot.trainer.gpu for slot in here}
        stuck = {f"{name} ({STUCK})": slot.trainer.gpu for name, slot in self._stuck().items()}
        choice = self._gpus.choose(taken | stuck, queue.gpu_free_gb, devices)
        if choice.waits == NO_SLOT and not taken:
            reason = f"the CPU is taken by {', '.join(stuck)}"
            return Choice(waits=reason, cause=reason)
        return choice

    def _cluster_of(self, queue: QueueSettings) -> Cluster | None:
        """The cluster, where the plan's trainers are its jobs."""
        return self._cluster if queue.executor != "local" else None

    @property
    def identities(self) -> list[str]:
        """Of the runs being worked on."""
        return [slot.identity for slot in self._slots]

    def let_go(self, submission: str, successor: Successor, runs: Collection[str] | None = None) -> list[Slot]:
        """The trainers of a submission (of these runs) that nobody else wants; the others go on for somebody else."""
        left = []
        for slot in self._slots:
            if slot.submission != submission or (runs is not None and slot.run.name not in runs):
                continue
            found = None if slot.trainer.stopping else successor(slot.run)
            if found is None:
                left.append(slot)
            else:
                slot.submission, row = found
                self._record_begin(slot, "adopt", row, f"submission {submission} lets it go", {})
                log_line(f"{slot.run.name}: goes on for submission {slot.submission}")
        return left

    @property
    def pidfds(self) -> list[int | None]:
        """To wait on."""
        return [slot.trainer.pidfd for slot in self._slots]

    def launch(
        self,
        assigned: AssignedRun,
        run: RunPaths,
        submission: str,
        action: Start,
        choice: Choice | None = None,
        queue: QueueSettings = LOCAL,
    ) -> bool:
        """Start a trainer, or adopt one that lives. False: a process out of our sight has the run.

        `queue`: of its plan. OSError when it cannot be started. `run.json` must be there.
        """
        snapshot, row = read_run(run), assigned.row.key
        if self.take_over(run, assigned.identity, submission, row, queue, snapshot):
            return True
        gone = len(snapshot.attempts) <= self._state.dead_attempts(run.name) or is_lost(snapshot)
        if run.name in {*self._begun, *self._stuck()} or (snapshot.state.active and not gone):
            return False  # another machine or container has gone on with it since the row was looked at
        choice, train = choice or Choice(), assigned.resolved.settings.train
        attempts, cluster = len(snapshot.attempts), self._cluster_of(queue)
        if cluster is None:
            threads = threads_of_each(train.threads, train.devices)
            trainer = self._executor.start(run, threads, choice.visible, attempts=attempts)
        else:
            trainer = cluster.executor(queue.slurm).start(run, train.threads, attempts=attempts)
        if trainer is None:
            return False
        free_before = {gpu.uuid: gpu.free or 0 for gpu in choice.gpus}
        slot = Slot(trainer, assigned.identity, submission, attempts, free_before)
        self._add(slot, "start", row, action.reason, dict(action.inputs))
        log_line(f"{run.name}: start ({action.reason})")
        return True

    def take_over(
        self,
        run: RunPaths,
        identity: str,
        submission: str,
        row: str,
        queue: QueueSettings = LOCAL,
        snapshot: RunSnapshot | None = None,
    ) -> bool:
        """Adopt the run's trainer if it lives on this machine, or is a job: it takes up a slot, whoever started it.

        Not one that was given up. `snapshot`: of the run, where it was read a moment ago. OSError: it cannot be told.
        """
        if run.name in self._stuck():
            return False
        attempts, cluster = (snapshot or read_run(run)).attempts, self._cluster_of(queue)
        process = attempts[-1].process if attempts else None
        # A job may work on this very machine, where it holds the run's lock like a trainer that was started here.
        trainer = None if cluster is None else cluster.executor(queue.slurm).adopt(run, process)
        trainer = trainer or self._executor.adopt(run, process)
        if trainer is None:
            return False
        slot = Slot(trainer, identity, submission, _before(trainer, attempts))
        self._add(slot, "adopt", row, "it runs already", {})
        log_line(f"{run.name}: adopt (it runs already)")
        return True

    def adopt_all(self, submissions: Collection[str] = ()) -> list[journal.Exit]:
        """Take over the trainers that an earlier supervisor started; the ends that it did not see.

        `submissions`: those that were asked to end as a whole, and will see to it: what another one wants goes on.
        Of trainers on other machines or in other containers `ended` tells when their events say so, or stay out.
        """
        for name, started in list(self._state.trainers.items()):
            run = RunPaths(self._runs.root / name)
            begun = _Begun(started, RunFollower(run))
            snapshot = begun.events.refresh()
            trainer: Trainer | None = None
            if started.job is not None and self._cluster is not None:
                trainer = self._cluster.find(run, started.job, started.attempts_before)
            trainer = trainer or self._executor.adopt(run, begun.process(snapshot))
            if trainer is None:
                self._begun[name] = begun
                continue
            trainer.gpu = trainer.gpu or started.gpu
            slot = Slot(trainer, snapshot.identity, started.submission, started.attempts_before)
            self._add(slot, "adopt", started.row, "its supervisor is gone", {})
            if asked := self._state.asked_of(name, but=submissions):
                slot.end(asked)  # whoever asked it before us can no longer see to its end
        return self._unseen_ends()

    def ended(self) -> list[journal.Exit]:
        """The trainers that ended since the last call; what they left behind is swept away."""
        unseen = self._unseen_ends() if self._begun and time.monotonic() >= self._look_at else []
        if self._cluster is not None:
            self._cluster.look()
        self._tell_news()
        return unseen + [self._end(slot) for slot in self if not slot.trainer.alive()]

    def escalate(self) -> list[journal.Exit]:
        """Kill those whose grace is over. Those that SIGKILL does not end (stuck in the kernel) are given up.

        Such a process keeps the lock of its run, so nobody starts a second one there.
        """
        ends: list[journal.Exit] = []
        for slot in self:
            if not slot.trainer.escalate():
                self._slots.remove(slot)
                self._given_up.append(slot)
                self._let_go_of_folder(slot)
                slot.trainer.release()
                ends.append(self._record(slot.submission, slot.run, "unkillable", STUCK, asked=True))
        return ends

    def hold(self, submission: str, places: Mapping[str, int], held: Collection[str]) -> None:
        """Which of the submission's runs are to wait where their jobs have not started, and in which order they stand.

        `places`: run → its place in the submission, where somebody has put its rows in order.
        """
        for slot in self._slots:
            if slot.submission == submission:
                slot.trainer.hold(held=slot.run.name in held)
                if (place := places.get(slot.run.name)) is not None:
                    slot.trainer.place(place)

    def _tell_news(self) -> None:
        """Record how jobs stand, where that has changed."""
        for slot in self._slots:
            news = slot.trainer.news()
            if news is not None:
                known = self._state.jobs.get(slot.run.name)
                before = slot.attempts_before if known is None else known.attempts
                job = journal.Job(
                    submission=slot.submission,
                    run=slot.run.name,
                    job=slot.trainer.job or "",
                    state=news.state,
                    reason=news.reason,
                    expected=news.expected,
                    attempts=len(read_run(slot.run).attempts) if news.state in JOB_WAITS else before,
                )
                self._log.append(job)

    def _stuck(self) -> dict[str, Slot]:
        """Run → its slot that was given up, where its trainer still lives."""
        for slot in list(self._given_up):
            if not slot.trainer.alive():
                self._given_up.remove(slot)
                self._leave(slot)
        return {slot.run.name: slot for slot in self._given_up}

    def _add(self, slot: Slot, kind: str, row: str, reason: str, inputs: dict[str, object]) -> None:
        with suppress(OSError):
            slot.home = HeldFolder(slot.run.root)
        self._slots.append(slot)
        self._begun.pop(slot.run.name, None)
        self._record_begin(slot, kind, row, reason, inputs)

    def _record_begin(self, slot: Slot, kind: str, row: str, reason: str, inputs: dict[str, object]) -> None:
        identity = slot.trainer.identity
        self._log.append(
            (journal.Start if kind == "start" else journal.Adopt)(
                submission=slot.submission,
                row=row,
                run=slot.run.name,
                reason=reason,
                inputs=inputs,
                attempts_before=slot.attempts_before,
                process=None if identity is None else identity.to_json(),
                gpu=slot.trainer.gpu,
                job=slot.trainer.job,
            )
        )

    def _end(self, slot: Slot) -> journal.Exit:
        self._slots.remove(slot)
        self._leave(slot)
        outcome, message = read_outcome(slot.run, slot.attempts_before, slot.trainer.identity)
        outcome, message = slot.trainer.end(outcome, message)
        if lost := "" if slot.home is None else slot.home.lost():
            outcome, message = LOST, f"{lost} while it trained; `lora-tui queue retry` begins it anew"
        self._let_go_of_folder(slot)
        asked, status = slot.trainer.stopping, slot.trainer.exit_status
        attempts = 0 if slot.trainer.job is None else len(read_run(slot.run).attempts)
        return self._record(slot.submission, slot.run, outcome, message, asked=asked, status=status, attempts=attempts)

    @staticmethod
    def _let_go_of_folder(slot: Slot) -> None:
        if slot.home is not None:
            slot.home.close()
            slot.home = None

    def _leave(self, slot: Slot) -> None:
        """Its trainer is dead."""
        slot.trainer.close()
        for gpu in uuids(slot.trainer.gpu):
            self._gpus.left(gpu, slot.free_before.get(gpu, 0))

    def _unseen_ends(self) -> list[journal.Exit]:
        """The ends of trainers out of sight that nobody has told."""
        self._look_at = time.monotonic() + UNSEEN_LOOK_S
        ends = []
        for name, begun in list(self._begun.items()):
            run, snapshot = begun.events.paths, begun.events.refresh()
            if begun.may_live(snapshot):
                continue
            del self._begun[name]
            if name not in QueueState(journal.records(self._log.path)).trainers:
                continue  # the supervisor of its machine has told its end
            outcome, message = read_outcome(run, begun.record.attempts_before, begun.process(snapshot))
            asked = self._state.asked_of(name) is not None
            ends.append(self._record(begun.record.submission, run, outcome, message, asked=asked))
        return ends

    def _record(
        self,
        submission: str,
        run: RunPaths,
        outcome: str,
        message: str,
        *,
        asked: bool,
        status: int | None = None,
        attempts: int = 0,
    ) -> journal.Exit:
        end = journal.Exit(
            submission=submission,
            run=run.name,
            outcome=outcome,
            asked=asked,
            message=message,
            status=status,
            attempts=attempts,
        )
        self._log.append(end)
        if outcome == "done":
            self._tidy(run)
        return end

    def _tidy(self, run: RunPaths) -> None:
        """Delete what a trainer that was killed right after `result.json` left: nobody goes on from it."""
        left = prunable(run)
        try:
            pruned = prune(self._runs, left) if left is not None else None
            for what in pruned.left if pruned is not None else ():
                log_line(f"what is left of a checkpoint is not needed any more: {what}")
        except OSError as error:
            log_line(f"{run.name}: what is left of its checkpoints cannot be deleted: {error}")


def _before(trainer: Trainer, attempts: Sequence[Attempt]) -> int:
    """How many of the attempts in the run folder are not its own: one that was adopted may have begun one already."""
    if trainer.attempts_before is not None:
        return trainer.attempts_before
    own = bool(attempts) and trainer.identity is not None and attempts[-1].process == trainer.identity
    return len(attempts) - own
