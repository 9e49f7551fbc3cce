"""What `status` says of a run that trains, and a report of one that failed early: nothing contradicts itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from core.queue.report import Outcome, RowReport
from core.runs.judged import judged
from core.runs.matrix import run_row
from core.runs.origin import origin
from core.runs.store import read_run
from core.scoring.evidence import Decision, Thresholds
from lora_tui import status_command

MakeRun = Callable[..., Any]


@pytest.mark.parametrize(
    ("now", "outcome", "word"),
    [
        (Decision.REJECTED, Outcome.UNDECIDED, "so far rejected"),
        (Decision.UNDECIDED, Outcome.UNDECIDED, "undecided"),
        (Decision.REJECTED, Outcome.REJECTED, "rejected"),
    ],
)
def test_the_table_says_what_the_verdict_below_it_says(
    fake_run: MakeRun, now: Decision, outcome: Outcome, word: str
) -> None:
    found = judged(read_run(fake_run().good().paths), Thresholds())
    found = replace(found, verdict=replace(found.verdict, decision=now))
    row: Any = SimpleNamespace(key="x")
    line = run_row("x", "", found)
    report = RowReport(row, outcome, False, line, "", found.snapshot.paths, None, found, found.verdict)
    assert status_command._cells(report)[status_command._HEADINGS.index("VERDICT")] == word


def test_an_adapter_that_was_never_made_is_not_recorded(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    facts = dict(origin(judged(read_run(run.paths), Thresholds())))
    assert facts["Adapter"] == "not recorded"
