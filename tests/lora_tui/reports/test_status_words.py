"""What `status` says of a run that trains, and a report of one that failed early: nothing contradicts itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from core.runs.judged import judged, origin
from core.runs.row import Outcome, Row
from core.runs.run_figures import of_run
from core.runs.store import read_run
from core.scoring.evidence import Decision, Thresholds
from core.scoring.standing import Stand, Standing
from lora_tui import status_command

MakeRun = Callable[..., Any]


@pytest.mark.parametrize(
    ("now", "outcome", "word"),
    [
        (Decision.REJECTED, Outcome.UNDECIDED, "off course"),
        (Decision.UNDECIDED, Outcome.UNDECIDED, "on course"),
        (Decision.REJECTED, Outcome.REJECTED, "rejected"),
    ],
)
def test_the_table_says_what_the_verdict_below_it_says(
    fake_run: MakeRun, now: Decision, outcome: Outcome, word: str
) -> None:
    found = judged(read_run(fake_run().good().paths), Thresholds())
    found = replace(found, verdict=replace(found.verdict, decision=now), standing=Standing(Stand(word), "so it is", 1))
    row = replace(of_run(Row("plan:x", "x"), found), outcome=outcome)
    assert status_command._cells(row)[status_command._HEADINGS.index("VERDICT")] == word


def test_an_adapter_that_was_never_made_is_not_recorded(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    facts = dict(origin(judged(read_run(run.paths), Thresholds())))
    assert facts["Adapter"] == "not recorded"
