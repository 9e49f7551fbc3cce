"""A number with a sign is a change of an error rate in every face: a minus is fewer errors."""

from __future__ import annotations

import pytest
from evidence_kit import GOOD, tuned

from core.scoring.evidence import Thresholds
from core.scoring.outlook import outlook
from core.scoring.signs import change, interval, limit, signed
from core.scoring.verdict import judge
from lora_tui.progress import criterion_cells


@pytest.mark.parametrize(
    ("value", "shown"), [(-1.67, "−1.67"), (0.12, "+0.12"), (0.0, "+0.00"), (-0.001, "+0.00"), (12.3456, "+12.35")]
)
def test_a_change(value: float, shown: str) -> None:
    assert signed(value) == shown


def test_the_criterion_s_own_numbers_turn_round_where_they_are_gains() -> None:
    assert (change("domain_gain by speaker", 2.0), change("heldout", 2.0)) == (-2.0, 2.0)
    assert (interval("domain_gain", 1.0, 3.0), interval("heldout", -1.0, 3.0)) == (
        ("−3.00", "−1.00"),
        ("−1.00", "+3.00"),
    )
    assert (limit(-1.0), limit(0.2), limit(-0.0), limit(0.2, "+")) == ("−1", "0.2", "0", "+0.2")


def test_one_gain_has_one_sign_in_headline_criterion_and_reason() -> None:
    thresholds = Thresholds()
    verdict = judge(GOOD, thresholds)
    gain = verdict.criterion("domain_gain")
    assert gain.value is not None and gain.value > 0, "for conditions and programs it is a gain"
    told = signed(-gain.value)
    cells = criterion_cells(gain)
    assert cells[1:4] == ("Domain change", told, "≤ −1 points")
    assert f"domain {told}" in outlook(GOOD, thresholds, verdict, ended=True).text
    assert f"a change of {told} points; −1 or less is asked for" in gain.reason
    worse = judge(tuned(domain=410), thresholds).criterion("domain_gain")
    assert criterion_cells(worse)[2] == "+1.00" and "a change of +1.00 points" in worse.reason
