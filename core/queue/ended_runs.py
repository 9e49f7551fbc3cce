"""The word for a run of an open submission that has no trainer: as it ended, or queued if it is started again.

That is decided by the function by which the supervisor decides it (`standing`): *queued* is said only where it will.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from core.plan.row_state import RowStatus
from core.queue.how_ended import UNSPOKEN, how_it_ended, outcome_of
from core.queue.standing import COUNTED, LOST, Ended, standing
from core.queue.state import KILLED, KILLED_REASON, QueueState, SubmissionState
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

    state: QueueState
    said: SubmissionState
    retried: frozenset[str] = frozenset()
    """Runs that somebody asked to try again."""
    retries: int = 0
    """`queue.retries` of its plan."""
    supervised: bool = False
    """Whether a supervisor is at work."""

    def is_starting(self, run: RunPaths) -> bool:
        """Whether the trainer that was started last lives and has said nothing yet: its imports take seconds.

        Where nobody here can tell whether it lives, it does as long as such a trainer may be silent.
        """
        begun = self.state.trainers.get(run.name)
        process = None if begun is None else identity_from_json(begun.process)
        alive = False if process is None else is_alive(process)
        if begun is None or alive is False or (alive is None and time.time() - begun.time > LOST_S):
            return False
        return len(read_run(run).attempts) <= begun.attempts_before

    def told(self, run: RunPaths, state: RunState, reason: str) -> tuple[str, str]:
        """The word and why. `state`, `reason`: as its folder tells them."""
        ends, word = self._ends(run), state.value
        if state is RunState.QUEUED:
            if not ends:
                return word, reason
            message = ends[-1].message or UNSPOKEN
            if ends[-1].outcome == LOST:
                return RunState.FAILED.value, message
            word, reason = RunState.CRASHED.value, f"its trainer ended: {message}"
        if word == RunState.CRASHED and self.state.is_killed(run.name):
            word, reason = KILLED, KILLED_REASON
        no = self._not_again(run, state, ends)
        if no is not None:
            return word, "; ".join(filter(None, (reason, no)))
        return RunState.QUEUED.value, self._again(run.name, word, reason)

    def _again(self, run: str, word: str, reason: str) -> str:
        how = f" ({reason})" if reason and word != KILLED else ""
        halved = None if run in self.retried else self.said.halves.get(run)
        again = "is started again" if halved is None else f"is run again with accumulation {halved}"
        return f"{word.replace('_', ' ')} before{how}, {again}"

    def _ends(self, run: RunPaths) -> list[Ended]:
        """How its trainers ended for this submission: also the one that died, and nobody has written so down yet."""
        ends, begun = list(self.said.ends.get(run.name, ())), self.state.trainers.get(run.name)
        if begun is not None:
            outcome, message = how_it_ended(run, begun.attempts_before, identity_from_json(begun.process))
            ends.append(Ended(outcome, self.state.asked_of(run.name) is not None, message))
        return ends

    def _not_again(self, run: RunPaths, state: RunState, ends: Sequence[Ended]) -> str | None:
        """Why it is not started again; empty where its own last word says so. None: it is."""
        said, name = self.said, run.name
        if over := said.over or said.stopped.get(name):
            return f"nothing more is started: {over}" if said.over else over
        forgiven = name in self.retried
        now = standing(outcome_of(state), ends, self.retries, forgiven=forgiven)
        if now.status is not RowStatus.QUEUED and (forgiven or name not in said.halves):
            return now.reason if not ends or ends[-1].outcome in COUNTED else ""
        return None if self.supervised else NOBODY
