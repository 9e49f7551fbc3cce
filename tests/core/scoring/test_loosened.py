"""Whoever loosens a gate is named; whoever tightens it, or leaves it alone, is not."""

from __future__ import annotations

import math
from dataclasses import asdict, fields, replace

import pytest

from core.plan.schema import GateSettings, SliceSettings
from core.scoring.evidence import Evidence, SliceRule, Thresholds
from core.scoring.verdict import judge, loosened, loosened_words, thresholds_of

NOT_LOOSER = {
    "beams": "decodes the base model and the adapter alike, and makes another run",
    "confirm_seeds": "asks for further runs; what one run must meet stays as it is",
    "selection_confidence": "chooses what is judged, on sets that nothing is judged on",
    "early_stop_intervals": "ends runs early, which rejects them",
}
NOTHING = Evidence(0, 0, (), None, None, None, None, None, None)


def test_the_default_gate_is_not_loose() -> None:
    assert loosened(thresholds_of(asdict(GateSettings()))) == loosened(Thresholds()) == ()
    assert judge(NOTHING, Thresholds()).remarks == ()


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"domain_gain": 0.1}, "gain ≥ 0.1 instead of 1.0"),
        ({"domain_gain": -3}, "gain ≥ -3 instead of 1.0"),
        ({"heldout_regression": 0.21}, "regression ≤ 0.21 instead of 0.2"),
        ({"confidence": 0.8}, "80 % confidence, above 80 % is sound"),
        ({"confidence": 0.55}, "55 % confidence, above 80 % is sound"),
        ({"stability_range": 50.0}, "stability within 50 points instead of 0.5"),
        ({"stability_intervals": 2}, "stability over 2 intervals instead of 3"),
        ({"stability_min_steps": 0}, "stability after 0 steps instead of 1000"),
        ({"accept_leakage": "our own prompts"}, "leakage accepted (our own prompts)"),
        ({"speakers": "unknown: one room, no names"}, "other speakers unknown, accepted (one room, no names)"),
        ({"domain_gain": math.nan}, "gain ≥ nan instead of 1.0"),
        (
            {"slice": [asdict(SliceSettings(by="speaker", domain_gain=0.0, min_utterances=2))]},
            "slices by speaker of 2 utterances instead of 50",
        ),
    ],
)
def test_a_threshold_weaker_than_the_default_is_named(gate: dict[str, object], said: str) -> None:
    thresholds = thresholds_of(gate)
    assert loosened(thresholds) == (said,)
    verdict = judge(NOTHING, thresholds)
    assert verdict.loosened == (said,)
    assert verdict.remarks == (f"Judged by a gate looser than the default: {said}.",)


@pytest.mark.parametrize(
    "gate",
    [
        {"domain_gain": 1.5},
        {"heldout_regression": 0.0},
        {"confidence": 0.95},
        {"confidence": "point"},
        {"stability_range": 0.1},
        {"stability_intervals": 5},
        {"stability_min_steps": 5000},
        {"slice": [asdict(SliceSettings(by="speaker", heldout_regression=5.0))]},
    ],
)
def test_a_stricter_gate_is_not_loose(gate: dict[str, object]) -> None:
    assert loosened(thresholds_of(gate)) == ()


def test_all_of_them_stand_in_one_sentence() -> None:
    loose = replace(Thresholds(), domain_gain_pp=0.1, heldout_regression_pp=5.0, slices=(SliceRule("room"),))
    words = loosened_words(loosened(loose))
    assert words == "by a gate looser than the default: gain ≥ 0.1 instead of 1.0, regression ≤ 5 instead of 0.2"


@pytest.mark.parametrize("name", [f.name for f in fields(GateSettings) if type(f.default) in (int, float)])
def test_no_number_of_the_gate_can_be_loosened_in_silence(name: str) -> None:
    """Either a much larger or a much smaller value than the default is named."""
    if name in NOT_LOOSER:
        return
    default = getattr(GateSettings(), name)
    larger, smaller = ({name: type(default)(value)} for value in (default * 10 + 10, default / 10))
    assert loosened(thresholds_of(larger)) or loosened(thresholds_of(smaller))
