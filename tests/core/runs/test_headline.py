"""The headline of a row, by its run, the queue and its repeats with other seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.runs.headline import Headline, headline, verdict_of
from core.runs.paths import RunPaths
from core.runs.row import Figures, Outcome, Row
from core.runs.status import Status
from core.scoring.standing import Stand, Standing

RUN = RunPaths(Path("runs/2.1-0123456789"))
SHIPS = Standing(Stand.SHIP, "domain −1.67, heldout +0.12 (0.08 to spare), 64 % chance that both limits hold", 100)
COURSE = Standing(Stand.ON_COURSE, f"step 100 would ship, {SHIPS.text}", 100)
SHORT = Standing(Stand.CANNOT_PASS, "120 of the 1000 steps that stability asks for")
EARLY = Standing(Stand.EARLY, "the adapter is not scored yet")


def row(status: Status, stands: Standing | None = None, reason: str = "", **more: object) -> Row:
    figures = Figures(steps=43, steps_planned=1000, standing=stands, word="accepted")
    run = None if stands is None else RUN
    return replace(Row("plan:2.1", "2.1", status, reason, run=run, figures=figures), **more)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (row(Status.DONE, SHIPS), f"SHIP 2.1 step 100: {SHIPS.text}"),
        (row(Status.TRAINING, COURSE), f"on course: {COURSE.text}"),
        (row(Status.EVALUATING, COURSE, "12/300"), f"on course: {COURSE.text}"),
        (row(Status.TRAINING, SHORT), f"cannot pass: {SHORT.text}"),
        (row(Status.DONE, SHORT), f"cannot pass: {SHORT.text}"),
        (row(Status.STOPPED, SHORT), f"cannot pass: {SHORT.text}; stopped at step 43 of 1000"),
        (
            row(Status.CRASHED, COURSE, "its trainer was killed"),
            f"crashed at step 43 of 1000: its trainer was killed; so far on course: {COURSE.text}",
        ),
        (row(Status.CRASHED, EARLY, "killed"), "crashed at step 43 of 1000: killed"),
        (row(Status.STALLED, COURSE, "silent"), f"stalled at step 43 of 1000: silent; so far on course: {COURSE.text}"),
        (row(Status.NOT_RUN), "not started"),
        (row(Status.QUEUED), "not started: queued"),
        (row(Status.WAITING, reason="after 2.1"), "not started: waiting, after 2.1"),
        (row(Status.HELD, reason="held on request"), "not started: held, held on request"),
        (row(Status.SKIPPED, reason="condition not met"), "skipped: condition not met"),
        (row(Status.STARTING), "starting"),
        (row(Status.HISTORY, reason="unstable"), "earlier result: unstable"),
        (row(Status.UNREAD), "not read yet"),
        (
            row(Status.QUEUED, Standing(Stand.REJECTED, "it diverged")),
            "queued at step 43 of 1000; so far rejected: it diverged",
        ),
        (row(Status.DONE, run=RUN), "done at step 43 of 1000"),
        (
            row(Status.DONE, SHIPS, seeds=(1, 2), outcome=Outcome.UNDECIDED),
            f"undecided: step 100 passes, {SHIPS.text}, but 1 of 2 repeats with other seeds accepted",
        ),
        (
            row(Status.DONE, SHIPS, seeds=(2, 2), outcome=Outcome.ACCEPTED),
            f"SHIP 2.1 step 100: {SHIPS.text}, 2 of 2 repeats with other seeds accepted",
        ),
        (
            row(Status.DONE, SHIPS, seeds=(0, 2), outcome=Outcome.REJECTED),
            f"rejected: step 100 passes, {SHIPS.text}, but 0 of 2 repeats with other seeds accepted",
        ),
    ],
)
def test_where_a_row_stands(found: Row, said: str) -> None:
    assert headline(found).text == said


@pytest.mark.parametrize("stand", list(Stand))
def test_every_word_has_a_colour_and_a_verdict(stand: Stand) -> None:
    found = row(Status.DONE, Standing(stand, "so it is", 1))
    assert headline(found).role in ("pass", "fail", "unknown")
    assert verdict_of(found) == ("accepted" if stand is Stand.SHIP else stand.value)


def test_a_status_has_none() -> None:
    assert Headline("crashed", "crashed").role == ""
