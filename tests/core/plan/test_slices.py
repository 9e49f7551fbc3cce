"""`[[gate.slice]]`: what a plan may say, and what is said of what it may not."""

from __future__ import annotations

import pytest

from core.errors import PlanError
from core.plan.read import parse_plan
from core.plan.schema import SliceSettings

PLAN = """
[model]
id = "m"
[data]
train = "t.jsonl"
domain = "d.jsonl"
heldout = "h.jsonl"
[[gate.slice]]
{entry}
[[experiment]]
id = "a"
"""


def slices(entry: str) -> tuple[SliceSettings, ...]:
    return parse_plan(PLAN.format(entry=entry), "plan.toml").gate.slice


def test_slices_are_read() -> None:
    assert slices('by = "speaker"\nheldout_regression = 1') == (SliceSettings("speaker", heldout_regression=1.0),)
    assert slices('by = "duration"\nedges = [2, 5]\ndomain_gain = 0.0\nmin_utterances = 20') == (
        SliceSettings("duration", edges=(2.0, 5.0), domain_gain=0.0, min_utterances=20),
    )
    assert slices('by = "room"\nvalues = ["a", "b", "a"]\ndomain_gain = 0')[0].values == ("a", "b")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("heldout_regression = 1.0", "by is missing"),
        ('by = "speaker"', "a slice needs a threshold"),
        ('by = "speaker"\nedges = [2]\ndomain_gain = 0', "edges go with by = duration"),
        ('by = "duration"\ndomain_gain = 0', "needs edges"),
        (
            'by = "duration"\nedges = [5, 2]\ndomain_gain = 0',
            "plan.toml:10: gate.slice[1].edges: expected 1 to 20 rising",
        ),
        ('by = "duration"\nedges = [5]\nvalues = ["a"]\ndomain_gain = 0', "takes edges, not values"),
        ('by = "speaker"\ndomain_gian = 0', "did you mean domain_gain?"),
        ('by = "speaker"\ndomain_gain = nan', "expected a finite number"),
        ('by = "speaker"\ndomain_gain = 0\nmin_utterances = 1', "from 2 to 1000000"),
        ("by = 3\ndomain_gain = 0", "expected the name of a field, found 3"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(entry: str, says: str) -> None:
    with pytest.raises(PlanError) as caught:
        slices(entry)
    assert says in str(caught.value) and str(caught.value).startswith("plan.toml:")


def test_a_slice_that_is_no_table() -> None:
    text = PLAN.replace("[[gate.slice]]\n{entry}", "[gate]\nslice = 3")
    with pytest.raises(PlanError, match=r"write \[\[gate.slice\]\]"):
        parse_plan(text, "plan.toml")
