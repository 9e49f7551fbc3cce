from __future__ import annotations

from dataclasses import fields

import pytest

from core.plan.read import parse_plan
from core.plan.rows import expand
from core.plan.template import plan_text
from core.plan.validate import SECTIONS

MANIFESTS = {"train": "t.jsonl", "domain": "d.jsonl", "heldout": "h.jsonl"}


def test_a_new_plan_is_a_clean_plan_with_the_shipped_phases() -> None:
    text = plan_text("org/model", MANIFESTS | {"replay": "r.jsonl"}, ("q_proj", "k_proj", "v_proj"), ("fc1",))
    plan = parse_plan(text, "plan.toml")
    assert plan.warnings == ()
    assert plan.defaults.data.replay == "r.jsonl"
    assert [row.settings.adapter.target_modules for row in expand(plan)][:5] == [
        ("q_proj", "k_proj", "v_proj"), ("q_proj", "k_proj", "v_proj"),
        ("q_proj", "v_proj"), ("q_proj", "k_proj", "v_proj"), ("q_proj", "k_proj", "v_proj", "fc1"),
    ]  # fmt: skip


def test_without_alternatives_there_is_no_architecture_phase() -> None:
    plan = parse_plan(plan_text("org/model", MANIFESTS, ("q_proj", "v_proj"), ()), "plan.toml")
    assert [experiment.id for experiment in plan.experiments] == ["2.1", "2.1-lora", "3.1"]


def test_every_built_key_is_in_the_text_with_its_meaning() -> None:
    text = plan_text("org/model", MANIFESTS, ("q_proj",), ())
    for kind in SECTIONS.values():
        for spec in fields(kind):
            if spec.metadata.get("choices") != (None,) and "doc" in spec.metadata:  # the others are tables
                assert f"\n{spec.name} = " in text or f"\n# {spec.name} = " in text, spec.name
                assert spec.metadata["doc"] in text


@pytest.mark.parametrize("name", ['a"b\\c', "tab\tnew\nline", "\x7f\x01", "ünï 😀", "# no comment", "{x}", "'''"])
def test_odd_names_survive(name: str) -> None:
    plan = parse_plan(plan_text(name, MANIFESTS | {"train": name}, (name,), ()), "plan.toml")
    assert plan.defaults.model.id == plan.defaults.data.train == name
    assert plan.defaults.adapter.target_modules == (name,)
