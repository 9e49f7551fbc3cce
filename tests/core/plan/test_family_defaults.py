from __future__ import annotations

from typing import Any

import pytest

from core.plan.families import FAMILIES, FamilyFacts
from core.plan.read import parse_plan
from core.plan.schema import HIGH_LEARNING_RATE
from core.plan.template import PUBLISHED, family_defaults, plan_text

MANIFESTS = {"train": "t.jsonl", "domain": "d.jsonl", "heldout": "h.jsonl"}


def facts_of(name: str) -> FamilyFacts:
    return next(facts for facts in FAMILIES if facts.name == name)


def chosen(name: str, languages: tuple[str, ...] = (), clips: int = 500) -> dict[str, Any]:
    found = family_defaults(facts_of(name), languages, 30.0, [4.0] * clips, 1000, 3.0)
    assert all(one.why.endswith(".") for one in found)
    return {one.key: one.value for one in found}


def test_an_english_whisper_counts_no_spelling_and_its_batches_hold_whole_windows() -> None:
    assert chosen("whisper") == {
        "data.max_seconds": 30.0,
        "train.learning_rate": 1e-4,
        "data.normaliser": "whisper_english",
        "train.eval_batch_seconds": 480.0,
    }
    assert "data.normaliser" not in chosen("whisper", ("de", "en"))
    assert chosen("whisper", clips=20_000)["train.accumulation"] == 4, "60 clips in a step"


def test_clips_of_replay_are_in_a_micro_batch_too() -> None:
    clips = [4.0] * 20_000
    found = family_defaults(facts_of("whisper"), (), 30.0, clips, 1000, 3.0, clips)
    [parts] = [one for one in found if one.key == "train.accumulation"]
    assert parts.value == 8 and "a step has 120 clips" in parts.why


def test_each_familys_rate_needs_no_permission_and_says_that_it_is_caution() -> None:
    for facts in FAMILIES:
        [rate] = [one for one in family_defaults(facts, (), 30.0, [4.0], 1, 1.0) if one.key == "train.learning_rate"]
        assert rate.value < HIGH_LEARNING_RATE and "not a measured optimum" in rate.why
    assert set(PUBLISHED) <= {facts.name for facts in FAMILIES}


def test_a_speech_language_model_is_adapted_in_its_decoder() -> None:
    assert chosen("qwen3_asr", ("de",))["adapter.sites"] == "decoder"
    assert not {"adapter.sites", "train.eval_batch_seconds", "data.normaliser"} & chosen("moonshine").keys()


@pytest.mark.parametrize("facts", FAMILIES, ids=lambda facts: facts.name)
def test_each_familys_plan_is_clean_and_says_why(facts: FamilyFacts) -> None:
    found = family_defaults(facts, (), 30.0, [4.0] * 20_000, 1000, 3.0)
    text = plan_text("org/model", MANIFESTS, ("q_proj", "v_proj"), (), chosen=found)
    plan = parse_plan(text, "plan.toml")
    assert plan.warnings == ()
    lines = text.splitlines()
    for one in found:
        at = lines.index(f"# {one.why}")
        assert lines[at + 1 :][0].startswith("# ") or lines[at + 1].startswith(f"{one.key.partition('.')[2]} = ")
        assert f"\n{one.key.partition('.')[2]} = " in text


def test_the_normaliser_that_was_asked_for_is_kept() -> None:
    found = family_defaults(facts_of("whisper"), (), 30.0, [4.0], 1000, 3.0)
    text = plan_text("org/model", MANIFESTS | {"normaliser": "basic"}, ("q_proj",), (), chosen=found)
    assert parse_plan(text, "plan.toml").defaults.data.normaliser == "basic"
