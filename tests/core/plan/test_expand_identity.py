from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

import pytest

from core.plan.identity import EXCLUDED, run_identity, settings_from
from core.plan.read import parse_plan
from core.plan.rows import expand, interval_steps, matches, unknown_ids, with_values
from core.plan.schema import Row, RunSettings, with_keys

HASHES = {"model": "m", "train": "t", "replay": "r", "domain": "d", "heldout": "h"}
HEAD = """\
[model]
id = "m"
[data]
train = "t.jsonl"
replay = "r.jsonl"
domain = "d.jsonl"
heldout = "h.jsonl"
"""


def rows_of(text: str) -> tuple[Row, ...]:
    return expand(parse_plan(HEAD + text, "plan.toml"))


def base() -> RunSettings:
    return rows_of("[[experiment]]\nid = 'a'\n")[0].settings


def identity(key: str | None = None, value: Any = None) -> str:
    return run_identity(base() if key is None else with_values(base(), {key: value}), HASHES)


def test_a_sweep_is_the_product_in_the_order_of_the_plan() -> None:
    rows = rows_of(
        "[[experiment]]\nid = 'a'\ntitle = 'T'\n"
        "sweep.train.learning_rate = [1e-4, 5e-5]\nsweep.adapter.rank = [4, 8]\n"
        "[[experiment]]\nid = 'b'\nafter = 'a'\nwhen = 'stable'\nadapter_from = 'a'\n"
    )
    assert [row.key for row in rows] == ["a#1", "a#2", "a#3", "a#4", "b"]
    assert [row.label for row in rows[:3]] == [
        "learning_rate=0.0001 rank=4", "learning_rate=0.0001 rank=8", "learning_rate=5e-05 rank=4",
    ]  # fmt: skip
    assert rows[2].settings.train.learning_rate == 5e-5
    assert rows[2].settings.adapter.rank == 4
    assert rows[4].label == ""
    assert (rows[4].after, rows[4].when, rows[4].adapter_from) == (("a",), "stable", ("a",))


def test_labels_of_lists_and_booleans_are_short() -> None:
    rows = rows_of(
        "[[experiment]]\nid='a'\nsweep.adapter.target_modules=[['q','v'],['q']]\n"
        "sweep.train.allow_high_learning_rate=[true]\n"
    )
    assert rows[0].label == "target_modules=q+v allow_high_learning_rate=true"


def test_an_experiments_batch_replaces_the_inherited_epochs() -> None:
    (row,) = rows_of("[train]\nepochs = 2\n[[experiment]]\nid = 'a'\ntrain.batch_seconds = 9\n")
    assert (row.settings.train.epochs, row.settings.train.batch_seconds) == (None, 9.0)
    (row,) = rows_of("[train]\nbatch_seconds = 2\n[[experiment]]\nid = 'a'\ntrain.epochs = 9\n")
    assert (row.settings.train.epochs, row.settings.train.batch_seconds) == (9.0, None)


def test_the_last_step_is_evaluated_too() -> None:
    assert interval_steps(1000, 400) == (400, 800, 1000)
    assert interval_steps(800, 400) == (400, 800)
    assert interval_steps(60, 100) == (60,)


def test_only_takes_experiments_and_rows() -> None:
    rows = rows_of("[[experiment]]\nid = 'a'\nsweep.train.seed = [1, 2]\n[[experiment]]\nid = 'b'\n")
    assert [row.key for row in rows if matches(row, ["a"])] == ["a#1", "a#2"]
    assert [row.key for row in rows if matches(row, ["a#2", "b"])] == ["a#2", "b"]
    assert unknown_ids(rows, ["a", "c", "a#3"]) == ("c", "a#3")


def test_identity_is_pinned_since_a_change_would_run_everything_again() -> None:
    assert identity() == "ab6b44e1b7"


def test_ids_titles_gate_and_queue_are_not_identity() -> None:
    (one,) = rows_of("[[experiment]]\nid = 'a'\n")
    (other,) = rows_of("[gate]\ndomain_gain = 9\n[queue]\nmax_runs = 3\n[[experiment]]\nid = 'b'\ntitle = 'x'\n")
    assert run_identity(one.settings, HASHES) == run_identity(other.settings, HASHES)


def test_the_learning_rate_sweep_meets_the_stability_run() -> None:
    rows = rows_of("[[experiment]]\nid = '2.1'\n[[experiment]]\nid = '3.1'\nsweep.train.learning_rate = [5e-5, 1e-4]\n")
    ids = [run_identity(row.settings, HASHES) for row in rows]
    assert ids[0] == ids[2] != ids[1]


def _other_value(value: Any, name: str) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, tuple):
        return (*value, "other")
    return "other" if value is not None else (7 if name != "revision" else "other")


@pytest.mark.parametrize(
    "key",
    [
        f"{section.name}.{key.name}"
        for section in fields(RunSettings)
        for key in fields(getattr(base(), section.name))
        if not is_dataclass(getattr(getattr(base(), section.name), key.name))
    ],
)
def test_every_key_is_identity_unless_excluded_with_a_reason(key: str) -> None:
    section, _, name = key.partition(".")
    old = getattr(getattr(base(), section), name)
    new = replace(base(), **{section: replace(getattr(base(), section), **{name: _other_value(old, name)})})
    assert (run_identity(new, HASHES) == identity()) == (key in EXCLUDED)
    assert EXCLUDED.get(key, "a reason")


OTHER = {
    "time_masks": 2,
    "time_mask_share": 0.1,
    "feature_masks": 1,
    "feature_mask_share": 0.1,
    "noise_share": 0.1,
    "snr_low": 1.0,
    "snr_high": 30.0,
    "speed": 0.1,
}
SWITCHES = {"time_masks": 1, "feature_masks": 2, "noise": "noise", "speed": 0.2}


@pytest.mark.parametrize("key", OTHER)
def test_what_is_augmented_is_identity_and_settings_of_what_is_off_are_not(key: str) -> None:
    """Plans from before there was `train.augment` keep their runs, and so does one that only tunes what is off."""
    off = with_keys(base(), {f"train.augment.{key}": OTHER[key]})
    assert (run_identity(off, HASHES) == identity()) == (key not in SWITCHES)
    on = with_keys(base(), {f"train.augment.{name}": value for name, value in SWITCHES.items()})
    changed = with_keys(on, {f"train.augment.{key}": OTHER[key]})
    assert len({identity(), run_identity(on, HASHES), run_identity(changed, HASHES)}) == 3


def test_the_noise_is_known_by_its_recordings_not_by_its_folder() -> None:
    one, other = (with_keys(base(), {"train.augment.noise": folder}) for folder in ("here", "there"))
    assert run_identity(one, HASHES | {"noise": "x"}) == run_identity(other, HASHES | {"noise": "x"})
    assert run_identity(one, HASHES | {"noise": "x"}) != run_identity(one, HASHES | {"noise": "y"}) != identity()


def test_settings_of_a_run_are_read_back() -> None:
    """With its augmentation; a run of an earlier version has none."""
    settings = with_keys(base(), {"train.augment.speed": 0.1, "train.augment.noise": "noise"})
    document = json.loads(json.dumps(asdict(settings)))
    assert settings_from(document) == settings
    del document["train"]["augment"]
    assert settings_from(document) == base()


@pytest.mark.parametrize("name", HASHES)
def test_every_hash_is_identity(name: str) -> None:
    assert run_identity(base(), HASHES | {name: "other"}) != identity()


def test_a_selection_manifest_is_identity() -> None:
    assert run_identity(base(), HASHES | {"selection": "s"}) != identity()


def test_replay_speech_that_is_not_used_is_not_identity() -> None:
    unused = with_values(base(), {"train.replay_share": 0.0})
    without = {key: value for key, value in HASHES.items() if key != "replay"}
    assert run_identity(unused, HASHES) == run_identity(unused, without)


def test_order_and_repetition_of_target_modules_mean_nothing() -> None:
    assert identity("adapter.target_modules", ("v", "q", "v")) == identity("adapter.target_modules", ("q", "v"))


def test_minus_zero_is_zero() -> None:
    assert identity("train.warmup", -0.0) == identity("train.warmup", 0.0)


def test_sweeps_and_set_reach_what_adapters_are_and_where() -> None:
    text = (
        "[[experiment]]\nid = 'a'\nsweep.adapter.method = ['lora', 'pissa']\n"
        "sweep.adapter.target_modules = ['attention', ['q_proj', 'fc1']]\n"
        "sweep.'adapter.rank_pattern' = [{ q_proj = 8 }]\n"
        "[[experiment]]\nid = 'b'\nsweep.adapter.layers = ['0-1', '2-']\nsweep.adapter.sites = ['encoder']\n"
    )
    sets = ["adapter.lora_plus=1.5", "b:adapter.sites=decoder", "train.gradient_checkpointing=true"]
    rows = expand(parse_plan(HEAD + text, "plan.toml", sets))
    assert [row.label for row in rows] == [
        "method=lora target_modules=attention rank_pattern=q_proj=8",
        "method=lora target_modules=q_proj+fc1 rank_pattern=q_proj=8",
        "method=pissa target_modules=attention rank_pattern=q_proj=8",
        "method=pissa target_modules=q_proj+fc1 rank_pattern=q_proj=8",
        "layers=0-1",
        "layers=2-",
    ]
    assert [row.settings.adapter.sites for row in rows] == [None] * 4 + ["decoder"] * 2
    assert all(row.settings.adapter.lora_plus == 1.5 and row.settings.train.gradient_checkpointing for row in rows)
    assert settings_from(json.loads(json.dumps(asdict(rows[1].settings)))) == rows[1].settings
    assert identity("adapter.rank_pattern", ("a=1", "b=2")) == identity("adapter.rank_pattern", ("b=2", "a=1"))
