"""A WER whose change depends on how words are spelled is not judged until somebody chose a spelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
from evidence_kit import GOOD

from core.scoring.alignment import count_errors
from core.scoring.assess import Documents, assess
from core.scoring.certainty import Certainty, SetSpelling, Significance
from core.scoring.evidence import Decision, State, Thresholds
from core.scoring.spelling import spelling_of, spelling_remarks
from core.scoring.text import normaliser
from core.scoring.verdict import judge

BASIC = normaliser("basic")
TINY_EN = [
    # reference, a recogniser that writes digits, and after training on digits in words
    ("eight eight one", "8, 8, 1", "eight eight one"),
    ("four two zero", "4-2-0", "four two oh"),
    ("nine five five two", "9552.", "nine five five two"),
    ("three one", "31", "three nine"),
    ("seven", "Seven.", "seven"),
    ("six six", "666.", "six six"),
    ("one four seven", "147", "one for seven"),
]
"""Short, for the words of the verdict."""
WHISPER_TINY_EN = [
    ("eight zero four two eight seven one", "A. You, bro, two-base, set of blinds."),
    ("zero three six", "0 3 6"),
    ("three two zero six", "is too zero."),
    ("four one five two three", "4 1 5 2 3"),
    ("two eight four one three nine", "2, 8, 4, 1, 3, 9."),
    ("nine seven six six", "97666"),
    ("three six zero", "Three, six, zero."),
    ("seven six three", "Seven, six, three."),
    ("three three zero zero three nine six", "3-3-0-0-3-9-6"),
    ("seven one zero", "7.10"),
    ("six four seven one", "6, 4, 7, 1."),
    ("four four one seven zero nine", "4, 4, 1, 7, 0, 9."),
    ("four two six two", "Or 262."),
    ("one eight three four", "1, 8, 3, 4"),
    ("one zero eight", "One zero eight."),
    ("nine six three seven one seven", "9 6 7 1 7"),
    ("four six three three three five", "4, 6, 3, 3, 5"),
    ("zero eight one zero two four nine", "0, 8, 1, 0, 2, 4, 9."),
    ("three seven eight one", "3 7 8 1"),
    ("four one zero six", "Four, one, zero, six."),
    ("seven zero two six three four", "7. 0. 2. 6. 3. 4."),
    ("five eight one seven", "581 7"),
    ("one nine three eight six nine three", "1 9 3 8 6 9 3"),
    ("six four three six", "6, 4, 3, 6"),
    ("zero three three three one", "0, 3, 3, 3, 1."),
    ("eight one two nine three three zero", "A1-B1-B3-B2-ZU"),
    ("four seven zero one", "4, 7, 0, 1."),
    ("five zero seven three one zero zero", "5, 0, 7, 3, 1, 0, 0"),
    ("eight four five five three one one", "A-O-I-I-P-1-1"),
    ("zero six five", "0 6 5"),
    ("one seven three four", "1, 7, 3, 4"),
    ("eight two four", "8, 2, 4."),
    ("four zero nine six three", "40963"),
    ("three zero eight eight one two five", "3 0 8 8 1 2 5"),
    ("seven eight two seven one nine three", "7, 8, 2, 7, 1, 9, 3"),
    ("one eight seven seven", "1-8-7-7"),
    ("one nine three one three", "One, nine, three, one, three."),
    ("four nine seven five zero six two", "4, 9, 7, 5, 0, 6, 2"),
]
"""Strings of spoken digits and what Whisper tiny.en really writes for them, but for two on which it loops."""


def documents(texts: Sequence[tuple[str, str, str]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    before = [{"id": str(i), "reference": one, "hypothesis": base} for i, (one, base, _) in enumerate(texts)]
    after = [{"id": str(i), "reference": one, "hypothesis": tuned} for i, (one, _, tuned) in enumerate(texts)]
    return before, after


def spelling(texts: Sequence[tuple[str, str, str]], own: str = "basic") -> SetSpelling:
    return spelling_of("heldout", *documents(texts), normaliser(own))


def test_a_gain_that_is_only_spelling_is_named() -> None:
    found = spelling(TINY_EN)
    others = dict(found.others)
    assert found.rise_pp < -50  # under basic it seems to have learnt a lot
    assert others["digits"] > -10  # and it hears about as well as before
    change, numbers = spelling_remarks([found], 0.2)
    assert "heldout WER changes by" in change and "under digits" in change
    assert numbers.startswith("Spelling: in 6 of 7 heldout utterances one side has digits")


def test_under_digits_nothing_of_it_is_left() -> None:
    found = spelling(TINY_EN, "digits")
    assert found.numbers == 6
    assert not any("number words" in said for said in spelling_remarks([found], 0.2))


@pytest.mark.parametrize(
    ("reference", "base", "tuned"),
    [
        ("I don't know it", "i do not know it", "i don't know it"),
        ("the colour of honour", "the color of honor", "the colour of honour"),
        ("mister smith came", "mr smith came", "mister smith came"),
        ("twenty one men", "21 men", "twenty one men"),
        ("a well/known root", "a well known root", "a well/known root"),
    ],
)
def test_siblings_in_which_only_the_spelling_was_learnt(reference: str, base: str, tuned: str) -> None:
    same = [("and so it was", "and so it was", "and so it was")] * 9
    own = "jargon" if "/" in reference else "basic"
    found = spelling([(reference, base, tuned), *same], own)
    assert any("heldout WER changes by" in said for said in spelling_remarks([found], 0.2))


def test_what_was_heard_better_is_no_matter_of_spelling() -> None:
    texts = [("the cat sat down", "the hat sat down", "the cat sat down")] * 40
    found = spelling([*texts, *[("it's a dog", "it's a fog", "it's a dog")] * 5])
    assert found.rise_pp == pytest.approx(-100 * 45 / 175)
    assert spelling_remarks([found], 0.2) == ()


def test_the_order_of_the_documents_does_not_matter() -> None:
    before, after = documents(TINY_EN)
    assert spelling_of("heldout", before, after[::-1], BASIC) == spelling(TINY_EN)


def test_a_few_numbers_are_no_reason() -> None:
    found = replace(spelling([("so", "so", "so")]), utterances=1000, numbers=10)
    assert spelling_remarks([found], 0.2) == ()
    assert len(spelling_remarks([replace(found, numbers=11)], 0.2)) == 1


def judged(found: SetSpelling, thresholds: Thresholds) -> Any:
    sure = Certainty(
        1.0, None, 0.9, 1.1, 1.0, 0.99, "speaker", False, 9, None, True, 9, 9, 1, 0, 0, 0, None, None, 0, 0
    )  # fmt: skip
    return judge(replace(GOOD, significance=Significance(sure, sure, 100, "k", spelling=(found,))), thresholds)


def test_the_verdict_waits_until_the_plan_names_a_normaliser() -> None:
    verdict = judged(spelling(TINY_EN), Thresholds())
    assert verdict.decision is Decision.UNDECIDED
    for name in ("domain_gain", "heldout"):
        criterion = verdict.criterion(name)
        assert criterion.state is State.UNKNOWN and "data.normaliser in the plan" in criterion.reason
    assert [remark.partition(":")[0] for remark in verdict.remarks] == ["Spelling", "Spelling"]


def test_a_normaliser_that_was_chosen_is_judged_by_and_the_head_says_so_still() -> None:
    verdict = judged(spelling(TINY_EN), Thresholds(normaliser_chosen=True))
    assert verdict.decision is Decision.ACCEPTED
    assert len(verdict.remarks) == 2


def test_texts_that_all_normalisers_take_alike_need_no_choice() -> None:
    verdict = judged(spelling([("so it was", "so it is", "so it was")]), Thresholds())
    assert verdict.decision is Decision.ACCEPTED and verdict.remarks == ()


def test_references_without_spaces_between_words_are_not_judged() -> None:
    texts = [("今天天气很好我们去公园散步吧", "今天天气很好", "今天天气很好我们去公园散步吧")]
    english = [("so it was", "so it was", "so it was")]
    for count, undecided in ((9, True), (30, False)):
        verdict = judged(spelling([*texts, *english * count]), Thresholds(normaliser_chosen=True))
        criterion = verdict.criterion("heldout")
        assert ("without spaces between words" in criterion.reason) is undecided
        assert (criterion.state is State.UNKNOWN) is undecided


def counted(utterances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As score documents have them, under basic."""
    counts = (count_errors(BASIC.apply(one["reference"]), BASIC.apply(one["hypothesis"])) for one in utterances)
    rest = {"speaker": None, "fields": {}, "seconds": 1.0}
    return [one | rest | asdict(count) for one, count in zip(utterances, counts, strict=True)]


def test_it_is_told_with_how_sure_the_figures_are() -> None:
    before, after = map(counted, documents(TINY_EN * 5))
    before, after = ([one | {"id": str(i)} for i, one in enumerate(side)] for side in (before, after))
    sides = Documents(before, after, [])
    found = assess(sides, sides, {}, Thresholds(), BASIC, "key", resamples=20)
    assert [one.dataset for one in found.spelling] == ["domain", "heldout"]
    assert found.spelling[1] == spelling(TINY_EN * 5)


def test_real_whisper_seems_to_gain_while_it_hears_worse() -> None:
    """An adapter that drops the last digit of every string, and has learnt to write words."""
    texts = [(said, heard, said.rpartition(" ")[0]) for said, heard in WHISPER_TINY_EN]
    found = spelling(texts)
    assert found.rise_pp < -30
    assert dict(found.others)["digits"] > 2
    assert len(spelling_remarks([found], 0.2)) == 2
    judged_by_digits = spelling(texts, "digits")
    assert judged_by_digits.rise_pp > 2
