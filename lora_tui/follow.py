"""Following a submission: its decisions and its runs' events become lines for people, as they come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.plan.expand import matches
from core.plan.next_action import HELD_BACK
from core.queue.decisions import TRAINER_KINDS, Decision, DecisionReader
from core.queue.execution import PlanExecution
from core.queue.report import judge_run
from core.runs.paths import RunPaths, RunsFolder
from core.runs.store import RunFollower, last_line
from core.scoring.evidence import Verdict
from lora_tui.diagnostics import say
from lora_tui.progress import RunProgress, verdict_lines

OF_ANOTHER = "another submission has it too and started it"


@dataclass(slots=True)
class _Followed:
    follower: RunFollower
    progress: RunProgress


@dataclass(slots=True)
class Ending:
    """How the queue ended the submission."""

    complete: bool
    reason: str
    not_run: Mapping[str, str] = field(default_factory=dict)


class Follower:
    """Reads the decisions on one submission and the runs that its rows are, whoever started them. Says what is new."""

    def __init__(self, runs: RunsFolder, execution: PlanExecution, *, attached: bool = False) -> None:
        """`attached`: the submission was there before; what was done for it so far is not told again."""
        self._runs = runs
        self._execution = execution
        self._name = execution.submission.id
        self._reader = DecisionReader(runs.decisions)
        self._live: dict[str, _Followed] = {}
        only = execution.submission.only
        self._asked_for = {row.key for row in execution.rows if not only or matches(row, only)}
        self._rows: dict[str, str] = {}
        """Run → the row that is it."""
        self._begun: set[str] = set()
        """Runs of any submission that have a trainer."""
        self._first = True
        self._quiet = attached
        self.ending: Ending | None = None
        self.told_to_stop = False
        """Whether somebody stopped the supervisor itself."""
        self.paused: str | None = None
        """Why the queue has paused until somebody lets it go on."""
        self.judged: set[str] = set()
        """Names of the runs whose verdict was said."""

    def poll(self) -> None:
        """Say what is new since the last call."""
        for decision in self._reader.read():
            if decision.kind in TRAINER_KINDS:
                self._take_trainer(decision)
            elif decision.get("submission") == self._name:
                self._take(decision)
            elif decision.kind == "supervisor_started":
                self.told_to_stop = False
            elif decision.kind == "supervisor_ended":
                self.told_to_stop = decision.get("reason") == "told to stop"
                self.paused = self.paused if self.told_to_stop else None
            elif decision.kind in ("pause", "resume"):
                self._pause_or_resume(decision)
            elif decision.kind == "sink" and not self._first:
                say(f"sink {decision.get('sink')}: {decision.get('message')}; training goes on without it")
        for followed in self._live.values():
            self._show(followed)
        self._first = self._quiet = False
        if self.paused is not None and self.ending is None:
            # It goes on only when somebody says so: whoever waits here would wait for ever.
            self.ending = Ending(False, f"{self.paused}; `lora-tui queue release --all` goes on")

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

    def _take(self, decision: Decision) -> None:
        row, run = str(decision.get("row")), str(decision.get("run"))
        match decision.kind:
            case "run" if row in self._asked_for:
                self._rows.setdefault(run, row)
                if run in self._begun:
                    self._begin(row, run, OF_ANOTHER, adopted=True)
            case "wait" if not self._quiet:
                self._say_wait(str(decision.get("reason")))
            case "skip":
                self._take_skip(row, decision)
            case "finish":
                self.ending = Ending(
                    bool(decision.get("complete")), str(decision.get("reason")), decision.get("not_run") or {}
                )

    def _take_trainer(self, decision: Decision) -> None:
        run, own = str(decision.get("run")), decision.get("submission") == self._name
        if decision.kind == "exit":
            self._begun.discard(run)
            self._end(run, decision)
            return
        self._begun.add(run)
        self.judged.discard(run)  # tried again, it has another end
        if own:
            self._rows[run] = str(decision.get("row"))
        if run in self._rows:
            reason = str(decision.get("reason")) if own else OF_ANOTHER
            self._begin(self._rows[run], run, reason, adopted=decision.kind == "adopt")

    def _say_wait(self, reason: str) -> None:
        """While a run of the plan goes on, only what waits for people is worth a line."""
        if reason and (HELD_BACK in reason or not self._live):
            say(f"waiting: {reason}")

    def _pause_or_resume(self, decision: Decision) -> None:
        reason = str(decision.get("reason"))
        word = "pauses" if decision.kind == "pause" else "goes on"
        self.paused = reason if decision.kind == "pause" and decision.get("cause") == "failures" else None
        if not self._first:
            say(f"the queue {word}: {reason}")

    def _take_skip(self, row: str, decision: Decision) -> None:
        reason = str(decision.get("reason"))
        if decision.get("status") == "failed":
            self._execution.close(row, reason)
        else:
            self._execution.skip(row, reason)
        if not self._quiet:
            say(f"{row}  not run: {reason}")

    def _begin(self, row: str, run: str, reason: str, *, adopted: bool) -> None:
        if run not in self._live:
            follower = RunFollower(RunPaths(self._runs.root / run))
            self._live[run] = _Followed(follower, RunProgress(row))
            if adopted or self._quiet:
                self._live[run].progress.skip_to(follower.refresh())
            if not self._quiet and (reason == OF_ANOTHER or not adopted):
                say(f"{row}  run {run}: {reason}")

    def _end(self, run: str, decision: Decision) -> None:
        followed = self._live.get(run)
        if followed is None:
            return
        self._show(followed)
        label, outcome = followed.progress.label, str(decision.get("outcome"))
        message = str(decision.get("message") or "")
        status = decision.get("status")
        if not message and isinstance(status, int) and status < 0:
            message = f"killed by signal {-status}"
        if outcome == "done" or followed.follower.refresh().state.broken:
            del self._live[run]
            self.say_verdict(label, followed.follower.paths)
        else:
            say(f"{label}  {outcome.replace('_', ' ')}{f': {message}' if message else ''}")
            if outcome == "crashed":
                log = followed.follower.paths.log
                say(f"{label}  the end of {log}: {last_line(log) or 'it is empty'}")

    def say_verdict(
        self, label: str, run: RunPaths, gave_up: str | None = None, instead: Verdict | None = None
    ) -> None:
        """The verdict table of a run, once. `instead`: what the row comes to, where that is not the run's verdict."""
        if run.name in self.judged:
            return
        self.judged.add(run.name)
        found = judge_run(self._execution, run, gave_up)
        if found.evidence.failure:
            say(f"{label}  {found.evidence.failure}")
        for line in verdict_lines(label, instead or found.verdict, found.snapshot.duration_s):
            say(line)
        for problem in found.problems:
            say(f"  problem: {problem}")

    def _show(self, followed: _Followed) -> None:
        snapshot = followed.follower.refresh()
        for line in followed.progress.news(snapshot, time.monotonic()):
            say(line)
