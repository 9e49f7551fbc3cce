"""Where a run stands, in one sentence: every kind of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from evidence_kit import GOOD, errors, interval, losses, tuned
from hypothesis import given
from hypothesis import strategies as st

from core.scoring.data_health import DataHealth, Shared
from core.scoring.evidence import Decision, Evidence, Thresholds
from core.scoring.outlook import out_of_reach, outlook
from core.scoring.standing import Stand, Standing
from core.scoring.verdict import judge

EVALUATED = (200, 400, 600, 800, 1000)
HALF = replace(
    GOOD,
    steps_completed=400,
    intervals=(interval(0, 400, 20, 2.0), interval(200, 383, 21, 1.9), interval(400, 350, 28, 1.5)),
    tuned_domain=None,
    tuned_heldout=None,
    artifact=None,
    parity=None,
)
BEGUN = replace(HALF, intervals=HALF.intervals[:1], steps_completed=0)
LEAKING = DataHealth((), (Shared("audio", "heldout", "train", 2, ("a",)),))


def stands(
    evidence: Evidence,
    thresholds: Thresholds = Thresholds(),  # noqa: B008
    *,
    ended: bool = False,
    evaluated: tuple[int, ...] = EVALUATED,
    **more: Any,
) -> Standing:
    verdict = judge(evidence, thresholds)
    return outlook(evidence, thresholds, verdict, ended=ended, evaluated=evaluated, **more)


@pytest.mark.parametrize(
    ("evidence", "more", "sentence"),
    [
        (GOOD, {"ended": True}, "SHIP 2.1 step 1000: domain −15.20, heldout +0.10 (0.10 to spare)"),
        (GOOD, {"ended": False}, "SHIP 2.1 step 1000: domain −15.20, heldout +0.10 (0.10 to spare)"),
        (
            tuned(heldout=29),
            {"ended": True},
            "rejected: step 1000: heldout +0.90, 0.70 more than the 0.2 allowed",
        ),
        (
            tuned(domain=395),
            {"ended": True},
            "rejected: step 1000: domain −0.50, 0.50 short of the 1 asked for; domain WER spans 14.50 points over "
            "steps 800 to 1000; at most 0.5 is stable",
        ),
        (
            losses(1.0, 1.1, 1.2, 1.3, 1.4),
            {"ended": True},
            "rejected: step 1000: the domain loss does not fall: the domain loss changes by +0.4000 nats per 1000 "
            "steps; 1.0000 at step 0, 1.4000 at the best interval (step 1000)",
        ),
        (replace(GOOD, failure="The run diverged: NaN."), {"ended": True}, "rejected: the run diverged: NaN"),
        (
            replace(GOOD, failure="The run failed: no such file", broke_down=True),
            {"ended": True},
            "failed: the run failed: no such file",
        ),
        (
            replace(GOOD, parity=None),
            {"ended": True},
            "undecided: there is no tuned score to compare with the trainer's own",
        ),
        (
            HALF,
            {"chances": (0.999, 0.64)},
            "on course: step 200 would ship, domain −1.70, heldout +0.10 (0.10 to spare), 64 % chance that both limits "
            "hold",
        ),
        (HALF, {}, "on course: step 200 would ship, domain −1.70, heldout +0.10 (0.10 to spare)"),
        (
            replace(HALF, intervals=(HALF.intervals[0], HALF.intervals[2])),
            {"chances": (1.0, 0.0001)},
            "off course: step 400, domain −5.00, heldout +0.80 (0.60 too much), < 0.1 % chance that both limits hold; "
            "no interval keeps the guardrail",
        ),
        (
            replace(HALF, intervals=(HALF.intervals[0], HALF.intervals[2])),
            {"candidates": 4},
            "open: step 400, domain −5.00, heldout +0.80 (0.60 too much); 4 more candidates are made at its end",
        ),
        (
            replace(HALF, intervals=(HALF.intervals[0], interval(200, 396, 20, 1.9))),
            {},
            "off course: step 200, domain −0.40 (0.60 short), heldout +0.00 (0.20 to spare)",
        ),
        (BEGUN, {}, "too early: the adapter is not scored yet"),
        (replace(BEGUN, intervals=()), {}, "too early: the base model is not scored yet"),
        (
            replace(BEGUN, steps_planned=120),
            {"evaluated": (60, 120)},
            "cannot pass: 120 of the 1000 steps that stability asks for are planned",
        ),
        (
            replace(GOOD, steps_planned=120, steps_completed=120),
            {"ended": True, "evaluated": (60, 120), "chances": (0.9, 0.5)},
            "cannot pass: 120 of the 1000 steps that stability asks for are planned; "
            "step 1000 has domain −15.20, heldout +0.10 (0.10 to spare)",
        ),
        (
            replace(BEGUN, data_health=LEAKING),
            {},
            "cannot pass: 2 heldout clips are in train (the same audio): take them out, or say why that is right in "
            "gate.accept_leakage",
        ),
    ],
)
def test_one_sentence_for_each_case(evidence: Evidence, more: dict[str, Any], sentence: str) -> None:
    assert stands(evidence, **more).sentence("2.1") == sentence


@pytest.mark.parametrize(
    ("chances", "word"),
    [((0.99, 0.97), Stand.ON_COURSE), ((0.99, 0.64), Stand.OPEN), ((0.99, 0.01), Stand.OFF_COURSE), (None, Stand.OPEN)],
)
def test_where_the_gate_asks_to_be_sure_chances_decide(chances: tuple[float, float] | None, word: Stand) -> None:
    found = stands(HALF, Thresholds(confidence=0.95, unknown_speakers="one speaker"), chances=chances)
    assert found.word is word
    assert ("the gate asks for 95.0 %" in found.text) == (word is Stand.OPEN)


@pytest.mark.parametrize(
    ("steps", "evaluated", "why"),
    [
        (120, (60, 120), "120 of the 1000 steps that stability asks for are planned"),
        (1000, (500, 1000), "2 of the 3 evaluations after step 0 that convergence asks for"),
        (
            1000,
            (900, 950, 1000),
            "the last 3 evaluations cover 100 of 1000 steps, stability asks for 20 % of them",
        ),
        (1000, EVALUATED, ""),
        (1000, (), ""),
        (0, (), ""),
    ],
)
def test_what_a_plan_can_never_reach_is_known_at_once(steps: int, evaluated: tuple[int, ...], why: str) -> None:
    assert out_of_reach(steps, evaluated, Thresholds()).why == why


@given(st.integers(0, 800), st.integers(0, 100), st.integers(0, 800), st.integers(0, 100), st.booleans())
def test_it_never_contradicts_the_verdict(domain: int, heldout: int, after: int, worse: int, ended: bool) -> None:
    evidence = replace(tuned(after, worse), baseline_domain=errors(domain), baseline_heldout=errors(heldout))
    evidence = replace(evidence, intervals=(interval(0, domain, heldout, 2.0), *evidence.intervals[1:]))
    decision, word = judge(evidence, Thresholds()).decision, stands(evidence, ended=ended).word
    assert (word is Stand.SHIP) == (decision is Decision.ACCEPTED)
    assert (word is Stand.REJECTED) == (decision is Decision.REJECTED and ended)
