"""What somebody asked for: trainers to end, rows to go. From the decisions as they come."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from core.queue.decisions import Decision, decisions_on

KILLED = "killed"
"""The word for a run whose trainer somebody had the queue kill. Its folder alone tells a crash; it is resumed alike."""
KILLED_REASON = "on request; what was saved last can be resumed"


class AskedEnds:
    """Takes the decisions in their order."""

    def __init__(self) -> None:
        self.killed: set[str] = set()
        """Folders of the runs whose last trainer was killed on request."""
        self._asked: dict[tuple[str, str | None], str] = {}
        """(submission, row; None: all of it) → the wish."""
        self._told: set[str] = set()
        """Runs that the queue told to stop: for their plan's own sake, or because it was told so itself."""
        self._rows: dict[str, tuple[str, str]] = {}
        """Run → the submission and row that its trainer works for."""

    def take(self, decision: Decision) -> None:
        """One decision more."""
        submission, run = str(decision.get("submission")), str(decision.get("run"))
        row = decision.get("row")
        match decision.kind:
            case "wish" if decision.get("wish") in ("stop", "kill"):
                self._asked[submission, row] = str(decision.get("wish"))
            case "stop":
                self._told.add(run)
            case "supervisor_stopping":
                self._told.update(self._rows)
            case "start" | "adopt":
                self.killed.discard(run)
                if decision.kind == "start" or self._rows.get(run, ("", ""))[0] != submission:
                    # What was asked of the row before did not mean this trainer.
                    self._asked.pop((submission, str(row)), None)
                    self._told.discard(run)
                self._rows[run] = submission, str(row)
            case "exit":
                if decision.get("outcome") == "crashed" and self.asked(run) == "kill":
                    self.killed.add(run)
                self._asked.pop(self._rows.pop(run, ("", "")), None)
                self._told.discard(run)
            case "finish":
                self._asked = {key: wish for key, wish in self._asked.items() if key[0] != submission}

    def is_killed(self, run: str) -> bool:
        """Whether the run's last trainer was killed on request, or is dead by now if it has to be."""
        return run in self.killed or self.asked(run) == "kill"

    def asked(self, run: str, but: Collection[str] = ()) -> str | None:
        """`stop` or `kill`, where that was asked of the run's trainer, and it has not ended yet.

        `but`: submissions of which what was asked of them as a whole does not count.
        """
        if run not in self._rows:
            return None
        submission, row = self._rows[run]
        whole = None if submission in but else self._asked.get((submission, None))
        wishes = {self._asked.get((submission, row)), whole}
        if "kill" in wishes:
            return "kill"
        return "stop" if "stop" in wishes or run in self._told else None


def killed_among(path: Path, runs: Collection[str]) -> set[str]:
    """Those of these runs, by folder, whose last trainer was killed on request, or is being; `path`: the decisions."""
    if not runs:
        return set()
    ends = AskedEnds()
    for decision in decisions_on(path, runs):
        ends.take(decision)
    return {run for run in runs if ends.is_killed(run)}


def removed_rows(decisions: Iterable[Decision], plan_path: str) -> list[str]:
    """Rows of this plan that somebody took out of the queue, and nobody has asked for since."""
    plans: dict[str, str] = {}
    removed: dict[str, None] = {}
    for decision in decisions:
        submission, row, wish = str(decision.get("submission")), str(decision.get("row")), decision.get("wish")
        if decision.kind == "submitted":
            plans[submission] = str(decision.get("plan"))
        if plans.get(submission) != plan_path:
            continue
        if decision.kind == "submitted":
            removed.clear()
        elif wish == "remove":
            removed[row] = None
        elif decision.kind == "start" or wish in ("retry", "release", "add"):
            removed.pop(row, None)
    return list(removed)
