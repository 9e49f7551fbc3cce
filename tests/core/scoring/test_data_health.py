"""Leakage leaves the WER criteria unknown, unless the plan accepts it with a reason; all else is shown only."""

from dataclasses import replace
from typing import Any

import pytest

from core.scoring.data_health import COPIES_SHARE, Copies, DataHealth, SetHealth, Shared
from core.scoring.evidence import Artifact, Decision, Evidence, Interval, Parity, SetScore, State, Thresholds
from core.scoring.units import ErrorCounts
from core.scoring.verdict import judge, thresholds_of

PASS, FAIL, UNKNOWN = State.PASS, State.FAIL, State.UNKNOWN


def score(errors: int, loss: float = 1.0) -> SetScore:
    return SetScore(ErrorCounts(substitutions=errors, reference_words=1000), loss)


STEPS = {0: 400, 400: 300, 800: 252, 900: 250, 1000: 248}
GOOD = Evidence(
    steps_planned=1000,
    steps_completed=1000,
    intervals=tuple(Interval(s, score(n, 2 - s / 1000), score(21 if s else 20)) for s, n in STEPS.items()),
    baseline_domain=score(400).counts,
    baseline_heldout=score(20).counts,
    tuned_domain=score(248).counts,
    tuned_heldout=score(21).counts,
    artifact=Artifact(1000, "aa", "aa", 1000),
    parity=Parity(True, 0, 0, 50, 0, "f1", "f1"),
    data_health=DataHealth((), ()),
)
WER_CRITERIA = {"domain_gain", "heldout"}


def heldout_state(evidence: Evidence, thresholds: Thresholds) -> State:
    return judge(evidence, thresholds).criterion("heldout").state


LEAK = Shared("near_audio", "heldout", "replay", 3, ("heldout:12 ↔ replay:3: the same recording",))
ACCEPTING = Thresholds(accept_leakage="the prompts are the product's own")


def shared(*what: Shared) -> DataHealth:
    return DataHealth((), what)


@pytest.mark.parametrize(
    ("health", "state", "says"),
    [
        (None, UNKNOWN, "not audited yet"),
        (shared(LEAK), UNKNOWN, "3 heldout clips are in replay (the same recording, re-encoded"),
        (shared(Shared("audio", "domain", "train", 1)), UNKNOWN, "1 domain clip is in train (the same audio)"),
        (shared(Shared("audio", "selection", "train", 1)), UNKNOWN, "selection"),
        (shared(Shared("text", "heldout", "train", 9)), PASS, ""),
        (shared(Shared("near_text", "heldout", "train", 9)), PASS, ""),
        (shared(Shared("speaker", "domain", "train", 9)), PASS, ""),
        (shared(Shared("audio", "heldout", "domain", 9)), PASS, ""),
        (shared(), PASS, ""),
    ],
)
def test_only_leaked_audio_and_a_missing_audit_leave_the_wers_unknown(
    health: DataHealth | None, state: object, says: str
) -> None:
    verdict = judge(replace(GOOD, data_health=health), Thresholds())
    found = {criterion.name: criterion for criterion in verdict.criteria}
    assert {found[name].state for name in WER_CRITERIA} == {state}
    assert all(found[name].state is PASS for name in found.keys() - WER_CRITERIA)
    assert says in found["domain_gain"].reason and says in found["heldout"].reason
    assert found["domain_gain"].value == pytest.approx(15.2), "the figure stays, to be looked at"
    assert verdict.decision is (Decision.ACCEPTED if state is PASS else Decision.UNDECIDED)


def test_leakage_is_accepted_with_its_reason_in_the_verdict() -> None:
    verdict = judge(replace(GOOD, data_health=shared(LEAK)), ACCEPTING)
    assert verdict.decision is Decision.ACCEPTED
    for name in ("domain_gain", "heldout"):
        reason = verdict.criterion(name).reason
        assert "Leakage accepted by the plan (the prompts are the product's own): 3 heldout clips" in reason
    assert "Leakage" not in judge(GOOD, ACCEPTING).criterion("heldout").reason, "there is none to accept"


def test_accepting_leakage_is_no_audit_and_hides_no_failure() -> None:
    assert heldout_state(replace(GOOD, data_health=None), ACCEPTING) is UNKNOWN
    leaky = replace(GOOD, data_health=shared(LEAK))
    assert heldout_state(leaky, replace(ACCEPTING, heldout_regression_pp=0.05)) is FAIL


@pytest.mark.parametrize("reason", [None, "", "  ", True, 1, ["x"]])
def test_a_gate_without_words_accepts_nothing(reason: Any) -> None:
    assert thresholds_of({"accept_leakage": reason}).accept_leakage is None


SIZES = tuple(
    SetHealth(name, clips, 9, 4.5, 2, 0, 0, -20.0, 3.0, 0.0, 0.0)
    for name, clips in (("train", 100), ("domain", 200), ("heldout", 400), ("selection", 20))
)


@pytest.mark.parametrize(
    ("copies", "state", "says"),
    [
        (Copies("domain", "domain", 10), PASS, ""),
        (Copies("domain", "domain", 11), UNKNOWN, "11 of 200 domain clips (5.5 %) are copies of others in domain"),
        (Copies("heldout", "heldout", 360), UNKNOWN, "360 of 400 heldout clips (90.0 %)"),
        (Copies("heldout", "domain", 20), PASS, ""),
        (Copies("domain", "heldout", 11), UNKNOWN, "11 of 200 domain clips (5.5 %) are copies of clips in heldout"),
        # Ten clips are a twentieth of domain, and half of the selection set that is to be another one.
        (Copies("domain", "selection", 10), PASS, ""),
        (Copies("selection", "domain", 10), UNKNOWN, "10 of 20 selection clips (50.0 %) are copies of clips in domain"),
    ],
)
def test_more_copies_than_a_share_leave_the_wers_unknown(copies: Copies, state: State, says: str) -> None:
    health = DataHealth(SIZES, (), copies=(copies,))
    for thresholds in (Thresholds(), ACCEPTING):
        verdict = judge(replace(GOOD, data_health=health), thresholds)
        for name in WER_CRITERIA:
            assert verdict.criterion(name).state is state and says in verdict.criterion(name).reason
    assert COPIES_SHARE == 0.05
