from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.training.trainer import learning_rate


def test_ten_percent_warm_up_then_linear_decay_to_nearly_nothing() -> None:
    rate = {step: learning_rate(step, 1000, 1e-4, 0.1, "linear") for step in (1, 50, 100, 101, 550, 1000)}
    assert rate[1] == pytest.approx(1e-6)
    assert rate[50] == pytest.approx(5e-5)
    assert rate[100] == pytest.approx(1e-4)
    assert rate[101] == pytest.approx(1e-4 * 900 / 901)
    assert rate[550] == pytest.approx(1e-4 * 451 / 901)
    assert rate[1000] == pytest.approx(1e-4 / 901)


def test_constant_stays_at_the_peak_after_the_warm_up() -> None:
    assert [learning_rate(step, 10, 1.0, 0.2, "constant") for step in (1, 2, 3, 10)] == [0.5, 1.0, 1.0, 1.0]


@given(
    steps=st.integers(1, 400),
    warmup=st.floats(0.0, 0.9),
    schedule=st.sampled_from(["linear", "constant"]),
)
def test_every_step_learns_and_none_beyond_the_peak(steps: int, warmup: float, schedule: str) -> None:
    rates = [learning_rate(step, steps, 1e-3, warmup, schedule) for step in range(1, steps + 1)]
    assert all(0 < rate <= 1e-3 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
