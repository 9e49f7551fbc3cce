"""Random search and repeats with other seeds: reading, drawing, and the queue's decisions over whole plans."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from core.errors import PlanError
from core.plan.conditions import Fact
from core.plan.next_action import Action, Finished, RowState, RowStatus, Skip, Spent, Start, Wait, next_action
from core.plan.read import parse_plan
from core.plan.rows import NEXT_DRAW, all_rows, draw, in_words
from core.plan.schema import Plan, Range, SearchSpace

HEAD = "[model]\nid='m'\n[data]\ntrain='t'\ndomain='d'\nheldout='h'\n"
TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\nadapter.rank = 4\n'
SEARCH = "[search]\nseed = 3\ntrain.learning_rate = { log_uniform = [1e-5, 1e-4] }\nadapter.rank = [8, 16, 32]\n"
THEN = '[queue]\nthen = "search"\nmax_runs = 6\n'
GOOD: Mapping[str, Fact] = {"accepted": True}
POOR: Mapping[str, Fact] = {"accepted": False}


def plan_of(text: str) -> Plan:
    return parse_plan(HEAD + text, "plan.toml")


def problems(text: str) -> str:
    with pytest.raises(PlanError) as caught:
        plan_of(text)
    return str(caught.value)


def simulate(
    plan: Plan, accepted: tuple[str, ...] = (), only: tuple[str, ...] | None = None
) -> tuple[list[str], Finished]:
    """One row after the other; those in `accepted` are, the others are rejected. (rows started, the end)."""
    rows, states = all_rows(plan), dict[str, RowState]()
    started: list[str] = []
    for _ in range(200):
        action: Action = next_action(rows, states, plan.queue, Spent(len(started), 0.0), only)
        if isinstance(action, Finished):
            return started, action
        assert isinstance(action, (Start, Skip)), action
        key = action.row.key
        if isinstance(action, Skip):
            states[key] = RowState(RowStatus.SKIPPED)
            continue
        started.append(key)
        states[key] = RowState(RowStatus.DONE, GOOD if key in accepted else POOR, action.settings)
    raise AssertionError("no end")


def test_draws_are_a_function_of_seed_and_number() -> None:
    space = plan_of(TWO + THEN + SEARCH).search
    assert space is not None
    assert draw(space, 5) == draw(space, 5)
    assert draw(space, 5) != draw(space, 6) != draw(replace(space, seed=4), 6)
    fewer = replace(space, ranges={"train.learning_rate": space.ranges["train.learning_rate"]})
    assert draw(fewer, 7)["train.learning_rate"] == draw(space, 7)["train.learning_rate"]
    # Written down, because a later version must name the same rows.
    assert draw(space, 1) == {"train.learning_rate": 8.1e-05, "adapter.rank": 32}


def test_ranges_are_covered_as_they_say() -> None:
    ranges = {
        "train.learning_rate": Range("log_uniform", 1e-5, 1e-3),
        "train.replay_share": Range("uniform", 0.2, 0.6),
        "adapter.rank": Range("uniform", 1, 4, whole=True),
        "train.eval_every": Range("log_uniform", 1, 1000, whole=True),
        "adapter.method": Range("choices", values=("dora", "lora")),
    }
    drawn = [draw(SearchSpace(0, ranges), n) for n in range(1, 2001)]
    rates = [d["train.learning_rate"] for d in drawn]
    assert min(rates) >= 1e-5 and max(rates) <= 1e-3
    assert 0.45 < sum(math.log10(rate) < -4 for rate in rates) / 2000 < 0.55
    shares = [d["train.replay_share"] for d in drawn]
    assert 0.2 <= min(shares) < 0.21 and 0.59 < max(shares) <= 0.6
    for rank in (1, 2, 3, 4):
        assert 400 < sum(d["adapter.rank"] == rank for d in drawn) < 600
    evals = [d["train.eval_every"] for d in drawn]
    assert min(evals) == 1 and max(evals) > 900 and all(isinstance(value, int) for value in evals)
    assert 0.4 < sum(value < 32 for value in evals) / 2000 < 0.65
    assert {d["adapter.method"] for d in drawn} == {"dora", "lora"}


def test_the_search_goes_on_after_the_plan_until_the_budget_is_used_up() -> None:
    started, end = simulate(plan_of(TWO + THEN + SEARCH))
    assert started == ["a", "b", "search#1", "search#2", "search#3", "search#4"]
    assert "queue.max_runs" in end.reason and list(end.not_run) == ["search#5", "search#6"]


def test_the_search_ends_with_an_accepted_run() -> None:
    started, end = simulate(plan_of(TWO + THEN + SEARCH), ("search#2",))
    assert started == ["a", "b", "search#1", "search#2"] and end.reason == "search#2 was accepted"
    assert simulate(plan_of(TWO + THEN + SEARCH), ("b",))[0] == ["a", "b"]


def test_with_until_all_the_plan_runs_whole_and_the_search_until_one_is_accepted() -> None:
    plan = plan_of(TWO + THEN.replace("[queue]", '[queue]\nuntil = "all"') + SEARCH)
    assert simulate(plan, ("a",))[0] == ["a", "b"]
    assert simulate(plan, ("search#1",))[0] == ["a", "b", "search#1"]


def test_nothing_is_drawn_while_a_row_of_the_plan_runs() -> None:
    plan = plan_of(TWO + THEN + SEARCH)
    states = {"a": RowState(RowStatus.RUNNING), "b": RowState(RowStatus.DONE, POOR)}
    assert isinstance(next_action(all_rows(plan), states, plan.queue, Spent(2, 0.0)), Wait)


def test_only_can_ask_for_draws() -> None:
    assert simulate(plan_of(TWO + THEN + SEARCH), only=("a",))[0] == ["a"]
    assert simulate(plan_of(TWO + THEN + SEARCH), only=("search#2", "search#3"))[0] == ["search#2", "search#3"]


def test_no_settings_are_drawn_twice_and_a_small_space_is_used_up() -> None:
    plan = plan_of(
        TWO + THEN.replace("6", "50") + "[search]\nadapter.rank = [4, 8, 16]\nadapter.method = ['dora', 'lora']\n"
    )
    drawn = [row for row in all_rows(plan) if row.drawn]
    found = {(row.settings.adapter.rank, row.settings.adapter.method) for row in drawn}
    assert len(drawn) == len(found) == 4  # of six: rows a and b are two of them
    started, end = simulate(plan)
    assert len(started) == 6 and end.reason == "every row of the plan has ended, and [search] has no other rows"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[search]\n", "plan.toml:16: has nothing to draw from"),
        ("[search]\ntrain.steps = [1000, 10000000]\n", "17: search.train.steps: 10000000 steps with eval_every"),
        ("[search]\nseed = 1e3\ntrain.clip = [1.0]\n", "seed: expected a whole number from 0 to 4294967295, found"),
        ("[search]\nx = 1\n", "plan.toml:17: search.x: unknown key"),
        ("[search]\ntrain.step = [1]\n", "plan.toml:17: search.train.step: unknown key; did you mean steps?"),
        ("[search]\ngate.domain_gain = [1.0]\n", "gate cannot be searched"),
        ("[search]\ntrain.learning_rate = 1e-4\n", "plan.toml:17: search.train.learning_rate: expected { log_uniform"),
        ("[search]\ntrain.learning_rate = { log = [1e-5, 1e-4] }\n", "expected { log_uniform"),
        ("[search]\ntrain.learning_rate = { uniform = [1e-4, 1e-5] }\n", "the lower one first"),
        ("[search]\ntrain.learning_rate = { uniform = [1e-5] }\n", "expected [low, high]"),
        ("[search]\ntrain.learning_rate = { log_uniform = [0.0, 1e-4] }\n", "too small"),
        ("[search]\ntrain.replay_share = { log_uniform = [0.0, 0.5] }\n", "begins above 0"),
        ("[search]\nadapter.rank = { uniform = [4, 8.5] }\n", "expected a whole number"),
        ("[search]\nadapter.method = { uniform = [1, 2] }\n", "no range of numbers"),
        ("[search]\nadapter.method = ['dora', 'lara']\n", "did you mean"),
        ("[search]\nseed = -1\nadapter.rank = [4]\n", "plan.toml:17: search.seed: expected a whole number"),
        ("[search]\ntrain.epochs = [1.0]\ntrain.batch_seconds = [9.0]\n", "not both"),
        ("[search]\ntrain.learning_rate = { log_uniform = [1e-5, 2e-4] }\n", "allow_high_learning_rate"),
        ("[search]\ntrain.learning_rate = [1e-5, 3e-4]\n", "reaches 0.0003"),
        ("[search]\nsampler = 'grid'\nadapter.rank = [8]\n", '17: search.sampler: expected "random" or "tpe", found'),
        ("[search]\nsampler = 'tpe'\n", "plan.toml:16: has nothing to draw from"),
        ("[search]\ntrain.kl = [0.0, 0.5]\n", "17: search.train.kl: the divergence is measured on replay speech, and"),
        ("[search]\ntrain.decay_to_base = { uniform = [0.0, 1e4] }\n", "decay_to_base: 10000 times train.learning"),
        ("[search]\ntrain.average = [0, 3]\n", "search.train.average: what a run makes of its intervals is chosen on"),
        ("", "plan.toml:14: queue.then: there is nothing to draw from: add [search]"),
        (SEARCH + '[[experiment]]\nid = "search"\n', "is the name of the rows that [search] draws"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_search_is_said(table: str, message: str) -> None:
    found = problems(TWO.replace("\nadapter", "\n\nadapter") + THEN + table)
    assert message in found and len(found.splitlines()) == 1


def test_high_learning_rates_are_drawn_when_they_are_allowed() -> None:
    high = "[search]\ntrain.learning_rate = { log_uniform = [1e-4, 1e-3] }\n"
    assert plan_of("[train]\nallow_high_learning_rate = true\n" + TWO + THEN + high).search is not None
    assert plan_of(TWO + THEN + high + "train.allow_high_learning_rate = [true]\n").search is not None
    assert "allow_high" in problems(TWO + THEN + high + "train.allow_high_learning_rate = [true, false]\n")


def test_a_search_that_nothing_asks_for_is_a_warning() -> None:
    [warning] = plan_of(TWO + SEARCH).warnings
    assert "is not used" in warning and not any(row.drawn for row in all_rows(plan_of(TWO + SEARCH)))


def test_ranges_in_words() -> None:
    assert in_words(Range("log_uniform", 1e-5, 1e-4)) == "log-uniform 1e-05 … 0.0001"
    assert in_words(Range("choices", values=(8, 16))) == "one of 8, 16"


SEEDS = "[gate]\nconfirm_seeds = 2\n"


def test_an_accepted_run_is_repeated_with_other_seeds_before_anything_else() -> None:
    started, end = simulate(plan_of(TWO + SEEDS), ("a", "a@seed1", "a@seed2"))
    assert started == ["a", "a@seed1", "a@seed2"] and end.reason == "a was accepted"
    assert end.not_run == {"b": "a was accepted"}


def test_a_seed_that_is_not_accepted_settles_it_and_the_plan_goes_on() -> None:
    started, end = simulate(plan_of(TWO + SEEDS), ("a", "b", "b@seed1", "b@seed2"))
    assert started == ["a", "a@seed1", "b", "b@seed1", "b@seed2"] and end.reason == "b was accepted"


def test_what_a_draw_brought_is_repeated_too() -> None:
    started, end = simulate(plan_of(TWO + SEEDS + THEN.replace("6", "9") + SEARCH), ("search#1", "search#2"))
    assert started[:6] == ["a", "b", "search#1", "search#1@seed1", "search#2", "search#2@seed1"]
    assert "queue.max_runs" in end.reason


def test_repeats_count_in_the_budget() -> None:
    plan = plan_of(TWO + SEEDS + "[queue]\nmax_runs = 2\n")
    started, end = simulate(plan, ("a", "a@seed1", "a@seed2"))
    assert started == ["a", "a@seed1"] and "queue.max_runs" in end.reason
    assert set(end.not_run) == {"b", "a@seed2"}


def test_seeds_follow_the_rows_own_and_the_settings_those_that_it_used() -> None:
    text = TWO.replace("adapter.rank = 4", 'train.seed = 7\nadapter_from = "a"\nafter = "a"') + SEEDS
    plan = plan_of('[queue]\nuntil = "all"\n' + text)
    rows = {row.key: row for row in all_rows(plan)}
    assert list(rows) == ["a", "a@seed1", "a@seed2", "b", "b@seed8", "b@seed9"]
    used = replace(rows["b"].settings, adapter=replace(rows["b"].settings.adapter, target_modules=("fc1",)))
    states = {"a": RowState(RowStatus.DONE, POOR), "b": RowState(RowStatus.DONE, GOOD, used)}
    action = next_action(tuple(rows.values()), states, plan.queue, Spent(2, 0.0))
    assert isinstance(action, Start) and action.row.key == "b@seed8"
    assert action.settings.adapter.target_modules == ("fc1",) and action.settings.train.seed == 8


def test_a_condition_on_acceptance_waits_for_the_seeds() -> None:
    text = TWO + 'after = "a"\nwhen = "not accepted"\n' + SEEDS + '[queue]\nuntil = "all"\n'
    assert simulate(plan_of(text), ("a", "a@seed1", "a@seed2"))[0] == ["a", "a@seed1", "a@seed2"]
    assert simulate(plan_of(text), ("a", "a@seed1"))[0] == ["a", "a@seed1", "a@seed2", "b"]


def test_only_takes_the_repeats_of_a_row_with_it() -> None:
    assert simulate(plan_of(TWO + SEEDS), ("b", "b@seed1", "b@seed2"), only=("b",))[0] == ["b", "b@seed1", "b@seed2"]


def test_what_two_keys_together_make_no_run_of_is_refused() -> None:
    """Each of them is right beside the default of the other."""
    space = "train.decay_to_base = [0.0, 1e4]\ntrain.learning_rate = { log_uniform = [1e-5, 1e-4] }\n"
    said = problems(TWO + THEN + "[search]\n" + space.replace("1e4", "2e4"))
    assert "search.train.decay_to_base: 20000 times train.learning_rate = 0.0001 is 1 or more" in said
    pissa = 'adapter.method = ["lora", "pissa"]\ntrain.decay_to_base = [0.0, 1.0]\n'
    assert 'adapter.method = "pissa" begins with parts of the layers' in problems(TWO + THEN + "[search]\n" + pissa)


def test_a_search_that_learns_has_the_rows_that_it_drew_and_one_to_come() -> None:
    plan = plan_of(TWO + THEN + SEARCH.replace("seed = 3", 'sampler = "tpe"'))
    assert [row.key for row in all_rows(plan) if row.drawn] == [NEXT_DRAW]
    drawn = {2: {"train.learning_rate": 2e-5, "adapter.rank": 8}, 3: {"train.learning_rate": 3e-5, "adapter.rank": 8}}
    rows = [row for row in all_rows(plan, drawn) if row.drawn]
    assert [row.key for row in rows] == ["search#2", "search#3", NEXT_DRAW]
    assert rows[0].label == "learning_rate=2e-05 rank=8"
    full = {n: {"train.learning_rate": n * 1e-6, "adapter.rank": 8} for n in range(10, 20)}
    assert [row.key for row in all_rows(plan, full) if row.drawn] == [f"search#{n}" for n in range(10, 16)]
    again = {1: {"train.learning_rate": 1e-4, "adapter.rank": 16}, **drawn}
    assert "search#1" not in [row.key for row in all_rows(plan, again)], "row a has these settings"


def test_the_sampler_moves_no_draw_of_chance() -> None:
    space = plan_of(TWO + THEN + SEARCH).search
    assert space is not None and space.sampler == "random"
    named = plan_of(TWO + THEN + SEARCH.replace("seed = 3", 'seed = 3\nsampler = "random"')).search
    assert named == space


def test_many_keys_are_checked_at_once() -> None:
    """A slip of the keyboard makes no list of as many intervals, and the ends of many ranges are not multiplied."""
    keys = "".join(f"train.{key} = {{ uniform = [0.0, 0.5] }}\n" for key in ("ema", "replay_share", "warmup"))
    keys += "train.steps = [10, 10000000]\ntrain.eval_every = [1, 5]\ntrain.learning_rate = "
    keys += str([round(1e-5 + n * 1e-7, 9) for n in range(900)]) + "\n"
    assert "10000000 steps with eval_every = 1 give" in problems(TWO + THEN + "[search]\n" + keys)
