"""What a reviewer reads: the HTML page's first screen, and the comment on a pull or merge request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.runs.judged import judged
from core.runs.paths import RunPaths
from core.runs.row import Outcome, Row
from core.runs.run_figures import of_run
from core.runs.status import Status
from core.runs.store import read_run
from core.scoring.evidence import Thresholds
from lora_tui import output
from lora_tui.reports import comment, html_page
from lora_tui.reports.report import Report, of_lines

MakeRun = Callable[..., Any]
WAITS = Row("plan:9", "9.1", Status.WAITING, "after 2.1")


def row_of(run: Any, key: str = "2.1") -> Row:
    return of_run(Row(f"plan:{key}", key), judged(read_run(run.paths, now=run.time), Thresholds()))


@pytest.fixture
def accepted(fake_run: MakeRun) -> Row:
    return row_of(fake_run().good())


def rejected(row: Row) -> Row:
    return replace(row, outcome=Outcome.REJECTED)


def test_the_page_begins_with_what_ships_and_when(accepted: Row) -> None:
    page = html_page.render(of_lines([WAITS, accepted]))
    lead = page.partition("<h1>")[2].partition("<table")[0]
    assert "SHIP 2.1 step 1000: domain −20.00" in lead and "accepted" in lead
    assert of_lines([accepted]).date() in lead and of_lines([accepted]).date().count("-") == 2


def test_the_page_has_a_row_a_run_and_all_else_behind_details(accepted: Row) -> None:
    again = replace(accepted, id="plan:3.1", key="3.1")
    page = html_page.render(of_lines([accepted, again, WAITS]))
    table = page.partition("<table>")[2].partition("</table>")[0]
    assert table.count("<tr>") == 2, "the heading and one run"
    assert "also 3.1" in table and "9.1" not in table and "1 rows without a run" in page
    assert page.count("<svg") == 1 and "may ship: domain ≤ −1, heldout ≤ +0.2" in page and "2.1 step 1000" in page
    assert "Parity</dt><dd>another process" in page
    before = page.partition("<details>")[0]
    assert "Artifact integrity</td>" not in before and "Artifact integrity</td>" in page
    assert "overflow-x" not in page and "nowrap" not in page, "nothing scrolls sideways"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["accepted", "waits"], "SHIP 2.1 step 1000"),
        (["rejected", "waits"], "nothing ships: 1 rejected, 1 pending"),
        (["waits"], "nothing ships: 1 pending"),
        ([], "nothing ships: there is no run"),
    ],
)
def test_the_recommendation(accepted: Row, rows: list[str], said: str) -> None:
    kinds = {"accepted": accepted, "rejected": rejected(accepted), "waits": WAITS}
    report = of_lines([kinds[kind] for kind in rows])
    assert report.recommendation().startswith(said)
    assert comment.render(report).splitlines()[1].startswith("### ")


def test_of_several_the_largest_gain_is_recommended(accepted: Row) -> None:
    less = replace(accepted.figures, domain=replace(accepted.figures.domain, change=-1.5))
    other = replace(accepted, key="1.1", figures=less, run=RunPaths(Path("runs/1.1-x")))
    assert of_lines([other, accepted]).recommendation().endswith("; 1 more accepted")
    assert of_lines([other, accepted]).recommendation().startswith("SHIP 2.1")
    assert "more" not in of_lines([accepted, replace(accepted, key="3.1")]).recommendation(), "one run, two rows"


@given(st.integers(0, 80), st.integers(0, 80), st.integers(0, 20))
def test_a_comment_has_at_most_60_lines(runs: int, waits: int, remarks: int) -> None:
    many = [Row(str(n), str(n), run=RunPaths(Path(f"runs/{n}-x"))) for n in range(runs)]
    text = comment.render(of_lines([*many, *[WAITS] * waits]))
    assert len(text.splitlines()) <= 60 and text.startswith(comment.MARK)
    assert runs <= 25 or f"{runs - 25} more runs" in text


def test_a_comment_folds_the_criteria_for_github_and_gitlab(accepted: Row, tmp_path: Path) -> None:
    report: Report = of_lines([accepted])
    output.export(tmp_path / "verdict.comment.md", report)
    lines = (tmp_path / "verdict.comment.md").read_text().splitlines()
    fold = lines.index("<details><summary>Criteria of 2.1</summary>")
    assert lines[fold + 1] == "" and lines[-1] == "</details>" and lines[-2] == "", "else the table is no table"
    assert sum(line.startswith("| ") for line in lines) == 3 + 2 + 6
