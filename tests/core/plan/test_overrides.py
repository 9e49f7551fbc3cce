"""`--set`: what it reaches, and its problems."""

from __future__ import annotations

import pytest

from core.errors import PlanError
from core.plan.read import parse_plan
from core.plan.rows import expand
from core.plan.schema import Plan, RunSettings

PLAN = """\
[model]
id = "m"
[data]
train = "t.jsonl"
replay = "r.jsonl"
domain = "d.jsonl"
heldout = "h.jsonl"
[train]
epochs = 3
[[experiment]]
id = "2.1"
[[experiment]]
id = "3.1"
train.steps = 2000
train.eval_every = 200
sweep."train.learning_rate" = [5e-5, 1e-4]
"""


def parse(*overrides: str) -> Plan:
    return parse_plan(PLAN, "plan.toml", overrides)


def settings_of(plan: Plan, key: str) -> RunSettings:
    return next(row.settings for row in expand(plan) if row.key == key)


def problem(*overrides: str) -> str:
    with pytest.raises(PlanError) as caught:
        parse(*overrides)
    return str(caught.value)


def test_a_default_reaches_the_experiments_without_their_own_value() -> None:
    plan = parse("train.steps=1500", "train.eval_every=150")
    assert settings_of(plan, "2.1").train.steps == 1500
    assert settings_of(plan, "3.1#1").train.steps == 2000
    assert plan.warnings == (
        "--set train.steps=1500: 3.1 keeps what the plan says there; --set 3.1:train.steps=… would change that",
        "--set train.eval_every=150: 3.1 keeps what the plan says there; "
        "--set 3.1:train.eval_every=… would change that",
    )


def test_one_experiment() -> None:
    plan = parse("2.1:adapter.method=lora", "2.1:train.steps=1100")
    assert settings_of(plan, "2.1").adapter.method == "lora"
    assert settings_of(plan, "2.1").train.steps == 1100
    assert settings_of(plan, "3.1#1").adapter.method == "dora"


def test_an_experiment_set_by_hand_is_not_warned_of() -> None:
    assert (
        parse("train.steps=1500", "3.1:train.steps=1500", "train.eval_every=150", "3.1:train.eval_every=150").warnings
        == ()
    )


@pytest.mark.parametrize("spelling", ['sweep."train.learning_rate"', "sweep.train.learning_rate"])
def test_a_value_for_one_experiment_ends_its_sweep(spelling: str) -> None:
    text = PLAN.replace('sweep."train.learning_rate"', spelling)
    plan = parse_plan(text, "plan.toml", ["3.1:train.learning_rate=7e-5"])
    assert [(row.key, row.settings.train.learning_rate) for row in expand(plan)] == [
        ("2.1", 1e-4),
        ("3.1", 7e-5),
    ]


AUGMENTED = PLAN.replace(
    "[[experiment]]",
    """[train.augment]
time_masks = 1
[[experiment]]
id = "1"
train.augment.time_masks = 3
sweep.train.augment.speed = [0.1, 0.2]
[[experiment]]""",
    1,
)


def test_keys_of_a_table_in_a_section_are_set_swept_and_overridden() -> None:
    plan = parse_plan(AUGMENTED, "plan.toml", ["train.augment.feature_masks=2", "2.1:train.augment.time_masks=0"])
    found = {row.key: row.settings.train.augment for row in expand(plan)}
    assert {key: (a.time_masks, a.feature_masks, a.speed) for key, a in found.items()} == {
        "1#1": (3, 2, 0.1),
        "1#2": (3, 2, 0.2),
        "2.1": (0, 2, 0.0),
        "3.1#1": (1, 2, 0.0),
        "3.1#2": (1, 2, 0.0),
    }
    assert next(row for row in expand(plan) if row.key == "1#1").label == "speed=0.1"
    ended = parse_plan(AUGMENTED, "plan.toml", ["1:train.augment.speed=0.05"])
    assert [row.settings.train.augment.speed for row in expand(ended) if row.experiment == "1"] == [0.05]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.augment.sped=0.1", "train.augment.sped: unknown key; did you mean augment.speed?"),
        ("train.augment.speed=0.9", "train.augment.speed: 0.9 is too large: must be at most 0.3"),
        ("train.augment=3", "train.augment: expected a table of settings, found the integer 3"),
        ("train.augment.speed.fast=1", 'train.augment."speed.fast": unknown key; did you mean augment.speed?'),
    ],
)
def test_problems_of_a_table_in_a_section(override: str, expected: str) -> None:
    assert f"--set {override}: {expected}" in problem(override)


def test_values_are_toml_and_bare_words_are_strings() -> None:
    plan = parse(
        'adapter.target_modules=["q_proj"]',
        "data.train=my speech.jsonl",
        "queue.until=all",
        "gate.domain_gain=2",
    )
    assert plan.defaults.adapter.target_modules == ("q_proj",)
    assert plan.defaults.data.train == "my speech.jsonl"
    assert plan.queue.until == "all"
    assert plan.gate.domain_gain == 2.0


def test_the_last_one_wins() -> None:
    assert parse("train.seed=1", "train.seed=2").defaults.train.seed == 2


def test_a_batch_set_by_hand_replaces_the_files_epochs() -> None:
    plan = parse("train.batch_seconds=30")
    assert plan.defaults.train.batch_seconds == 30.0
    assert plan.defaults.train.epochs is None
    assert settings_of(plan, "2.1").train.epochs is None
    assert "give epochs or batch_seconds, not both" in problem("train.batch_seconds=30", "train.epochs=2")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.steps", "--set train.steps: expected KEY=VALUE, as in train.steps=60 or 2.1:train.steps=60"),
        ("train.steps=", "--set train.steps=: expected KEY=VALUE"),
        ("steps=3", "--set steps=3: expected KEY=VALUE"),
        ("=3", "--set =3: expected KEY=VALUE"),
        ("tarin.steps=3", "--set tarin.steps=3: there is no section 'tarin'; sections are model, data"),
        ("train.stpes=3", "--set train.stpes=3: train.stpes: unknown key; did you mean steps?"),
        ("train.steps=x", '--set train.steps=x: train.steps: expected a whole number, found the string "x"'),
        ("train.steps=0", "--set train.steps=0: train.steps: 0 is too small"),
        ("9.9:train.steps=3", "--set 9.9:train.steps=3: the plan has no experiment '9.9'"),
        ("2.1:gate.domain_gain=3", "--set 2.1:gate.domain_gain=3: gate cannot differ between experiments"),
        ("2.1:train.steps=x", "--set 2.1:train.steps=x: train.steps: expected a whole number"),
        (
            "train.learning_rate=1e-3",
            "--set train.learning_rate=1e-3: train.learning_rate: 0.001 is 0.0002 or more",
        ),
        ("2.1:train.learning_rate=1e-3", "--set 2.1:train.learning_rate=1e-3: train.learning_rate: 0.001 is"),
        (
            "queue.then=search",
            "--set queue.then=search: queue.then: there is nothing to draw from",
        ),
        ("train.steps.x=3", '--set train.steps.x=3: train."steps.x": unknown key'),
    ],
)
def test_problems_say_which_set(override: str, expected: str) -> None:
    assert problem(override).startswith(expected)


def test_set_problems_and_file_problems_come_together() -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(PLAN.replace("epochs = 3", "epochs = 0"), "plan.toml", ["adapter.rank=x"])
    assert len(str(caught.value).split("\n")) == 2


def test_a_new_line_in_a_value_does_not_make_two_problems() -> None:
    assert "\n" not in problem("train.steps=a\nb")


def test_a_set_on_what_is_no_table_leaves_the_file_problem() -> None:
    with pytest.raises(PlanError, match=r"plan\.toml:1: train: expected a table of settings"):
        parse_plan("train = 3\n" + PLAN.replace("[train]\nepochs = 3\n", ""), "plan.toml", ["train.steps=3"])
