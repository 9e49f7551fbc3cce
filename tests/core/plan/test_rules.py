"""What a plan may ask for: maxima, and warnings of what its verdict cannot know."""

from __future__ import annotations

from dataclasses import fields

import pytest

from core.errors import PlanError
from core.plan.read import parse_plan
from core.plan.schema import AdapterSettings, GateSettings, QueueSettings, SliceSettings, TrainSettings

PLAN = "[model]\nid='m'\n[data]\ntrain='t'\ndomain='d'\nheldout='h'\n[[experiment]]\nid='2.1'\n"


def test_every_whole_number_has_a_maximum() -> None:
    kinds = (TrainSettings, AdapterSettings, GateSettings, QueueSettings, SliceSettings)
    counts = [spec for kind in kinds for spec in fields(kind) if str(spec.type).partition(" ")[0] == "int"]
    assert len(counts) > 12 and all("maximum" in spec.metadata for spec in counts)


def test_too_few_intervals_are_a_warning_that_names_what_stays_unknown() -> None:
    plan = parse_plan(PLAN + "train.steps = 60\n", "plan.toml")
    (warning,) = plan.warnings
    assert warning.startswith("plan.toml:9: 2.1: 60 steps with eval_every = 100 give 1 interval:")
    assert "convergence stays UNKNOWN" in warning
    assert "stability stays UNKNOWN" in warning


def test_intervals_too_close_for_stability_are_a_warning() -> None:
    plan = parse_plan(PLAN + "train.steps = 2000\n", "plan.toml")
    assert "the last 3 must cover 20% of the steps" in plan.warnings[0]
    assert parse_plan(PLAN + "train.steps = 2000\ntrain.eval_every = 200\n", "plan.toml").warnings == ()


def test_a_checkpoint_interval_beyond_the_evaluations_has_no_effect_and_says_so() -> None:
    plan = parse_plan(PLAN + "train.checkpoint_every = 5000\n", "plan.toml")
    assert plan.warnings == (
        "plan.toml:9: 2.1: train.checkpoint_every = 5000 has no effect: there is a checkpoint at each interval, which "
        "is every 100 steps",
    )
    assert parse_plan(PLAN + "train.checkpoint_every = 10\n", "plan.toml").warnings == ()


def test_an_evaluation_interval_beyond_the_steps_is_a_warning() -> None:
    (warning,) = parse_plan(PLAN + "train.eval_every = 5000\n", "plan.toml").warnings
    assert "1000 steps with eval_every = 5000 give 1 interval: convergence stays UNKNOWN" in warning


def test_devices_that_cannot_have_equal_shares_of_a_step_are_refused() -> None:
    with pytest.raises(PlanError) as refused:
        parse_plan(PLAN + "train.devices = 4\ntrain.accumulation = 6\n", "plan.toml")
    assert str(refused.value) == (
        "plan.toml:9: train.devices: 4 devices cannot share out 6 micro-batches of each step evenly: set "
        "train.accumulation = 8"
    )
    assert parse_plan(PLAN + "train.devices = 2\ntrain.accumulation = 6\n", "plan.toml").warnings == ()
