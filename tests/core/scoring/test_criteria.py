"""Each criterion at its edges, and every way of not being known."""

import math
from dataclasses import replace

import pytest
from evidence_kit import FAIL, GOOD, PASS, UNKNOWN, artifact, errors, last_domain, losses, parity, tuned
from hypothesis import given
from hypothesis import strategies as st

from core.scoring.evidence import (
    Decision,
    Evidence,
    State,
    Thresholds,
)
from core.scoring.verdict import judge, theil_sen


@pytest.mark.parametrize(
    ("name", "evidence", "state", "says"),
    [
        # convergence
        ("convergence", losses(2, 2.1, 2.2, 2.3, 1.9), FAIL, "does not fall"),
        ("convergence", losses(2, 2, 2, 2, 2), FAIL, "does not fall"),
        ("convergence", losses(1, 3, 2, 1.5, 1.2), FAIL, "no lower domain loss"),
        ("convergence", losses(1.2, 3, 2, 1.5, 1.2), FAIL, "no lower domain loss"),
        ("convergence", losses(2, math.nan, 1, 1, 1), UNKNOWN, "step 400"),
        ("convergence", losses(2, 1, 1, 1, math.inf), UNKNOWN, "step 1000"),
        ("convergence", losses(None, 1, 1, 1, 1), UNKNOWN, "step 0"),
        ("convergence", replace(GOOD, intervals=GOOD.intervals[:3]), UNKNOWN, "3 of at least 4 intervals."),
        (
            "convergence",
            replace(GOOD, intervals=GOOD.intervals[:3], steps_completed=600),
            UNKNOWN,
            "3 of at least 4 intervals so far.",
        ),
        ("convergence", replace(GOOD, intervals=GOOD.intervals[:4], artifact=None), PASS, "4 intervals"),
        ("convergence", replace(GOOD, intervals=GOOD.intervals[1:]), UNKNOWN, "Interval 0"),
        ("convergence", replace(GOOD, intervals=()), UNKNOWN, "Interval 0"),
        # stability
        ("stability", last_domain(253, 250, 248), PASS, "0.50"),
        ("stability", last_domain(254, 250, 248), FAIL, "0.60"),
        ("stability", last_domain(248, 254, 250), FAIL, "0.60"),
        ("stability", last_domain(500, 250, 250, 250), PASS, "0.00"),
        ("stability", replace(GOOD, steps_completed=999), UNKNOWN, "999 steps completed"),
        ("stability", replace(GOOD, steps_planned=1001), UNKNOWN, "200 of 1001 steps, less than 20%"),
        ("stability", replace(GOOD, steps_planned=0), UNKNOWN, "of 0 steps"),
        ("stability", replace(GOOD, intervals=GOOD.intervals[:3]), UNKNOWN, "2 of the 3 intervals"),
        ("stability", replace(GOOD, intervals=()), UNKNOWN, "0 of the 3 intervals"),
        # integrity
        ("integrity", replace(GOOD, artifact=None), UNKNOWN, "no tuned score"),
        ("integrity", artifact(scored_step=None, scored_hash=None), UNKNOWN, "no tuned score"),
        ("integrity", artifact(scored_hash=None), UNKNOWN, "does not say which adapter"),
        ("integrity", artifact(current_hash=None), UNKNOWN, "missing or cannot be read"),
        ("integrity", artifact(scored_step=None), UNKNOWN, "step of the scored adapter"),
        ("integrity", artifact(best_step=None), UNKNOWN, "lora_adapter_best is not known"),
        ("integrity", artifact(current_hash="bb"), FAIL, "has changed since it was scored: aa then, bb now"),
        ("integrity", artifact(scored_step=900), FAIL, "step 900 was scored, lora_adapter_best is step 1000"),
        # domain gain: 400 errors of 1000 words before
        ("domain_gain", tuned(domain=390), PASS, "1.00 points"),
        ("domain_gain", tuned(domain=391), FAIL, "0.90 points"),
        ("domain_gain", tuned(domain=410), FAIL, "+1.00 points"),
        ("domain_gain", replace(GOOD, tuned_domain=None), UNKNOWN, "no valid tuned score of domain"),
        ("domain_gain", replace(GOOD, baseline_domain=None), UNKNOWN, "no valid baseline score of domain"),
        ("domain_gain", replace(GOOD, tuned_domain=errors(1, 999)), UNKNOWN, "1000 and 999 reference words"),
        (
            "domain_gain",
            replace(GOOD, baseline_domain=errors(0, 0), tuned_domain=errors(0, 0)),
            UNKNOWN,
            "no reference words",
        ),
        # heldout: 20 errors of 1000 words before
        ("heldout", tuned(heldout=22), PASS, "+0.20 points"),
        ("heldout", tuned(heldout=23), FAIL, "+0.30 points"),
        ("heldout", tuned(heldout=10), PASS, "−1.00 points"),
        ("heldout", replace(GOOD, tuned_heldout=None), UNKNOWN, "no valid tuned score of heldout"),
        ("heldout", replace(GOOD, baseline_heldout=None), UNKNOWN, "no valid baseline score of heldout"),
        ("heldout", replace(GOOD, tuned_heldout=errors(1, 1001)), UNKNOWN, "1000 and 1001 reference words"),
        # parity
        ("parity", replace(GOOD, parity=None), UNKNOWN, "no tuned score"),
        ("parity", parity(domain_transcripts_differing=1), FAIL, "same device: 1."),
        ("parity", parity(heldout_transcripts_differing=2), FAIL, "same device: 2."),
        ("parity", parity(domain_transcripts_differing=None), UNKNOWN, "could not be compared"),
        ("parity", parity(heldout_transcripts_differing=None), UNKNOWN, "could not be compared"),
        ("parity", parity(trainer_fingerprint=None), UNKNOWN, "fingerprint is missing"),
        ("parity", parity(evaluator_fingerprint=None), UNKNOWN, "fingerprint is missing"),
        ("parity", parity(evaluator_fingerprint="f2"), FAIL, "fingerprints differ"),
        ("parity", parity(single_transcripts_differing=1), FAIL, "one by one: 1 of 50"),
        ("parity", parity(single_transcripts_differing=None), UNKNOWN, "clips were decoded one by one"),
        ("parity", parity(single_transcripts_compared=49), UNKNOWN, "49 of 50 clips"),
        ("parity", parity(single_transcripts_compared=49, clips_available=49), PASS, "49 clips"),
        ("parity", parity(single_transcripts_compared=0, clips_available=0), UNKNOWN, "0 of 0 clips"),
        ("parity", replace(GOOD, tuned_domain=errors(249)), FAIL, "transcripts agree, but WER differs"),
        ("parity", artifact(scored_step=500, best_step=500), UNKNOWN, "own score at that interval"),
    ],
)
def test_each_criterion(name: str, evidence: Evidence, state: State, says: str) -> None:
    criterion = judge(evidence, Thresholds()).criterion(name)
    assert (criterion.state, criterion.name) == (state, name)
    assert says in criterion.reason
    assert criterion.reason.endswith(".")


def other_device(domain: int, words: int = 10_000) -> Evidence:
    """Tuned on another device than trained; `domain` errors where the trainer counted 2480 of 10,000."""
    best = GOOD.intervals[-1]
    own = replace(best, domain=replace(best.domain, counts=errors(2480, words)))
    return replace(
        GOOD,
        intervals=(*GOOD.intervals[:-1], own),
        tuned_domain=errors(domain, words),
        parity=replace(GOOD.parity, same_device=False, domain_transcripts_differing=7),  # type: ignore[type-var]
    )


@pytest.mark.parametrize(("domain", "state"), [(2480, PASS), (2485, PASS), (2475, PASS), (2486, FAIL)])
def test_on_another_device_wer_may_differ_a_little(domain: int, state: State) -> None:
    criterion = judge(other_device(domain), Thresholds()).criterion("parity")
    assert criterion.state is state
    assert (criterion.unit, criterion.threshold) == ("points", 0.05)


def test_theil_sen_ignores_an_outlier() -> None:
    assert theil_sen([0, 1, 2, 3, 4], [8, 7, 6, 5, 400]) == pytest.approx(-1.0)


def test_theil_sen_on_even_numbers_of_slopes_takes_the_middle() -> None:
    assert theil_sen([0, 1, 3], [0, 1, 0]) == pytest.approx(0.0)
    assert theil_sen([0, 1, 2, 3], [0, 1, 4, 9]) == pytest.approx(3.0)


def test_theil_sen_needs_two_points() -> None:
    with pytest.raises(ValueError, match="two points"):
        theil_sen([1, 1], [2, 3])


@given(
    st.lists(st.integers(-1000, 1000), min_size=2, max_size=12, unique=True),
    st.integers(-100, 100),
    st.integers(-50, 50),
)
def test_theil_sen_finds_a_line(xs: list[int], slope: int, offset: int) -> None:
    assert theil_sen(xs, [slope * x + offset for x in xs]) == pytest.approx(slope)


# --- thresholds


def test_a_missing_interval_leaves_convergence_and_stability_unknown() -> None:
    verdict = judge(replace(GOOD, missing_intervals=(600, 700)), Thresholds())
    assert verdict.criterion("convergence").state is verdict.criterion("stability").state is UNKNOWN
    assert "600, 700" in verdict.criterion("stability").reason and verdict.decision is Decision.UNDECIDED
