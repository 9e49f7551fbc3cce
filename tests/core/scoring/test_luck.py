"""How often one of several runs would be accepted by luck."""

import numpy as np
import pytest

from core.scoring.luck import Tried, by_luck


def test_the_formula() -> None:
    assert [by_luck(runs, None) for runs in (0, 1, 2, 20)] == pytest.approx([0, 0.5, 0.75, 1 - 0.5**20])
    assert [by_luck(runs, 0.95) for runs in (1, 20)] == pytest.approx([0.05, 1 - 0.95**20])
    assert by_luck(20, 0.95, reserve=True) == pytest.approx(1 - (1 - 0.05**2) ** 20)


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.95])
def test_it_is_a_bound_whatever_the_runs_have_in_common(shared: float) -> None:
    """Runs exactly on the threshold, whose measured effects have a share of their variance in common."""
    random = np.random.default_rng(1)
    common, own = random.standard_normal((20_000, 1)), random.standard_normal((20_000, 8))
    best = (np.sqrt(shared) * common + np.sqrt(1 - shared) * own).max(axis=1)
    for confidence, needed in ((None, 0.0), (0.95, 1.6449)):
        assert np.mean(best >= needed) <= by_luck(8, confidence) + 0.01


def test_the_gates_own_policy_is_named_first() -> None:
    by_points, sure = Tried(12, None), Tried(12, 0.9, reserve=True)
    assert by_points.sentence == (
        "12 runs were judged on these sets: that luck alone had one of them accepted has a chance of up to 100 % by "
        "point estimates, 46 % at confidence 0.95."
    )
    assert sure.short == (
        "12 runs judged on these sets (chance that luck alone has one accepted: up to 11.4 % at confidence 0.9, "
        "96.8 % by point estimates)"
    )
    assert "each of which must also pass on its own part of a reserve" in sure.sentence
    assert Tried(1, None).sentence == ""


def test_the_board_s_line_says_the_gate_s_own_policy_first() -> None:
    told = "chance that any of 3 runs does: up to"
    assert Tried(3, None).brief[1] == f"{told} 87.5 % by point estimates, 14.3 % at confidence 0.95"
    assert Tried(3, 0.9).brief[1] == f"{told} 27.1 % at confidence 0.9, 87.5 % by point estimates"
