"""The work on one submission: asks what comes next and does it, until it has to wait or nothing is left."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from core.errors import UserError, is_disk_full, may_pass
from core.plan.next_action import Finished, RowStatus, Skip, Start, Stop, Wait
from core.plan.rows import NEXT_DRAW
from core.plan.schema import Plan, Row
from core.queue import journal
from core.queue.execution import REMOVED, PlanExecution
from core.queue.forecast import measured_bytes
from core.queue.gpu.available import NO_SLOT
from core.queue.gpu.choice import Choice
from core.queue.pauses import Pauses
from core.queue.report import judge_run
from core.queue.requests import RowRequests
from core.queue.slots import Slots, Successor
from core.runs.contents import HUB, MODEL
from core.runs.documents import read_config
from core.runs.folder import write_json
from core.runs.headline import headline
from core.runs.model_files import DEFAULT_REVISION
from core.runs.paths import RunPaths, RunsFolder
from core.runs.resolve import Resolved
from core.runs.row import Row as RunRow
from core.runs.run_figures import of_run
from core.system.files import exists
from core.version import this_version


class Work:
    """One submission that is being worked on."""

    def __init__(
        self,
        runs: RunsFolder,
        execution: PlanExecution,
        slots: Slots,
        pauses: Pauses,
        log: journal.Journal,
        successor: Successor = lambda run: None,
    ) -> None:
        """`successor`: who else wants a run that this work would end. An earlier supervisor may have begun it."""
        self.execution = execution
        self.name = execution.submission.id
        self._state = execution.state
        self._runs = runs
        self._slots = slots
        self._pauses = pauses
        self._log = log
        self._successor = successor
        self._cause = self._state.wait
        """What it waits for, by what was said last."""
        self.waits_for_gpu = False
        """Whether it waits for a GPU, which somebody else may let go of at any time."""

    @property
    def waits_for_others(self) -> bool:
        """Whether it waits for something that nobody here will tell us of."""
        return bool(self.execution.elsewhere or (self._state.wait is not None and not self._slots))

    def go_on(self) -> journal.Finish | None:
        """Start what can be started. None: not at its end yet. OSError: a full disk, or what may pass."""
        execution = self.execution
        self.waits_for_gpu = False
        self._take_over()
        self.place_jobs()
        while execution.stopped is None:
            action = execution.next_action(self._slots.identities)
            for key, run in execution.started():
                self._name(key, run)
            self.say_replaced()
            match action:
                case Finished():
                    return self._finish(action)
                case Wait():
                    self.waits(action)
                    return None
                case Stop():
                    return self._stop(action)
                case Skip():
                    self._close(action.row.key, RowStatus.SKIPPED, action.reason, action.inputs)
                case Start():
                    begin = self._draw if action.row.key == NEXT_DRAW else self._start
                    if not begin(action):
                        return None
        self.end_trainers()
        if all(slot.submission != self.name for slot in self._slots):
            return journal.Finish(submission=self.name, reason=execution.stopped)
        return None

    def waits(self, wait: Wait, cause: str = "") -> None:
        """Say why nothing is started, when that has changed. `cause`: its reason without figures that always change."""
        known = replace(wait, reason=cause) if cause else wait
        if known != self._cause or self._state.wait is None:
            self._cause = known
            self._log.append(journal.Wait(submission=self.name, **asdict(wait)))

    def take_requests(self, requests: RowRequests) -> bool:
        """What is requested for its rows now. Whether that is anything new."""
        execution = self.execution
        if requests == execution.requests:
            return False
        removed = sorted(requests.removed - execution.requests.removed)
        execution.requests = requests
        for key in removed:
            if key not in self._state.closed:
                self._close(key, RowStatus.SKIPPED, REMOVED, {})
        runs = {run.name for key in removed if (run := self.run_of(key)) is not None}
        kept = {run.name for key in set(execution.assigned) - set(execution.closed) if (run := self.run_of(key))}
        for slot in self._slots.let_go(self.name, self._successor, runs - kept):
            slot.trainer.stop()  # it was started in the moment in which somebody removed it
        self.place_jobs()
        return True

    def place_jobs(self) -> None:
        """What is held, and what was moved, where jobs wait on a cluster."""
        requests, places, held = self.execution.requests, dict[str, int](), set[str]()
        rows = sorted(self.execution.rows, key=lambda row: requests.ranks.get(row.key, 0.0))
        for row in rows if any(slot.trainer.job for slot in self._slots) else ():
            if (run := self.run_of(row.key)) is not None:
                if requests.ranks:
                    places.setdefault(run.name, len(places))
                held |= {run.name} if row.key in requests.held else set()
        self._slots.hold(self.name, places, held)

    def say_replaced(self) -> None:
        """Which runs ran out of memory, where their rows go on with others."""
        for name, halve in self.execution.replaced.items():
            if name not in self._state.halves:
                self._log.append(halve)

    def row_of(self, run: RunPaths) -> str | None:
        """A row that the submission asks for and that is this run."""
        for row in self.execution.rows:
            found = self.run_of(row.key) if self.execution.submission.asks_for(row) else None
            if found is not None and found.name == run.name:
                return row.key
        return None

    def run_of(self, key: str) -> RunPaths | None:
        """The run of a row, once it can be told."""
        assigned = self.execution.assigned.get(key)
        return None if assigned is None else self.execution.folder(assigned)

    def facts_of(self, end: journal.Exit) -> dict[str, Any]:
        """What a notification says of a run that ended."""
        folder = RunPaths(self._runs.root / end.run)
        rows = [key for key in self.execution.assigned if (run := self.run_of(key)) is not None and run.name == end.run]
        facts = self.execution.run_status.facts(folder) if end.outcome == "done" else {}
        known = {name: facts.get(name) for name in ("accepted", "domain_gain", "heldout_regression")}
        ended = of_run(RunRow("", rows[0] if rows else end.run), judge_run(self.execution, folder))
        return {
            "run": end.run,
            "folder": str(folder.root),
            "rows": rows,
            "outcome": end.outcome,
            "message": end.message,
            "headline": headline(ended).text,
            **known,
        }

    def end_trainers(self) -> None:
        """Carry out what it was asked as a whole; what another submission wants goes on."""
        for slot in self._slots.let_go(self.name, self._successor):
            slot.end(self._state.asked.get(None, "stop"))

    def _take_over(self) -> None:
        """Adopt the trainers of this plan that live here and of which the decisions say nothing.

        A supervisor may die between the start of a trainer and the line about it, and people start trainers by hand:
        beside either, the slot is not free.
        """
        for key, (assigned, run) in self.execution.at_work(self._slots.identities).items():
            if self._slots.take_over(run, assigned.identity, self.name, key, self.execution.plan.queue):
                self._name(key, run)
            else:
                self.execution.elsewhere.add(assigned.identity)

    def _stop(self, action: Stop) -> journal.Finish | None:
        """None: it waits for trainers of its own to stop. Those that another submission wants go on, not for it."""
        runs = {row.key: run.name for row in action.rows if (run := self.run_of(row.key)) is not None}
        slots = self._slots.let_go(self.name, self._successor, runs.values())
        ending = {slot.run.name for slot in slots}
        fresh = {name for name in ending if not self._state.stopped(name)}
        for key, name in runs.items():
            if name in fresh:
                self._log.append(journal.Stop(submission=self.name, row=key, run=name, reason=action.reason))
        for slot in slots:
            slot.trainer.stop()
        if ending:
            stopped = ", ".join(key for key, name in runs.items() if name in ending)
            self.waits(Wait(f"{action.reason}; waiting for {stopped} to stop", over=True))
            return None
        return self._finish(Finished(action.reason, action.not_run))

    def _finish(self, action: Finished) -> journal.Finish:
        not_run = self.execution.not_run(action)
        return journal.Finish(submission=self.name, complete=True, reason=action.reason, not_run=not_run)

    def _draw(self, action: Start) -> bool:
        """Let the search draw its next row, once a trainer could begin with it: by then more is known. False: wait."""
        execution, key = self.execution, action.row.key
        if self._place() is None:
            return False
        try:
            if not execution.draw(self._slots.identities):
                self._close(key, RowStatus.SKIPPED, "the search drew nothing that was not there", {})
        except (UserError, OSError) as error:
            if isinstance(error, OSError) and (is_disk_full(error) or may_pass(error)):
                raise
            self._close(key, RowStatus.FAILED, f"nothing can be drawn: {error}", {})
        return True

    def _place(self, devices: int = 1) -> Choice | None:
        """Where another trainer may be started now; None: nowhere, and why was said."""
        queue = self.execution.plan.queue
        choice = self._slots.choose(queue, devices)
        if not choice.waits:
            return choice
        self.waits(Wait(choice.waits), choice.cause)
        self.waits_for_gpu = choice.waits != NO_SLOT and queue.executor == "local"
        return None

    def _start(self, action: Start) -> bool:
        """Start the row's run, or take over what is there. False: it waits for a slot."""
        execution, row = self.execution, action.row.key
        try:
            assigned = execution.assign(action)
        except UserError as error:
            self._close(row, RowStatus.FAILED, f"cannot run: {error}", action.inputs)
            return True
        run = execution.folder(assigned)
        if execution.decision(assigned, self._slots.identities).status is not RowStatus.QUEUED:
            return True  # done, failed or running already: the next action takes that into account
        choice = self._place(assigned.resolved.settings.train.devices)
        if choice is None:
            return False
        limit = execution.plan.queue.pause_after
        # Those that train now have most of theirs still to write; one that goes on has its own there already.
        needed = execution.expected_bytes(assigned) * (1 + len(self._slots)) - measured_bytes(run)
        if paused := self._pauses.before_start(limit, needed):
            self.waits(Wait(paused))
            return False
        try:
            write_run(run, assigned.row, assigned.resolved, execution.plan)
            launched = self._slots.launch(assigned, run, self.name, action, choice, execution.plan.queue)
        except OSError as error:
            if is_disk_full(error) or may_pass(error):
                raise
            self._close(row, RowStatus.FAILED, f"cannot start: {error}", action.inputs)
            return True
        execution.forget(run)
        if not launched:
            # A process that we cannot see, such as another container's, holds its lock or writes its events.
            execution.elsewhere.add(assigned.identity)
        self.place_jobs()
        return True

    def _close(self, row: str, status: RowStatus, why: str, inputs: Mapping[str, Any]) -> None:
        """The row will not run in this submission: its condition does not hold, somebody removed it, or it cannot."""
        self._log.append(
            journal.Skip(submission=self.name, row=row, status=status.value, reason=why, inputs=dict(inputs))
        )

    def _name(self, row: str, run: RunPaths) -> None:
        """Say, once, that the row is this run."""
        if (row, run.name) not in self._state.named:
            self._log.append(journal.Named(submission=self.name, row=row, run=run.name))


# `run.json`, written into a run folder before any trainer starts there

RUN_SCHEMA = 1


def write_run(run: RunPaths, row: Row, resolved: Resolved, plan: Plan) -> None:
    """Write the run's `run.json`, or bring the paths of an existing one up to date: the content is the same.

    OSError (disk full) leaves nothing half-written.
    """
    config: dict[str, Any] = {
        "schema": RUN_SCHEMA,
        "experiment": row.experiment,
        "title": row.title,
        "identity": resolved.identity,
        "settings": asdict(resolved.settings),
        "hashes": resolved.hashes,
        "lines": resolved.lines,
        "plan": plan.path,
        "gate": asdict(plan.gate),
    }
    existing, _ = read_config(run)
    if existing is None:
        write_json(run.root, run.config, config | {"provenance": provenance() | _named_revision(row, resolved)})
        return
    # Made earlier, by whichever experiment: it keeps its name and gate. Only what may have moved is renewed; speakers
    # and fields of the sets, too, while nothing was scored by them.
    renewed = ("settings", "plan") if exists(run.events) else ("settings", "plan", "lines")
    moved = {key: config[key] for key in renewed}
    as_read = json.loads(json.dumps(moved))  # tuples are lists there
    if as_read != {key: existing.get(key) for key in moved}:
        write_json(run.root, run.config, existing | moved)


def _named_revision(row: Row, resolved: Resolved) -> dict[str, Any]:
    """Of a hub model: the revision that the plan named. The commit that it was then is among the settings."""
    if not resolved.hashes[MODEL].startswith(HUB):
        return {}
    return {"model_revision": row.settings.model.revision or DEFAULT_REVISION}


def provenance() -> dict[str, Any]:
    """`code_version` (the package's, with the commit in a checkout), `dirty`, `created`, `python`."""
    version = this_version()
    return {
        "code_version": version.code,
        "dirty": version.changed,
        "created": round(time.time(), 3),
        "python": platform.python_version(),
    }
