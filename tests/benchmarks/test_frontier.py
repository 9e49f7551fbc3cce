"""benchmarks/frontier tells what run folders hold, and which rows have not been run."""

from __future__ import annotations

import json
import tarfile
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.frontier.__main__ import PLANS
from benchmarks.frontier.pages import draw, into_page, tables
from benchmarks.frontier.rows import Cell, Estimate, Ran, Row, Study, document, of_run, over_seeds
from core.plan.rows import expand
from core.scoring.evidence import Decision
from lora_tui.request import load_plan

RECORDED = Path(__file__).parents[2] / "docs" / "recorded" / "2.1-4f401991be.tar.xz"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("recorded")
    with tarfile.open(RECORDED) as archive:
        archive.extractall(folder, filter="data")
    found = of_run(folder / "2.1-4f401991be", "accepted")
    assert found is not None
    return found


def study_of(*runs: Ran | None) -> Study:
    rows = tuple(Row("hot", "a | b", seed, "done", run) for seed, run in enumerate(runs, 1))
    return Study("digits", "Digits <of> six", (Cell("hot", "a | b", rows),))


def test_a_run_is_told_as_its_verdict_has_it(recorded: Ran) -> None:
    assert (recorded.chosen, recorded.steps) == ("step-000100", 1000)
    assert round(recorded.gain.value, 2) == 1.67
    assert round(recorded.rise.value, 2) == 0.12
    assert recorded.gain.low < recorded.gain.value < recorded.gain.high
    assert recorded.end is not None
    assert tuple(round(value, 2) for value in recorded.end) == (10.04, 1.30)
    assert recorded.sure == Decision.UNDECIDED.value
    assert any(text.startswith("Heldout") and text.endswith("UNKNOWN") for text in recorded.in_the_way)


def test_rows_that_were_not_run_are_named(recorded: Ran) -> None:
    text = "\n".join(tables([study_of(recorded, None, None)]))
    assert "| 1 of 3 | +1.67 | +0.12 |" in text
    assert "**Not run:** `hot` (seeds 2, 3)." in text
    assert "a / b" in text
    assert "Every row was run." in "\n".join(tables([study_of(recorded)]))


def test_a_setting_is_the_mean_over_its_seeds_with_their_interval(recorded: Ran) -> None:
    runs = [replace(recorded, gain=Estimate(value, 0.0, 9.0)) for value in (1.0, 2.0, 3.0)]
    # 2 ± t(0.975, 2) · 1 / √3
    assert "| 3 of 3 | +2.00 [−0.48, +4.48] |" in "\n".join(tables([study_of(*runs)]))
    assert over_seeds([1.0]) is None


def test_the_figure_and_the_document_hold_every_run(recorded: Ran) -> None:
    studies = [study_of(recorded, recorded), study_of(None)]
    picture = ET.fromstring(draw(studies))  # noqa: S314 - made here
    dots = [one for one in picture.iter() if one.tag.endswith("circle")]
    assert len(dots) == 2 + 1  # with the one beside the name
    cells = json.loads(document(studies))["studies"][0]["cells"]
    assert [row["ran"]["run"] for row in cells[0]["rows"]] == [recorded.run] * 2


def test_tables_take_the_place_of_the_old_ones_alone() -> None:
    page = into_page("# Title\n\nbefore\n", "old")
    page = page.rstrip() + "\n\nafter\n"
    page = into_page(page, "new")
    assert page.startswith("# Title\n\nbefore\n")
    assert "new" in page
    assert "old" not in page
    assert page.endswith("after\n")


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.stem)
def test_each_setting_has_three_seeds(plan: Path) -> None:
    seeds: dict[str, set[int]] = {}
    for row in expand(load_plan(plan)):
        seeds.setdefault(row.experiment, set()).add(row.settings.train.seed)
    assert all(len(found) >= 3 for found in seeds.values())
