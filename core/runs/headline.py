"""The headline of a row: the one sentence of where it stands, the same in every face.

What its run's evidence says is `core.scoring.standing`; here comes what only the queue, the process and the repeats
with other seeds tell. Values in, text out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.runs.row import Outcome, Row
from core.runs.status import Status
from core.scoring.standing import Stand, Standing

NOT_STARTED = "not started"
_SAYS_ALL = (Status.STARTING, Status.TRAINING, Status.EVALUATING, Status.CHECKPOINTING, Status.SAVING, Status.FINISHING)
"""A run in one of these goes on as it should: only its evidence is of interest."""
_NEVER_BEGUN = (Status.NOT_RUN, Status.QUEUED, Status.WAITING, Status.HELD)
ROLES: Mapping[str, str] = {
    Stand.SHIP: "pass",
    Stand.ON_COURSE: "pass",
    Stand.REJECTED: "fail",
    Stand.FAILED: "fail",
    Stand.CANNOT_PASS: "fail",
    Stand.OFF_COURSE: "fail",
    Stand.UNDECIDED: "unknown",
    Stand.OPEN: "unknown",
    Stand.EARLY: "unknown",
}
"""How each word is coloured; a status is not."""


@dataclass(frozen=True, slots=True)
class Headline:
    """One sentence. `word`: what it begins with, a `Stand` or the word of a status."""

    word: str
    text: str

    @property
    def role(self) -> str:
        """Of the word, as faces colour it."""
        return ROLES.get(self.word, "")


def headline(row: Row) -> Headline:
    """Where the row stands, by its run's evidence and by what the queue and its process say."""
    stands, status = row.figures.standing, row.status
    if status is Status.UNREAD:
        return Headline(status.text, row.reason or "not read yet")
    if status is Status.HISTORY:
        return Headline("earlier", f"earlier result: {row.reason}" if row.reason else "an earlier result")
    if row.run is None:
        return _without_run(row)
    if stands is None:
        return Headline(status.text, _where(row))
    return _with_run(row, stands) if row.seeds is None else _with_seeds(row, stands)


def _with_run(row: Row, stands: Standing) -> Headline:
    sentence = stands.sentence(row.key)
    taken_up_again = row.goes_on and row.status not in _SAYS_ALL
    if (stands.word.last and not taken_up_again) or row.status in _SAYS_ALL or row.status is Status.DONE:
        return Headline(stands.word, sentence)
    where = _where(row)
    if stands.word is Stand.CANNOT_PASS:
        return Headline(stands.word, f"{sentence}; {where}")
    return Headline(row.status.text, where if stands.word is Stand.EARLY else f"{where}; so far {sentence}")


def _where(row: Row) -> str:
    """`crashed at step 43 of 1000: its trainer was killed or died without a word`."""
    steps, planned = row.figures.steps, row.figures.steps_planned
    at = f" at step {steps} of {planned or '?'}" if steps else ""
    why = row.reason.removeprefix(f"{row.status.text} ")
    return f"{row.status.text}{at}{f': {why}' if why else ''}"


def verdict_of(row: Row) -> str | None:
    """The verdict in a word or two: accepted, rejected, … by evidence, `on course` before the end; None without a run.

    With its repeats with other seeds it is what they make of it.
    """
    stands = row.figures.standing
    if stands is None or row.seeds is not None:
        return row.word
    if row.goes_on and stands.word in (Stand.REJECTED, Stand.FAILED):
        return Stand.OFF_COURSE.value  # it was, and is taken up again
    return "accepted" if stands.word is Stand.SHIP else stands.word.value


def _without_run(row: Row) -> Headline:
    status, reason = row.status, "; ".join(filter(None, (row.reason, row.near)))
    if status not in _NEVER_BEGUN:
        return Headline(status.text, f"{status.text}: {reason}" if reason else status.text)
    told = ", ".join(filter(None, ("" if status is Status.NOT_RUN else status.text, reason)))
    return Headline(NOT_STARTED, f"{NOT_STARTED}: {told}" if told else NOT_STARTED)


def _with_seeds(row: Row, stands: Standing) -> Headline:
    """Accepted by itself: what its repeats with other seeds make of that."""
    accepted, asked = row.seeds or (0, 0)
    counted = f"{accepted} of {asked} repeats with other seeds accepted"
    if row.outcome is Outcome.ACCEPTED:
        return Headline(stands.word, f"{stands.sentence(row.key)}, {counted}")
    word = Stand.REJECTED if row.outcome is Outcome.REJECTED else Stand.UNDECIDED
    return Headline(word, f"{word}: step {stands.step} passes, {stands.text}, but {counted}")
