"""`train.interpolate` and `train.average`: what is refused, and what makes another run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from core.errors import PlanError
from core.plan.candidates import planned_candidates
from core.plan.identity import run_identity, settings_from
from core.plan.read import parse_plan
from core.plan.rows import expand
from core.plan.schema import Row

PLAN = """
[model]
id = "m"
[data]
train = "t.jsonl"
replay = "r.jsonl"
domain = "d.jsonl"
heldout = "h.jsonl"
{data}
[train]
steps = 1000
eval_every = 100
{train}
[[experiment]]
id = "2.1"
{more}
"""
APART = "selection_share = 0.1"


def rows(train: str = "", data: str = APART, more: str = "", *sets: str) -> list[Row]:
    return list(expand(parse_plan(PLAN.format(data=data, train=train, more=more), "plan.toml", list(sets))))


def identity(row: Row) -> str:
    return run_identity(row.settings, {"model": "m", "train": "t"})


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            "interpolate = 0.5",
            "train.interpolate: expected an array of numbers, as in [0.2, 0.5], found the",
        ),
        ("interpolate = ['0.5']", "train.interpolate: expected an array of numbers"),
        ("interpolate = [true]", "train.interpolate: expected an array of numbers"),
        ("interpolate = [nan]", "train.interpolate: expected an array of numbers"),
        ("interpolate = [0.5, 1.0]", "train.interpolate: 1 is too large: must be at most 0.99"),
        ("interpolate = [0.0]", "train.interpolate: 0 is too small: must be at least 0.01"),
        (f"interpolate = {[n / 100 for n in range(1, 22)]}", "train.interpolate: 21 of them: give at most 20"),
        ("average = 1", "train.average: the average of one interval is that interval"),
        ("average = 11", "train.average: the run has 10 intervals: give at most so many"),
        ("average = 2.5", "train.average: expected a whole number"),
        ("interpolate_last = 2", "train.interpolate_last: nothing is interpolated: give train.interpolate"),
        ("interpolate_last = 11", "train.interpolate_last: the run has 10 intervals: give at most so many"),
        ("interpolate_last = 0", "train.interpolate_last: 0 is too small: must be at least 1"),
    ],
)
def test_what_no_run_could_make_is_refused_with_its_line(train: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        rows(train)
    assert "plan.toml:13: " + message in str(caught.value)


@pytest.mark.parametrize("key", ["interpolate = [0.5]", "average = 2"])
@pytest.mark.parametrize("data", ["", 'selection = "s.jsonl"'])
def test_without_selection_sets_there_is_nothing_to_choose_on(key: str, data: str) -> None:
    with pytest.raises(PlanError, match=r"there are none: set data\.selection_share = 0\.1, or data\.selection and"):
        rows(key, data)
    assert rows(key, 'selection = "s.jsonl"\nselection_heldout = "o.jsonl"')


def test_they_make_another_run_only_where_they_are_given() -> None:
    plain, [off] = rows()[0], rows("interpolate = []\naverage = 0")
    assert identity(off) == identity(plain)
    ones = ["interpolate = [0.2]", "interpolate = [0.2, 0.5]", "average = 2", "interpolate = [0.2]\naverage = 2"]
    ones.append("interpolate = [0.2]\ninterpolate_last = 3")
    found = [identity(rows(train)[0]) for train in ones]
    assert len({identity(plain), *found}) == 6
    assert identity(rows("interpolate = [0.5, 0.2, 0.5]")[0]) == found[1], "the order means nothing"


def test_a_run_document_gives_the_settings_back() -> None:

    [row] = rows("interpolate = [0.2, 0.5]\naverage = 4")
    document: dict[str, Any] = json.loads(json.dumps(asdict(row.settings)))
    assert settings_from(document) == row.settings
    del document["train"]["interpolate"], document["train"]["average"]
    assert settings_from(document) == rows()[0].settings


def test_a_sweep_and_a_setting_reach_them() -> None:
    first, second = rows(more='sweep."train.interpolate" = [[0.2], [0.2, 0.5]]')
    assert (first.label, second.label) == ("interpolate=0.2", "interpolate=0.2+0.5")
    [row] = rows("", APART, "", "train.interpolate=[0.3, 0.6]", "2.1:train.average=4")
    assert (row.settings.train.interpolate, row.settings.train.average) == ((0.3, 0.6), 4)


def test_a_plan_counts_what_is_made() -> None:
    """Averages at intervals 4 … 10, and each of two parts of the way to the last interval and the last average."""
    [row] = rows("interpolate = [0.3, 0.6]\naverage = 4")
    assert len(planned_candidates(row.settings.train)) == 7 + 4


def test_a_window_of_intervals_is_interpolated() -> None:
    [row] = rows("interpolate = [0.3, 0.6]\naverage = 4\ninterpolate_last = 5")
    assert len(planned_candidates(row.settings.train)) == 7 + 2 * (5 + 5)
    [row] = rows("interpolate = [0.3]\naverage = 8\ninterpolate_last = 5")
    assert len(planned_candidates(row.settings.train)) == 3 + 5 + 3, "there are three averages"
