"""`train.kl`, `train.decay_to_base`, `train.ema`: what is refused, and what makes another run."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from core.errors import PlanError
from core.plan.identity import run_identity, settings_from
from core.plan.read import parse_plan
from core.plan.rows import expand
from core.plan.schema import Row

PLAN = """
[model]
id = "m"
[data]
train = "t.jsonl"
{replay}domain = "d.jsonl"
heldout = "h.jsonl"
[train]
{train}
[[experiment]]
id = "2.1"
{more}
"""
REPLAY = 'replay = "r.jsonl"\n'


def rows(train: str = "", more: str = "", replay: str = REPLAY) -> list[Row]:
    return list(expand(parse_plan(PLAN.format(train=train, more=more, replay=replay), "plan.toml", [])))


def identity(row: Row) -> str:
    return run_identity(row.settings, {"model": "m", "train": "t"})


@pytest.mark.parametrize(
    ("train", "more", "message"),
    [
        ("kl = -1", "", "train.kl: -1 is too small: must be at least 0"),
        ("kl = 1001", "", "train.kl: 1001 is too large: must be at most 1000"),
        (
            "kl = 1\nreplay_share = 0",
            "",
            "train.kl: the divergence is measured on replay speech, and there is none: gi",
        ),
        ("ema = 1.0", "", "train.ema: 1 is too large: must be below 1"),
        ("ema = -0.1", "", "train.ema: -0.1 is too small"),
        ("decay_to_base = -1", "", "train.decay_to_base: -1 is too small"),
        ("decay_to_base = 1e4", "", "train.decay_to_base: 10000 times train.learning_rate = 0.0001 is 1 or more"),
        ("decay_to_base = 1", 'adapter.method = "pissa"', 'train.decay_to_base: adapter.method = "pissa" begins with'),
        ("decay_to_base = 1", 'adapter.method = "olora"', 'train.decay_to_base: adapter.method = "olora" begins with'),
    ],
)
def test_what_no_run_could_do_is_refused_with_its_line(train: str, more: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        rows(train, more)
    assert "plan.toml:10: " + message in str(caught.value)


def test_without_replay_speech_there_is_nothing_to_compare_on() -> None:
    with pytest.raises(PlanError, match=r"train\.kl: the divergence is measured on replay speech, and there is none"):
        rows("kl = 0.5", replay="")


def test_they_make_another_run_only_where_they_are_on() -> None:
    plain, [off] = rows()[0], rows("kl = 0\ndecay_to_base = 0.0\nema = 0")
    assert identity(off) == identity(plain)
    found = {identity(rows(one)[0]) for one in ("", "kl = 0.5", "kl = 1", "decay_to_base = 1", "ema = 0.9")}
    assert len(found) == 5


def test_a_run_of_an_earlier_version_has_none_of_them() -> None:
    [row] = rows("kl = 0.5\ndecay_to_base = 1\nema = 0.9")
    document = asdict(row.settings)
    for key in ("kl", "decay_to_base", "ema"):
        del document["train"][key]
    assert identity_of(document) == identity(rows()[0])


def identity_of(document: dict[str, object]) -> str:
    return run_identity(settings_from(document), {"model": "m", "train": "t"})


def test_a_sweep_may_go_over_each_of_them() -> None:
    found = rows(more='sweep."train.kl" = [0.0, 0.5]\nsweep."train.ema" = [0.0, 0.9]')
    assert [row.label for row in found] == [
        "kl=0.0 ema=0.0",
        "kl=0.0 ema=0.9",
        "kl=0.5 ema=0.0",
        "kl=0.5 ema=0.9",
    ]
