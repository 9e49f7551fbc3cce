from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.conditions import ConditionError, Fact, combined_facts, evaluate, parse_condition

T, F, U = True, False, None


def value(text: str, **facts: Fact) -> bool | None:
    return evaluate(parse_condition(text, ["2.1"]), {"2.1": facts}).value


@pytest.mark.parametrize(
    ("a", "b", "both", "either"),
    [
        (T, T, T, T), (T, F, F, T), (T, U, U, T),
        (F, T, F, T), (F, F, F, F), (F, U, F, U),
        (U, T, U, T), (U, F, F, U), (U, U, U, U),
    ],
)  # fmt: skip
def test_kleene_truth_table(a: Fact, b: Fact, both: bool | None, either: bool | None) -> None:
    assert value("stable and falling", stable=a, falling=b) is both
    assert value("stable or falling", stable=a, falling=b) is either


@pytest.mark.parametrize(("a", "negated"), [(T, F), (F, T), (U, U)])
def test_not(a: Fact, negated: bool | None) -> None:
    assert value("not stable", stable=a) is negated
    assert value("not not stable", stable=a) is a


@pytest.mark.parametrize(
    ("text", "gain", "expected"),
    [
        ("domain_gain > 1", 1.5, T), ("domain_gain > 1", 1.0, F), ("domain_gain >= 1", 1.0, T),
        ("domain_gain < 1", 0.5, T), ("domain_gain <= 1.0", 1.0, T), ("domain_gain == 1", 1.0, T),
        ("domain_gain == 1", 2.0, F), ("1 < domain_gain", 1.5, T), ("1e0 >= domain_gain", 1.5, F),
        ("domain_gain > -.5", 0.0, T), ("domain_gain>-1", -2.0, F), ("domain_gain > 1", None, U),
        ("domain_gain > 1", math.nan, U), ("domain_gain > 1", math.inf, U), ("domain_gain > 1", True, U),
    ],
)  # fmt: skip
def test_comparisons(text: str, gain: Fact, expected: bool | None) -> None:
    assert value(text, domain_gain=gain) is expected


def test_and_binds_tighter_than_or_and_not_tightest() -> None:
    assert value("stable or falling and accepted", stable=T, falling=F, accepted=F) is True
    assert value("(stable or falling) and accepted", stable=T, falling=F, accepted=F) is False
    assert value("not stable and falling", stable=F, falling=F) is False
    assert value("not (stable and falling)", stable=F, falling=F) is True


def test_the_plans_own_condition() -> None:
    text = "(stable and not accepted and falling) or guardrail_broken"
    assert value(text, stable=T, accepted=F, falling=T, guardrail_broken=F) is True
    assert value(text, stable=F, accepted=F, falling=T, guardrail_broken=T) is True
    assert value(text, stable=T, accepted=T, falling=T, guardrail_broken=F) is False
    assert value(text, stable=U, accepted=F, falling=T, guardrail_broken=F) is None


def test_facts_of_named_experiments_and_the_inputs_used() -> None:
    condition = parse_condition("2.1:stable and 2.1-lora: domain_gain > 1 and a_b:failed", [])
    answer = evaluate(condition, {"2.1": {"stable": True}, "2.1-lora": {"domain_gain": 2.5}})
    assert answer.value is None
    assert answer.inputs == {"2.1:stable": True, "2.1-lora:domain_gain": 2.5, "a_b:failed": None}
    assert condition.experiments == ("2.1", "2.1-lora", "a_b")


def test_an_experiment_of_which_nothing_is_known() -> None:
    assert evaluate(parse_condition("x:stable"), {"x": None}).value is None
    assert evaluate(parse_condition("x:stable"), {}).value is None


@pytest.mark.parametrize(
    ("text", "position", "what"),
    [
        ("", 1, "expected a fact, found the end"),
        ("stable and", 11, "expected a fact, found the end"),
        ("stable stable", 8, "expected `and`, `or` or the end, found `stable`"),
        ("and stable", 1, "expected a fact, found `and`"),
        ("(stable", 8, "expected `)`"),
        ("stable)", 7, "expected `and`, `or` or the end"),
        ("stabel", 1, "`stabel` is not a fact; did you mean stable?"),
        ("qqq", 1, "`qqq` is not a fact; facts are accepted, converged"),
        ("not domain_gain", 5, "domain_gain is a number: compare it"),
        ("stable > 1", 1, "stable is true or false"),
        ("1 < stable", 5, "stable is true or false"),
        ("domain_gain > stable", 15, "expected a number after `>`"),
        ("domain_gain > ", 14, "expected a number after `>`"),
        ("1 stable", 3, "expected one of < <= > >= =="),
        ("stable & falling", 8, "`&` is not understood here"),
        ("domain_gain != 1", 13, "`!` is not understood here"),
        ("domain_gain > 1x", 15, "is not understood here"),
        ("__import__('os')", 12, "is not understood here"),
    ],
)
def test_errors_say_where(text: str, position: int, what: str) -> None:
    with pytest.raises(ConditionError) as caught:
        parse_condition(text, ["2.1"])
    assert str(caught.value).startswith(f"at character {position}: ")
    assert what in str(caught.value)


@pytest.mark.parametrize(("after", "given"), [([], "no experiment"), (["a", "b"], "several experiments")])
def test_a_bare_fact_needs_one_experiment(after: list[str], given: str) -> None:
    with pytest.raises(ConditionError, match=f"`after` names {given}: say whose stable is meant"):
        parse_condition("stable", after)
    parse_condition("a:stable", after)


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    with pytest.raises(ConditionError, match="too many levels"):
        parse_condition("(" * 10_000 + "stable" + ")" * 10_000, ["a"])
    with pytest.raises(ConditionError, match="too many levels"):
        parse_condition("not " * 10_000 + "stable", ["a"])


def test_a_sweep_is_true_if_any_row_is_and_numbers_are_the_largest() -> None:
    combined = combined_facts([{"stable": F, "domain_gain": 1.0}, {"stable": T, "domain_gain": 3.0}, {"stable": U}])
    assert combined["stable"] is True
    assert combined["domain_gain"] == 3.0
    combined = combined_facts([{"stable": F}, {"stable": U}])
    assert combined["stable"] is None
    assert combined["domain_gain"] is None
    assert combined_facts([{"stable": F}, {"stable": F}])["stable"] is False


@given(st.text(alphabet="abn ort()<>=.:-+019e_", max_size=30))
def test_any_text_is_a_condition_or_an_error(text: str) -> None:
    try:
        condition = parse_condition(text, ["2.1"])
    except ConditionError:
        return
    assert evaluate(condition, {}).value in (True, False, None)
