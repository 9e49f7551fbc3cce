"""The trainer ends a hopeless run with an outcome of its own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from core.scoring.evidence import Interval, SetScore
from core.scoring.units import ErrorCounts
from core.scoring.verdict import EarlyStop


def trainer_at(step: int, rule: EarlyStop | None) -> object:
    """A Trainer of 40 steps whose heldout WER rose by 5 points at step 20, without a model."""
    from core.training.trainer import Trainer

    trainer = object.__new__(Trainer)
    trainer.rule, trainer.step = rule, step
    trainer.settings = SimpleNamespace(train=SimpleNamespace(steps=40))
    domain = SetScore(ErrorCounts(100, 0, 0, 1000), 1.0)
    trainer.intervals = {
        at: Interval(at, domain, SetScore(ErrorCounts(errors, 0, 0, 1000), 1.0)) for at, errors in ((0, 100), (20, 150))
    }
    return trainer


def test_a_run_that_broke_the_guardrail_ends_before_its_last_step() -> None:
    from core.training.__main__ import _final
    from core.training.trainer import StoppedEarly

    with pytest.raises(StoppedEarly, match="heldout WER rose by more than 2 points") as caught:
        trainer_at(20, EarlyStop(2.0, 1))._check_early_stop()
    final = _final(caught.value, 20)
    assert (final.outcome, final.step) == ("stopped_early", 20) and "heldout" in final.message


def test_without_the_rule_or_at_its_end_it_is_judged_as_it_is() -> None:
    trainer_at(20, None)._check_early_stop()
    trainer_at(40, EarlyStop(2.0, 1))._check_early_stop()
