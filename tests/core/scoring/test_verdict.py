"""The truth table of the verdict: what the criteria come to together."""

import math
from dataclasses import replace

import pytest
from evidence_kit import (
    FAIL,
    GOOD,
    NAMES,
    PASS,
    UNKNOWN,
    artifact,
    errors,
    interval,
    last_domain,
    losses,
    parity,
    states,
    tuned,
)
from hypothesis import given
from hypothesis import strategies as st

from core.runs.matrix import CRITERIA
from core.scoring.certainty import Certainty, Significance
from core.scoring.criteria import SIGNS
from core.scoring.evidence import (
    Artifact,
    Decision,
    Evidence,
    Interval,
    Parity,
    SetScore,
    State,
    Thresholds,
)
from core.scoring.verdict import best_interval, judge, thresholds_of


def test_every_criterion_is_a_column_of_the_matrix_and_says_which_way_its_threshold_lies() -> None:
    criteria = judge(GOOD, Thresholds()).criteria
    assert [c.name for c in criteria] == list(CRITERIA) == list(NAMES)
    assert {c.name for c in criteria if c.threshold is not None} == set(SIGNS)


def test_good_evidence_is_accepted() -> None:
    verdict = judge(GOOD, Thresholds())
    assert [c.name for c in verdict.criteria] == list(NAMES)
    assert [c.state for c in verdict.criteria] == [PASS] * len(NAMES)
    assert (verdict.decision, verdict.best_step, verdict.guardrail_kept) == (Decision.ACCEPTED, 1000, True)


@pytest.mark.parametrize("state", [FAIL, UNKNOWN])
def test_without_convergence_no_wer_is_valid(state: State) -> None:
    evidence = losses(2, 2, 2, 2, 2) if state is FAIL else losses(2, None, 1, 1, 1)
    verdict = judge(evidence, Thresholds())
    assert verdict.criterion("convergence").state is state
    for name in ("domain_gain", "heldout"):
        assert verdict.criterion(name).state is UNKNOWN
        assert "not valid: convergence" in verdict.criterion(name).reason
    assert verdict.decision is (Decision.REJECTED if state is FAIL else Decision.UNDECIDED)


@pytest.mark.parametrize("words", [7, 30, 1000, 2437, 12_345])
@pytest.mark.parametrize(("threshold", "tenths"), [(1.0, 10), (0.2, 2), (0.3, 3), (0.7, 7)])
def test_thresholds_are_met_exactly(words: int, threshold: float, tenths: int) -> None:
    # 1000 * words reference words make a tenth of a point `words` errors, whatever floating point says.
    before, after = errors(500 * words, 1000 * words), errors((500 - tenths) * words, 1000 * words)
    thresholds = replace(Thresholds(), domain_gain_pp=threshold, heldout_regression_pp=threshold)
    gained = replace(GOOD, baseline_domain=before, tuned_domain=after)
    assert states(gained, thresholds)["domain_gain"] is PASS
    short = replace(gained, tuned_domain=replace(after, substitutions=after.substitutions + 1))
    assert states(short, thresholds)["domain_gain"] is FAIL
    risen = replace(GOOD, baseline_heldout=after, tuned_heldout=before)
    assert states(risen, thresholds)["heldout"] is PASS
    over = replace(risen, tuned_heldout=replace(before, substitutions=before.substitutions + 1))
    assert states(over, thresholds)["heldout"] is FAIL


@pytest.mark.parametrize("name", NAMES)
def test_one_fail_rejects_and_one_unknown_leaves_undecided(name: str) -> None:
    failing = {
        "convergence": losses(2, 2, 2, 2, 2),
        "stability": last_domain(260, 250, 248),
        "integrity": artifact(current_hash="bb"),
        "domain_gain": tuned(domain=399),
        "heldout": tuned(heldout=30),
        "parity": parity(single_transcripts_differing=3),
    }
    unknown = {
        "convergence": losses(2, None, 1, 1, 1),
        "stability": replace(GOOD, steps_completed=10),
        "integrity": artifact(current_hash=None),
        "domain_gain": replace(GOOD, baseline_domain=None),
        "heldout": replace(GOOD, baseline_heldout=None),
        "parity": parity(trainer_fingerprint=None),
    }
    verdict = judge(failing[name], Thresholds())
    assert (verdict.criterion(name).state, verdict.decision) == (FAIL, Decision.REJECTED)
    verdict = judge(unknown[name], Thresholds())
    assert (verdict.criterion(name).state, verdict.decision) == (UNKNOWN, Decision.UNDECIDED)


def test_a_fail_outweighs_an_unknown() -> None:
    assert judge(replace(tuned(heldout=30), parity=None), Thresholds()).decision is Decision.REJECTED


def test_a_failure_rejects_whatever_the_criteria_say() -> None:
    verdict = judge(replace(GOOD, failure="The run diverged."), Thresholds())
    assert [c.state for c in verdict.criteria] == [PASS] * len(NAMES)
    assert verdict.decision is Decision.REJECTED


EMPTY = Evidence(1000, 0, (), None, None, None, None, None, None)


def test_no_evidence_is_undecided_and_says_what_is_missing() -> None:
    verdict = judge(EMPTY, Thresholds())
    assert {c.state for c in verdict.criteria} == {UNKNOWN}
    assert all(c.reason for c in verdict.criteria)
    assert (verdict.decision, verdict.best_step, verdict.guardrail_kept) == (Decision.UNDECIDED, None, None)


def test_a_run_that_goes_on_is_judged_on_what_there_is() -> None:
    running = replace(
        GOOD, steps_completed=930, intervals=GOOD.intervals[:4], tuned_domain=None, tuned_heldout=None,
        artifact=Artifact(None, None, "cc", 900), parity=None,
    )  # fmt: skip
    verdict = judge(running, Thresholds())
    assert states(running) == dict.fromkeys(NAMES, UNKNOWN) | {"convergence": PASS}
    assert (verdict.decision, verdict.best_step) == (Decision.UNDECIDED, 900)


def fuzzed() -> st.SearchStrategy[Evidence]:
    counts = st.builds(errors, st.integers(0, 50), st.sampled_from([0, 40, 50]))
    loss = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))
    score = st.builds(SetScore, counts, loss)
    one = st.builds(Interval, st.sampled_from([0, 100, 400, 900, 1000]), score, score, st.one_of(st.none(), score))
    intervals = st.lists(one, max_size=6, unique_by=lambda i: i.step).map(tuple)
    maybe = st.one_of(st.none(), counts)
    text = st.sampled_from([None, "a", "b"])
    step = st.sampled_from([None, 100, 1000])
    number = st.sampled_from([None, 0, 1])
    return st.builds(
        Evidence, st.integers(0, 1000), st.integers(0, 1000), intervals, maybe, maybe, maybe, maybe,
        st.one_of(st.none(), st.builds(Artifact, step, text, text, step)),
        st.one_of(
            st.none(),
            st.builds(Parity, st.booleans(), number, number, st.integers(0, 60), number, text, text),
        ),
        st.sampled_from([None, "The run diverged."]),
    )  # fmt: skip


@given(fuzzed())
def test_any_evidence_gets_a_verdict_that_follows_from_its_criteria(evidence: Evidence) -> None:
    verdict = judge(evidence, Thresholds())
    found = {c.state for c in verdict.criteria}
    assert [c.name for c in verdict.criteria] == list(NAMES)
    rejected = evidence.failure is not None or FAIL in found
    assert (verdict.decision is Decision.REJECTED) == rejected
    assert (verdict.decision is Decision.ACCEPTED) == (not rejected and found == {PASS})
    assert all(c.value is None or math.isfinite(c.value) for c in verdict.criteria)


@given(st.integers(244, 254), st.integers(10, 24), st.floats(0, 1), st.floats(0, 5))
def test_looser_thresholds_never_cost_the_acceptance(domain: int, heldout: int, gain: float, regression: float) -> None:
    evidence = tuned(domain, heldout)
    loose = replace(Thresholds(), domain_gain_pp=1.0 - gain, heldout_regression_pp=0.2 + regression)
    if judge(evidence, Thresholds()).decision is Decision.ACCEPTED:
        assert judge(evidence, loose).decision is Decision.ACCEPTED


# --- the best interval

BASE = interval(0, 400, 20, 2.0, selection=300)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], (None, None)),
        ([interval(0, 400, 20, 2.0)], (None, None)),
        ([interval(400, 300, 20, 1.0)], (None, None)),
        # the largest gain that keeps the guardrail, not the largest gain
        ([interval(0, 400, 20, 2), interval(400, 300, 22, 1), interval(800, 200, 23, 1)], (400, True)),
        # ties: the earliest
        ([interval(0, 400, 20, 2), interval(400, 300, 22, 1), interval(800, 300, 20, 1)], (400, True)),
        # kept the guardrail, though domain got worse
        ([interval(0, 400, 20, 2), interval(400, 500, 20, 1), interval(800, 300, 40, 1)], (400, True)),
        # none kept it: the lowest WER, the earliest of equals
        ([interval(0, 400, 20, 2), interval(400, 300, 30, 1), interval(800, 300, 40, 1)], (400, False)),
        # on the selection set, when there is one
        ([BASE, interval(400, 300, 20, 1, 250), interval(800, 200, 20, 1, 260)], (400, True)),
        ([BASE, interval(400, 300, 20, 1), interval(800, 350, 20, 1, 260)], (800, True)),
    ],
)
def test_best_interval(intervals: list[Interval], expected: tuple[int | None, bool | None]) -> None:
    assert best_interval(intervals, Thresholds()) == expected
    assert best_interval(intervals[::-1], Thresholds()) == expected


def test_the_verdict_says_that_no_interval_kept_the_guardrail() -> None:
    worse = tuple(replace(i, heldout=SetScore(errors(30), 1.0)) for i in GOOD.intervals[1:])
    verdict = judge(replace(GOOD, intervals=(GOOD.intervals[0], *worse)), Thresholds())
    assert verdict.guardrail_kept is False
    assert "No interval kept the guardrail" in verdict.criterion("heldout").reason


def test_the_adapter_on_disk_is_judged_even_if_other_thresholds_would_have_chosen_another() -> None:
    evidence = replace(tuned(heldout=21), artifact=Artifact(900, "aa", "aa", 900))
    assert judge(evidence, Thresholds()).best_step == 900


# --- Theil–Sen


def test_thresholds_come_from_the_gate_of_the_plan() -> None:
    gate = {"domain_gain": 2, "heldout_regression": 0.1, "stability_min_steps": 400, "confirm_seeds": 0}
    expected = replace(Thresholds(), domain_gain_pp=2, heldout_regression_pp=0.1, stability_min_steps=400)
    assert thresholds_of(gate) == expected
    assert thresholds_of({}) == Thresholds()


@pytest.mark.parametrize("limit", [math.inf, 1e9])
def test_a_threshold_may_be_out_of_reach(limit: float) -> None:
    assert states(tuned(heldout=900), replace(Thresholds(), heldout_regression_pp=limit))["heldout"] is PASS


CERTAIN = Certainty(
    raw_pp=15.2, corrected_pp=15.0, low_pp=14.0, high_pp=16.0, threshold_pp=1.0, probability=1.0,
    block_by="speaker", blocked=True, units=50, like_units=50.0, conditional=False, unnamed=0, utterances=500, fixed=20,
    broken=1, inserted_less=0, inserted_more=0, mapsswe_z=9.0, mapsswe_p=1e-9, mapsswe_segments=30, more_units=40,
)  # fmt: skip


def sure_of(domain: float, heldout: float) -> Evidence:
    """GOOD, with these probabilities that each threshold is met."""
    sides = [replace(CERTAIN, probability=p) for p in (domain, heldout)]
    return replace(GOOD, significance=Significance(sides[0], sides[1], 10_000, "key"))


@pytest.mark.parametrize(
    ("chance", "state"), [(1.0, PASS), (0.95, PASS), (0.949, UNKNOWN), (0.051, UNKNOWN), (0.05, FAIL), (0.0, FAIL)]
)
def test_at_a_confidence_only_what_is_sure_passes_or_fails(chance: float, state: State) -> None:
    thresholds = Thresholds(confidence=0.95)
    verdict = judge(sure_of(chance, 1.0), thresholds)
    assert verdict.criterion("domain_gain").state is state and verdict.criterion("heldout").state is PASS
    assert judge(sure_of(1.0, chance), thresholds).criterion("heldout").state is state
    assert ("40 more speakers" in verdict.criterion("domain_gain").reason) == (state is UNKNOWN)
    assert judge(sure_of(chance, chance), Thresholds()).decision is Decision.ACCEPTED, "the point policy looks away"


@pytest.mark.parametrize(
    ("unnamed", "says"),
    [
        (500, "no utterance names its speaker"),
        (20, "20 of 500 utterances name no speaker"),
        (0, "all utterances have one"),
    ],
)
def test_at_a_confidence_nothing_is_sure_of_speakers_that_nobody_knows(unnamed: int, says: str) -> None:
    known = sure_of(1.0, 0.0)
    assert known.significance is not None
    unknown = replace(CERTAIN, blocked=False, conditional=True, unnamed=unnamed)
    domain, heldout = unknown, replace(unknown, probability=0.0)
    evidence = replace(known, significance=replace(known.significance, domain=domain, heldout=heldout))
    verdict = judge(evidence, Thresholds(confidence=0.95))
    for name in ("domain_gain", "heldout"):
        found = verdict.criterion(name)
        assert found.state is UNKNOWN and says in found.reason and 'gate.speakers = "unknown: reason"' in found.reason
    accepting = thresholds_of({"confidence": 0.95, "speakers": "unknown: each clip is another caller"})
    verdict = judge(evidence, accepting)
    assert verdict.criterion("domain_gain").state is PASS and verdict.criterion("heldout").state is FAIL
    reason = verdict.criterion("domain_gain").reason
    assert says in reason and "accepted by the plan: each clip is another caller" in reason
    assert judge(evidence, Thresholds()).decision is Decision.ACCEPTED, "the point policy says nothing of others"


@pytest.mark.parametrize(
    "said", [None, "", "unknown", "unknown:", "unknown:  ", "each clip is another caller", 3, True]
)
def test_speakers_are_unknown_with_a_reason_only(said: object) -> None:
    assert thresholds_of({"speakers": said}).unknown_speakers is None


def test_at_a_confidence_what_cannot_be_computed_is_unknown() -> None:
    verdict = judge(GOOD, Thresholds(confidence=0.95))
    assert verdict.criterion("heldout").state is UNKNOWN and verdict.decision is Decision.UNDECIDED


def test_confidence_does_not_help_where_convergence_failed() -> None:
    evidence = replace(sure_of(1.0, 1.0), intervals=losses(2.0, 2.1, 2.2, 2.3, 2.4).intervals)
    assert judge(evidence, Thresholds(confidence=0.95)).criterion("domain_gain").state is UNKNOWN


def test_thresholds_of_a_plans_confidence() -> None:
    assert thresholds_of({"confidence": "point"}).confidence is None
    assert thresholds_of({}).confidence is None
    assert thresholds_of({"confidence": 0.9, "block_by": "room"}) == Thresholds(confidence=0.9, block_by="room")
