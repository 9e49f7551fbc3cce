"""What the supervisor did and why, from `decisions.jsonl`, as far as the board shows it."""

from __future__ import annotations

from core.queue.decisions import Decision, DecisionReader
from core.queue.lock import is_held
from core.runs.paths import RunsFolder
from lora_tui.dashboard.snapshots import Queue


class QueueState:
    """Follows the decisions. Belongs to the reader thread."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._reader = DecisionReader(runs.decisions)
        self._open: dict[str, str] = {}
        """Submission → path of its plan."""
        self._reasons: dict[str, tuple[str, str]] = {}
        """Row key → (state, reason) of a row that does not run."""
        self._said = ""

    def refresh(self) -> Queue:
        """The queue now."""
        for decision in self._reader.read():
            self._take(decision)
        works = is_held(self._runs.supervisor_lock)
        return Queue(works, tuple(self._open), self._said)

    def word(self, row_key: str, plan: str | None) -> tuple[str, str]:
        """(state, reason) of a row without a run."""
        if row_key in self._reasons:
            return self._reasons[row_key]
        if plan is not None and plan in self._open.values() and is_held(self._runs.supervisor_lock):
            return "queued", ""
        return "not run", ""

    def _take(self, decision: Decision) -> None:
        submission, row = str(decision.get("submission")), str(decision.get("row"))
        reason = str(decision.get("reason") or "")
        match decision.kind:
            case "submitted":
                self._open[submission] = str(decision.get("plan"))
                self._reasons.clear()
                self._said = ""
            case "start" | "adopt":
                self._reasons.pop(row, None)
                self._said = f"started {row}: {reason}" if reason else f"started {row}"
            case "skip":
                self._reasons[row] = ("failed" if decision.get("status") == "failed" else "skipped", reason)
            case "wait" if reason:
                self._said = f"waiting: {reason}"
            case "pause":
                self._said = f"paused: {reason}"
            case "finish":
                self._open.pop(submission, None)
                self._said = f"ended: {reason}" if reason else "ended"
                not_run = decision.get("not_run")
                for key, why in not_run.items() if isinstance(not_run, dict) else ():
                    self._reasons.setdefault(str(key), ("not run", str(why)))
