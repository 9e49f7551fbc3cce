"""A number that a plan may have, its run's run.json may have, and no other: whatever key it has."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, get_type_hints

import pytest

from core.errors import PlanError
from core.plan.read import parse_plan
from core.plan.rows import expand
from core.plan.schema import MOST_NUMBER, GateSettings, SliceSettings
from core.plan.validate import SECTIONS
from core.runs.documents import wrong_config

PLAN = """\
[model]
id = "m"
[data]
train = "t"
replay = "r"
domain = "d"
heldout = "h"
[train]
allow_high_learning_rate = true
[[experiment]]
id = "a"
"""
RECORDED = ("data", "train", "adapter", "gate")
"""Sections that run.json holds."""


def _is_numeric(hint: Any) -> bool:
    return hint in (int, float, int | None, float | None, str | float)


NUMERIC = [
    (section, spec.name)
    for section, kind in SECTIONS.items()
    for spec in fields(kind)
    if _is_numeric(get_type_hints(kind)[spec.name])
]
NOT_FINITE = ("nan", "-nan", "inf", "-inf", "1e400", "-1e400")
ODD = (
    *NOT_FINITE, "NaN", "Infinity", "true", '"3"', "[3]", "3.0", "0.5", "0", "-0.0", "-1", "-1e15", "1e300", "-1e300",
    "1e-320", "9007199254740992", "9007199254740993", "9007199254740994.0", "-9007199254740994.0", "1" + "0" * 400,
)  # fmt: skip


def _document(given: str) -> dict[str, Any]:
    """What run.json holds of the plan with `given` set. PlanError."""
    plan = parse_plan(PLAN, "plan.toml", (given,))
    [row] = expand(plan)
    return {"settings": asdict(row.settings), "gate": asdict(plan.gate)}


@pytest.mark.parametrize(("section", "name"), NUMERIC)
def test_what_a_plan_accepts_its_run_can_be_read_with(section: str, name: str) -> None:
    for value in ODD:
        try:
            document = _document(f"{section}.{name}={value}")
        except PlanError as error:
            assert f"{section}.{name}" in str(error), f"{value}: {error}"
            continue
        assert value not in NOT_FINITE, f"{value} was accepted"
        assert wrong_config(document) is None, value


@pytest.mark.parametrize(("section", "name"), [key for key in NUMERIC if key[0] in RECORDED])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, -1e300, 2.0 * MOST_NUMBER, True, "3"])
def test_what_no_plan_may_have_no_run_has(section: str, name: str, value: Any) -> None:
    document = _document("train.seed=0")
    table = document["gate"] if section == "gate" else document["settings"][section]
    table[name] = value
    assert wrong_config(document) is not None


@pytest.mark.parametrize("value", [text for text in ODD if text not in ("3.0", "0.5", "0", "-0.0", "-1", "-1e15")])
@pytest.mark.parametrize("name", ["domain_gain", "heldout_regression"])
def test_thresholds_of_slices_are_such_numbers_too(name: str, value: str) -> None:
    toml = value if value not in ("NaN", "Infinity") else f'"{value}"'
    if value in ("1e-320", "9007199254740992"):
        assert _document(f'gate.slice=[{{by="speaker", {name}={toml}}}]')
        return
    with pytest.raises(PlanError, match=rf"{name}: expected a finite number"):
        _document(f'gate.slice=[{{by="speaker", {name}={toml}}}]')


@pytest.mark.parametrize("value", [*NOT_FINITE, "1e300"])
def test_ranges_and_sweeps_are_of_such_numbers_too(value: str) -> None:
    for more in (
        f'[search]\nadapter.alpha = {{ uniform = [1.0, {value}] }}\n[queue]\nthen = "search"\n',
        f'[search]\nadapter.alpha = [1.0, {value}]\n[queue]\nthen = "search"\n',
        f'[[experiment]]\nid = "b"\nsweep = {{ "adapter.alpha" = [1.0, {value}] }}\n',
        f'[[history]]\nid = "b"\ndomain_wer = {value}\n',
    ):
        with pytest.raises(PlanError, match=r"expected a|too|measure"):
            parse_plan(PLAN + more, "plan.toml")


def test_every_threshold_is_among_them() -> None:
    of_gate = {spec.name for spec in fields(GateSettings)} - {
        "unit", "block_by", "slice", "normaliser_chosen", "accept_leakage", "speakers", "runtime",
    }  # fmt: skip
    assert of_gate == {name for section, name in NUMERIC if section == "gate"}
    assert {spec.name for spec in fields(SliceSettings) if _is_numeric(get_type_hints(SliceSettings)[spec.name])} == {
        "domain_gain", "heldout_regression", "min_utterances",
    }  # fmt: skip
