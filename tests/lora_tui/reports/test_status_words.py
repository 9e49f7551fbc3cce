"""What `status` says of a run that trains, and a report of one that failed early: nothing contradicts itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from core.queue.report import Outcome, RowReport
from core.runs.evidence import gather
from core.runs.matrix import run_row
from core.runs.origin import origin
from core.runs.store import read_run
from core.scoring.evidence import Decision, Thresholds
from core.scoring.verdict import judge
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
    snapshot = read_run(fake_run().good().paths)
    gathered = gather(snapshot, snapshot.paths)
    verdict = replace(judge(gathered.evidence, Thresholds()), decision=now)
    row: Any = SimpleNamespace(key="x")
    line = run_row("x", "", snapshot, gathered, verdict)
    report = RowReport(row, outcome, False, line, "", snapshot.paths, None, snapshot, gathered, verdict)
    assert status_command._cells(report)[status_command._HEADINGS.index("VERDICT")] == word


def test_an_adapter_that_was_never_made_is_not_recorded(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    snapshot = read_run(run.paths)
    facts = dict(origin(snapshot, run.paths, gather(snapshot, run.paths)))
    assert facts["Adapter"] == "not recorded"
