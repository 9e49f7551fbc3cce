"""Which candidate is shipped: the largest gain among those that keep the guardrail with a stated confidence."""

import math
from dataclasses import replace

import pytest

from core.scoring.choice import Scored, SetErrors, choose
from core.scoring.evidence import Thresholds
from core.scoring.significance import quantile, student_below

SPEAKERS = tuple(f"speaker {i // 10}" for i in range(100))
WORDS = (20,) * 100


def scored(name: str, gain: int, rise: int, loss: float | None = 1.0, speakers: tuple[str | None, ...] = SPEAKERS):
    """Ten speakers of ten utterances of twenty words: `gain` words fewer wrong, `rise` words more wrong on heldout.

    The words lie one to a speaker, so that speakers differ by little.
    """
    before = [4] * 100
    ours, theirs = list(before), list(before)
    for i in range(gain):
        ours[(10 * i + i // 10) % 100] -= 1
    for i in range(abs(rise)):
        theirs[(10 * i + i // 10) % 100] += 1 if rise > 0 else -1
    return Scored(name, SetErrors(WORDS, tuple(ours), speakers), SetErrors(WORDS, tuple(theirs), speakers, loss))


BASE = scored("step-000000", 0, 0)
GATE = Thresholds(heldout_regression_pp=0.5)


def test_takes_the_largest_gain_of_those_that_keep_the_guardrail() -> None:
    far, near, nearer = scored("a", 60, 40), scored("b", 40, 0), scored("c", 30, 0)
    choice = choose(BASE, [far, nearer, near], GATE)
    assert (choice.name, choice.kept) == ("b", True)
    assert [one.name for one in choice.standings] == ["a", "b", "c"]
    assert choice.standings[0].rise_pp == pytest.approx(2.0)
    assert choice.why == (
        "b gains most on data.selection (−2.00 points) of the 2 of 3 candidates that keep the guardrail of 0.5 points "
        "on data.selection_heldout with 80 % confidence (+0.00 points, 94.4 % sure)."
    )


def test_at_the_threshold_the_point_estimate_is_not_enough() -> None:
    at = scored("a", 60, 10)  # 0.5 points: meets the guardrail by its point estimate, 50 % sure
    safe = scored("b", 40, 0)
    assert choose(BASE, [at, safe], GATE).name == "b"
    assert choose(BASE, [at, safe], replace(GATE, selection_confidence=0.5)).name == "a"


def test_where_none_keeps_it_the_likeliest_of_those_that_gain_enough() -> None:
    timid, middle, bold = scored("a", 2, 20), scored("b", 30, 30), scored("c", 60, 60)
    choice = choose(BASE, [timid, middle, bold], GATE)
    assert (choice.name, choice.kept) == ("b", False)
    assert choice.why.startswith("None of 3 candidates keeps the guardrail")
    assert choose(BASE, [timid, bold], replace(GATE, domain_gain_pp=5.0)).name == "a"


def test_equal_gains_go_by_the_loss_on_heldout() -> None:
    one, other = scored("a", 40, 0, loss=1.2), scored("b", 40, 0, loss=1.1)
    assert choose(BASE, [one, other], GATE).name == "b"
    assert choose(BASE, [one, replace(other, name="0")], GATE).name == "0"
    assert choose(BASE, [one, replace(one, name="b")], GATE).name == "a"


def test_a_loss_that_is_no_number_is_passed_over() -> None:
    assert choose(BASE, [scored("a", 40, 0, loss=math.nan), scored("b", 1, 0)], GATE).name == "b"
    nothing = choose(BASE, [scored("a", 40, 0, loss=math.inf)], GATE)
    assert (nothing.name, nothing.kept) == (None, None)


def test_few_speakers_who_differ_make_it_less_sure_than_as_many_utterances() -> None:
    speakers = tuple(f"speaker {i // 50}" for i in range(100))
    unknown = (None,) * 100
    by_speaker, by_utterance = (
        choose(scored("base", 0, 0, speakers=names), [scored("a", 40, 5, speakers=names)], GATE).standings[0].keeps
        for names in (speakers, unknown)
    )
    assert by_speaker < by_utterance < 1


def test_the_order_of_candidates_means_nothing() -> None:
    candidates = [scored(name, gain, rise) for name, gain, rise in (("a", 9, 1), ("b", 20, 3), ("c", 20, 3))]
    assert choose(BASE, candidates, GATE) == choose(BASE, candidates[::-1], GATE)


def test_other_utterances_than_the_base_models_are_refused() -> None:
    other = SetErrors((21, *WORDS[1:]), (4,) * 100, SPEAKERS)
    with pytest.raises(ValueError, match="other utterances"):
        choose(BASE, [Scored("a", other, BASE.selection_heldout)], GATE)


@pytest.mark.parametrize("degrees", [1, 2, 5, 30, 150])
def test_the_probability_below_a_quantile_is_the_quantiles(degrees: int) -> None:
    for probability in (0.05, 0.5, 0.8, 0.975):
        assert student_below(quantile(probability, degrees), degrees) == pytest.approx(probability, abs=1e-4)


def test_the_sentence_says_which_guardrail_chose() -> None:
    """The run's own, which may be looser than that of the gate that prints the sentence."""
    one = scored("a", 60, 0)
    said = [choose(BASE, [one], replace(GATE, heldout_regression_pp=limit)).why for limit in (0.5, 100.0)]
    assert ["the guardrail of 0.5 points" in said[0], "the guardrail of 100 points" in said[1]] == [True, True]
