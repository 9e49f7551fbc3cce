"""Where a run stands for the plan that wants it, and whether it is tried again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from core.plan.next_action import RowStatus
from core.queue.journal import Exit

RESULTS = ("diverged", "out_of_memory", "stopped_early")
"""Outcomes that the same settings would bring about again: never retried unchanged."""
DAMAGED = "damaged"
LOST = "lost"
"""Its run folder was moved or deleted while it trained."""
CANCELLED = "cancelled"
"""Its job on the cluster was cancelled by somebody else, who meant it."""
INTERRUPTED = "interrupted"
"""The cluster took its job's place away, or forgot the job before it started: an end that costs no restart."""
MOST_IDLE = 3
"""So many jobs in a row may end like that with nothing of an attempt between them."""
_BY_HAND = {
    CANCELLED: "its job was cancelled on the cluster: submitted again only by `queue retry`",
    DAMAGED: "damaged: made again only by `queue retry`",
    LOST: "its folder was moved or deleted: begun anew only by `queue retry`",
}
COUNTED = ("crashed", "stopped")
"""Ends nobody asked for; each costs one of `queue.retries`."""


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """The status of a run and, where it is not running or done, why."""

    status: RowStatus
    reason: str = ""
    rejects: bool = True
    """Of what has failed: whether that is a result of the run; else nobody knows what it came to."""


def decide(  # noqa: PLR0911 - one return a case
    outcome: str, ends: Sequence[Exit], retries: int, *, retried: bool = False
) -> RetryDecision:
    """What becomes of a run that nobody is running.

    `outcome`: how its newest attempt ended, as the run folder says; `queued` when it never started. `ends`:
    of the trainers that this submission started. What an earlier submission left behind is taken up again,
    except for results that would only repeat themselves. `retried`: somebody asked to try it again; `ends` are those
    since then.
    """
    if outcome == "done":
        return RetryDecision(RowStatus.DONE)
    if retried and not ends:
        return RetryDecision(RowStatus.QUEUED, "to be tried again")
    last = ends[-1].outcome if ends else outcome
    by_hand = _BY_HAND.get(outcome) or _BY_HAND.get(last)
    if by_hand:
        return RetryDecision(RowStatus.FAILED, by_hand, rejects=False)
    if last in RESULTS:
        return RetryDecision(RowStatus.FAILED, f"{last.replace('_', ' ')}: not retried unchanged")
    if last == "error" and ends:
        return RetryDecision(RowStatus.FAILED, "ended with an error: not retried in this submission")
    if (idle := _idle(ends)) > MOST_IDLE:
        reason = f"{idle} jobs in a row were lost before they began: submitted again only by `queue retry`"
        return RetryDecision(RowStatus.FAILED, reason, rejects=False)
    count = sum(end.outcome in COUNTED and not end.asked for end in ends)
    if count > retries:
        reason = f"{last} {count} times: not resumed again (queue.retries = {retries})"
        return RetryDecision(RowStatus.FAILED, reason)
    return RetryDecision(RowStatus.QUEUED, "to be resumed" if ends or outcome != "queued" else "")


def _idle(ends: Sequence[Exit]) -> int:
    """How many jobs were interrupted last with nothing of an attempt since the first of them ended, and that one."""
    last = [end.attempts for end in takewhile(lambda end: end.outcome == INTERRUPTED, reversed(ends))]
    return sum(1 for _ in takewhile(lambda attempts: attempts == last[0], last))
