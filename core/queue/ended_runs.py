"""The word for a run of an open submission that has no trainer: as it ended, or queued if it is started again.

That is decided by the function by which the supervisor decides it (`standing`): *queued* is said only where it will.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from core.plan.row_state import RowStatus
from core.queue.asked_ends import KILLED, KILLED_REASON, AskedEnds, killed_among
from core.queue.how_ended import UNSPOKEN, how_it_ended, outcome_of
from core.queue.standing import COUNTED, LOST, Ended, standing
from core.queue.stories import Story
from core.runs.paths import RunPaths
from core.runs.snapshot import LOST_S, RunState
from core.runs.store import read_run
from core.system.process import identity_from_json, is_alive

NOBODY = "no supervisor is at work to start it again"


def is_taken_up(word: str, *, again: bool) -> bool:
    """Whether a submission takes up a run that ended before it came. `word`: how; `again`: somebody asked for it."""
    outcome = {KILLED: RunState.CRASHED.value, RunState.FAILED.value: "error"}.get(word, word)
    return standing(outcome, (), 0, forgiven=again).status is RowStatus.QUEUED


@dataclass
class EndedRuns:
    """Of one submission."""

    decisions: Path
    story: Story
    asked: AskedEnds = field(default_factory=AskedEnds)
    retries: int = 0
    """`queue.retries` of its plan."""
    supervised: bool = False
    """Whether a supervisor is at work."""

    @cached_property
    def _killed(self) -> set[str]:
        return killed_among(self.decisions, set(self.story.runs.values()))

    def is_starting(self, run: RunPaths) -> bool:
        """Whether the trainer that was started last lives and has said nothing yet: its imports take seconds.

        Where nobody here can tell whether it lives, it does as long as such a trainer may be silent.
        """
        begun = self.story.begun.get(run.name)
        process = None if begun is None else identity_from_json(begun.get("process"))
        alive = False if process is None else is_alive(process)
        if begun is None or alive is False or (alive is None and time.time() - begun.time > LOST_S):
            return False
        return len(read_run(run).attempts) <= int(begun.get("attempts_before") or 0)

    def told(self, run: RunPaths, state: RunState, reason: str) -> tuple[str, str]:
        """The word and why. `state`, `reason`: as its folder tells them."""
        ends, word = self._ends(run), state.value
        if state is RunState.QUEUED:
            if not ends:
                return word, reason
            message = self.story.messages.get(run.name) or UNSPOKEN
            if ends[-1].outcome == LOST:
                return RunState.FAILED.value, message
            word, reason = RunState.CRASHED.value, f"its trainer ended: {message}"
        if word == RunState.CRASHED and run.name in self._killed:
            word, reason = KILLED, KILLED_REASON
        no = self._not_again(run, state, ends)
        if no is not None:
            return word, "; ".join(filter(None, (reason, no)))
        return RunState.QUEUED.value, self._again(run.name, word, reason)

    def _again(self, run: str, word: str, reason: str) -> str:
        how = f" ({reason})" if reason and word != KILLED else ""
        halved = None if self.story.is_forgiven(run) else self.story.halves.get(run)
        again = "is started again" if halved is None else f"is run again with accumulation {halved}"
        return f"{word.replace('_', ' ')} before{how}, {again}"

    def _ends(self, run: RunPaths) -> list[Ended]:
        """How its trainers ended for this submission: also the one that died, and nobody has written so down yet."""
        ends, begun = list(self.story.ends.get(run.name, ())), self.story.begun.get(run.name)
        if begun is not None:
            process = identity_from_json(begun.get("process"))
            outcome, _ = how_it_ended(run, int(begun.get("attempts_before") or 0), process)
            ends.append(Ended(outcome, self.asked.asked(run.name) is not None))
        return ends

    def _not_again(self, run: RunPaths, state: RunState, ends: Sequence[Ended]) -> str | None:
        """Why it is not started again; empty where its own last word says so. None: it is."""
        story, name = self.story, run.name
        if over := story.over or story.told_to_end.get(name):
            return f"nothing more is started: {over}" if story.over else over
        forgiven = story.is_forgiven(name)
        now = standing(outcome_of(state), ends, self.retries, forgiven=forgiven)
        if now.status is not RowStatus.QUEUED and (forgiven or name not in story.halves):
            return now.reason if not ends or ends[-1].outcome in COUNTED else ""
        return None if self.supervised else NOBODY
