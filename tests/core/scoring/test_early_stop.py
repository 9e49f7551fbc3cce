"""When a run is given up before its end: pure."""

from __future__ import annotations

import math

import pytest

from core.scoring.evidence import Interval, SetScore
from core.scoring.units import ErrorCounts, Unit
from core.scoring.verdict import EarlyStop, early_stop, early_stop_of

RULE = EarlyStop(regression_pp=1.0, intervals=2)


def interval(step: int, heldout_errors: int = 100, loss: float | None = 1.0) -> Interval:
    def score(errors: int) -> SetScore:
        return SetScore(ErrorCounts(errors, 0, 0, 1000), loss)

    return Interval(step, score(300), score(heldout_errors))


def test_off_unless_the_plan_says_so() -> None:
    assert early_stop_of({}) is None and early_stop_of({"early_stop": None}) is None
    assert early_stop_of({"early_stop": 2, "early_stop_intervals": 4}) == EarlyStop(2.0, 4)


def test_a_run_that_goes_back_to_the_base_may_forget_meanwhile() -> None:
    rule = early_stop_of({"early_stop": 1.0, "early_stop_intervals": 2}, comes_back=True)
    assert rule is not None
    assert early_stop([interval(0), interval(10, 500), interval(20, 900)], rule) is None
    assert early_stop([interval(0), interval(10, loss=1.1), interval(20, loss=1.2)], rule) is not None


def test_the_reason_says_what_was_counted() -> None:
    rule = early_stop_of({"early_stop": 1.0, "early_stop_intervals": 2, "unit": "character"})
    assert rule == EarlyStop(1.0, 2, Unit.CHARACTER)
    reason = early_stop([interval(0), interval(10, 111, 0.9), interval(20, 125, 0.9)], rule)
    assert reason is not None and reason.startswith("heldout CER rose by more than 1 points")


def test_a_lasting_rise_of_heldout_wer_ends_the_run() -> None:
    history = [interval(0), interval(10, 111, 0.9), interval(20, 125, 0.9)]
    assert early_stop(history, RULE) == (
        "heldout WER rose by more than 1 points in the last 2 intervals (steps 10 to 20), at last by 2.50"
    )


@pytest.mark.parametrize("errors", [(111, 110), (110, 111), (125,), ()])
def test_a_rise_of_exactly_the_limit_or_too_short_a_one_does_not(errors: tuple[int, ...]) -> None:
    history = [interval(0), *(interval(10 * n, e, 0.9) for n, e in enumerate(errors, 1))]
    assert early_stop(history, RULE) is None


def test_an_evaluation_loss_above_the_base_models_ends_the_run() -> None:
    assert "domain loss" in str(early_stop([interval(0), interval(10, loss=1.1), interval(20, loss=1.2)], RULE))
    assert early_stop([interval(0), interval(10, loss=1.1), interval(20, loss=0.9)], RULE) is None


def test_a_loss_that_is_no_number_ends_the_run_at_once() -> None:
    assert "nan" in str(early_stop([interval(0), interval(10, loss=math.nan)], RULE))


def test_without_the_base_model_nothing_is_compared() -> None:
    assert early_stop([interval(10, 900, math.nan)], RULE) is None
    assert early_stop([interval(0, loss=None), interval(10, loss=None), interval(20, loss=None)], RULE) is None
