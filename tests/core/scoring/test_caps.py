"""Token caps: a loop that was ended is evidence, a transcript that was cut is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from evidence_kit import GOOD

from core.scoring.evidence import Capped, Decision, State, Thresholds, capped, caps_obstacle, ran_on, repeated_end
from core.scoring.verdict import judge

LOOPS = [
    "the the the the the the",
    "thank you for watching thank you for watching thank you for wat",
    "zero zero zero zero zer",
    "so it was hahahahahahahahaha",
    "one two one two one two one",
]


@pytest.mark.parametrize("text", LOOPS)
def test_a_transcript_that_repeats_itself_ran_on(text: str) -> None:
    assert ran_on("a reference that is about as long as this is", text)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("he said that she would come in the evening", "he said that she would co"),
        ("nine one one seven seven three four", "nine one one seven seven"),
        ("and then they all said no no no", "and then they all said no no no"),
        ("one seven seven seven two", "one seven seven seven"),
        ("seven seven seven seven seven", "seven seven seven"),
        ("eight", ""),
    ],
)
def test_a_transcript_that_was_cut_did_not(reference: str, text: str) -> None:
    assert not ran_on(reference, text)


def test_a_transcript_twice_as_long_as_its_reference_is_no_longer_of_it() -> None:
    assert ran_on("stop", "stop there now and come")
    assert repeated_end("stopthereandcome") == ""


def test_loops_are_counted_apart() -> None:
    texts = [("one two three four", "one two thr"), *(("some words of it", loop) for loop in LOOPS)]
    assert capped("domain", "base", texts, 100) == Capped("domain", "base", 100, 6, 1)


def judged(*scores: Capped) -> State:
    verdict = judge(replace(GOOD, caps=scores), Thresholds())
    states = {verdict.criterion(name).state for name in ("domain_gain", "heldout")}
    assert len(states) == 1
    assert (verdict.decision is Decision.ACCEPTED) == (states == {State.PASS})
    return states.pop()


@pytest.mark.parametrize(
    ("score", "state"),
    [
        (Capped("heldout", "base", 500, 5, 5), State.PASS),
        (Capped("heldout", "base", 500, 6, 6), State.UNKNOWN),
        (Capped("domain", "tuned", 500, 100, 6), State.UNKNOWN),
        (Capped("domain", "base", 500, 200, 0), State.PASS),
        (Capped("heldout", "tuned", 20, 1, 1), State.UNKNOWN),
    ],
)
def test_a_cap_that_cuts_more_than_chance_leaves_the_wers_unknown(score: Capped, state: State) -> None:
    assert judged(score) is state


def test_the_reason_says_how_often() -> None:
    said = caps_obstacle([Capped("heldout", "base", 500, 100, 72), Capped("domain", "tuned", 500, 1, 0)])
    assert said.startswith(
        "100 of 500 transcripts of the base model on heldout reached their token cap, 72 of them (14.4% of all) before "
    )
    assert "domain" not in said


def test_a_long_transcript_takes_no_longer_than_its_length() -> None:
    """Nearly the same again and again, and never long enough: compared shift by shift it would take minutes."""
    text = "a" * 30_000 + "b" + "a" * 40_000 + "c" + "a" * 30_000
    assert repeated_end(text) == ""
    assert repeated_end(text + "xyz" * 60_000) == "xyz" * 60_000
