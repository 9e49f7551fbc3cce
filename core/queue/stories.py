"""What the decisions say of each open submission: which runs its rows are, how they ended, why nothing is started."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.queue.asked_ends import AskedEnds
from core.queue.decisions import TRAINER_KINDS, Decision, decisions_about
from core.queue.standing import Ended

_ASKED = {"stop": "stopped on request", "kill": "killed on request"}


@dataclass(slots=True)
class Story:
    """What the decisions say of one submission. Runs are named by their folders, rows by their keys."""

    runs: dict[str, str] = field(default_factory=dict)
    """Row → its run."""
    places: dict[str, str] = field(default_factory=dict)
    """Run → where its newest trainer works, such as `on GPU 1`."""
    closed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Row that does not run → (skipped or failed, why)."""
    waits: str = ""
    """Why nothing is started for it at the moment."""
    over: str = ""
    """Why nothing is started for it any more, though it is open: it waits for trainers to end."""
    ends: dict[str, list[Ended]] = field(default_factory=dict)
    """Run → how its trainers ended while a row was this run, since somebody asked to try it again."""
    messages: dict[str, str] = field(default_factory=dict)
    """Run → what was said of the last of those ends."""
    forgiven: set[str] = field(default_factory=set)
    """Rows that were to be tried again, whatever became of them."""
    told_to_end: dict[str, str] = field(default_factory=dict)
    """Run that the queue ended for the plan's own sake → why."""
    halves: dict[str, int] = field(default_factory=dict)
    """Run that ran out of memory and whose row goes on with another → the accumulation of that one."""
    begun: dict[str, Decision] = field(default_factory=dict)
    """Run → the start or adoption of its trainer, until its end."""

    def take(self, decision: Decision, gpus: Mapping[str, str]) -> None:
        """One decision more on this submission. `gpus`: UUID → name."""
        row, run, reason = str(decision.get("row")), str(decision.get("run")), str(decision.get("reason") or "")
        match decision.kind:
            case "run":
                self.runs[row] = run
                self.closed.pop(row, None)
            case "start" | "adopt":
                self.runs[row] = run
                self.closed.pop(row, None)
                self.waits = ""
                self.take_trainer(decision, gpus)
            case "exit":
                self.take_trainer(decision, gpus)
            case "skip":
                self.closed[row] = (str(decision.get("status") or "skipped"), reason)
            case "halve":
                self.halves[run] = int(decision.get("accumulation") or 0)
            case "stop":
                self.told_to_end[run] = reason
            case "wish":
                self._wish(decision)
            case "wait":
                self.waits = reason
                self.over = reason if decision.get("over") else self.over

    def is_forgiven(self, run: str) -> bool:
        """Whether somebody asked to try this run again, in whichever row."""
        return any(self.runs.get(row) == run for row in self.forgiven)

    def has(self, run: str) -> bool:
        """Whether a row of it is this run."""
        return run in self.runs.values()

    def take_trainer(self, decision: Decision, gpus: Mapping[str, str]) -> None:
        """The start or the end of a trainer of one of its runs, for whichever submission that was started."""
        run, gpu = str(decision.get("run")), decision.get("gpu")
        if decision.kind == "exit":
            self.begun.pop(run, None)
            ended = Ended(str(decision.get("outcome")), bool(decision.get("asked")))
            self.ends.setdefault(run, []).append(ended)
            self.messages[run] = str(decision.get("message") or "")
        else:
            self.told_to_end.pop(run, None)
            self.places[run] = f"on {gpus.get(gpu, gpu)}" if gpu else ""
            self.begun[run] = decision

    def _wish(self, decision: Decision) -> None:
        wish, row = str(decision.get("wish")), decision.get("row")
        if row is None:
            self.over = _ASKED.get(wish, self.over)
        elif wish == "add":
            self.closed.pop(row, None)
        elif wish == "retry":
            self.closed.pop(row, None)
            self.forgiven.add(row)
            self.ends.pop(self.runs.get(row, ""), None)


@dataclass(slots=True)
class Stories:
    """Of all that was asked for."""

    of: dict[str, Story]
    """Submission → its story."""
    paused: str = ""
    """Why the queue has paused by itself; empty: it has not."""
    asked: AskedEnds = field(default_factory=AskedEnds)
    """What was asked of the trainers of these submissions."""
    _begun: dict[str, Decision] = field(default_factory=dict)
    """Run → the start or adoption of its trainer, until its end, for whichever submission."""

    def take(self, submission: str, decision: Decision, gpus: Mapping[str, str]) -> None:
        """One decision more on a submission."""
        run = str(decision.get("run"))
        if submission in self.of:
            self.of[submission].take(decision, gpus)
            if decision.kind == "run" and run in self._begun:
                self.of[submission].take_trainer(self._begun[run], gpus)
        if decision.kind in TRAINER_KINDS:
            self._begun.pop(run, None)
            if decision.kind != "exit":
                self._begun[run] = decision
            for name, story in self.of.items():
                if name != submission and story.has(run):
                    story.take_trainer(decision, gpus)
        self.asked.take(decision)


def read_stories(decisions: Path, submissions: Collection[str]) -> Stories:
    """What the file says of these submissions."""
    found = Stories({name: Story() for name in submissions})
    gpus: dict[str, str] = {}
    for decision in decisions_about(decisions, list(submissions)):
        name = str(decision.get("submission"))
        if decision.kind in ("pause", "resume", "supervisor_ended"):
            found.paused = _paused(found.paused, decision)
        elif decision.kind == "devices":
            gpus = dict(decision.get("gpus") or {})
        else:
            found.take(name, decision, gpus)
    return found


def _paused(before: str, decision: Decision) -> str:
    if decision.kind == "pause":
        return str(decision.get("reason"))
    if decision.kind == "supervisor_ended" and decision.get("reason") == "told to stop":
        return before
    return ""
