"""The bootstrap against scipy's, and what it says where the answer is known."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.scoring.assess import Documents, RecountError, assess
from core.scoring.certainty import sentence, short
from core.scoring.data_health import Together
from core.scoring.evidence import Thresholds
from core.scoring.significance import (
    PairedErrors,
    Units,
    connected,
    half_interval,
    interval,
    needed_units,
    optimism,
    over_blocks,
    probability_up_to,
    quantile,
    rises,
    share_up_to,
    units_of,
    widening,
)
from core.scoring.text import normaliser

WORDS = 12


def errors(utterances: int, wer: float, gain: float, seed: int = 0) -> tuple[Any, Any, Any]:
    """Words, errors before and after: of each wrong word some are fixed, and few right ones broken."""
    random = np.random.default_rng(seed)
    words = random.integers(5, 2 * WORDS, utterances).astype(float)
    before = random.binomial(words.astype(int), wer).astype(float)
    fixed = random.binomial(before.astype(int), gain / wer * 1.2)
    broken = random.binomial((words - before).astype(int), gain * 0.2 / (1 - wer))
    return words, before, before - fixed + broken


def units(utterances: int, wer: float = 0.2, gain: float = 0.02, seed: int = 0) -> Units:
    words, before, after = errors(utterances, wer, gain, seed)
    return units_of(PairedErrors(words, before, after, np.zeros((0, utterances))))


def test_the_interval_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    ours = units(500)
    rise, words = ours.rise[0], ours.words
    theirs = stats.bootstrap(
        (rise, words),
        lambda r, w, axis=-1: 100 * r.sum(axis=axis) / w.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(7),
    )
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    distribution = rises(ours)
    assert interval(distribution) == pytest.approx(tuple(theirs.confidence_interval), abs=0.04 * width)
    assert float(np.std(distribution)) == pytest.approx(theirs.standard_error, rel=0.04)
    threshold = float(np.quantile(theirs.bootstrap_distribution, 0.3))
    assert share_up_to(distribution, threshold) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("speakers", [0, 6])
def test_half_an_interval_is_known_without_drawing(speakers: int) -> None:
    words, before, after = errors(400, 0.2, 0.02)
    blocks = [str(number % speakers) for number in range(400)] if speakers else None
    found = units_of(PairedErrors(words, before, after, np.zeros((0, 400)), blocks))
    low, high = interval(rises(found))
    assert found.blocked == bool(speakers)
    assert half_interval(found) == pytest.approx((high - low) / 2, rel=0.03)


def test_the_same_seed_gives_the_same_figures() -> None:
    assert np.array_equal(rises(units(50)), rises(units(50)))
    assert not np.array_equal(rises(units(50)), rises(units(50), seed=(2,)))


def test_a_shift_of_all_is_certain_and_none_at_all_is_not_quite() -> None:
    still = units_of(PairedErrors(np.full(50, 10.0), np.zeros(50), np.zeros(50), np.zeros((0, 50))))
    low, high = interval(rises(still))
    assert -1.0 < low < -0.2 and 0.2 < high < 1.0, "fifty clips without a change prove nothing about 0.2 points"
    much = units_of(PairedErrors(np.full(1000, 10.0), np.zeros(1000), np.zeros(1000), np.zeros((0, 1000))))
    assert share_up_to(rises(much), 0.2) > 0.999


@pytest.mark.parametrize(("count", "factor"), [(2, 9.1705), (20, 1.0956), (500, 1.0034)])
def test_few_units_are_widened_as_students_t(count: int, factor: float) -> None:
    # √(n/(n−1)) · t(0.975, n−1) / 1.95996; t from tables: 12.706, 2.0930, 1.9647. The series is no good for n = 2 …
    if count == 2:
        assert widening(count) > 4.0
    else:
        assert widening(count) == pytest.approx(factor, abs=5e-4)


@pytest.mark.parametrize(("speakers", "blocked"), [(20, True), (2, True), (1, False)])
def test_speakers_are_taken_whole_from_two_on(speakers: int, blocked: bool) -> None:
    words, before, after = errors(200, 0.2, 0.02)
    names = [f"s{i % speakers}" for i in range(200)]
    found = units_of(PairedErrors(words, before, after, np.zeros((0, 200)), names))
    assert found.blocked is blocked and len(found) == (speakers if blocked else 200)
    assert found.points[0] == pytest.approx(100 * (after - before).sum() / words.sum())


def test_limits_over_equal_speakers_are_students() -> None:
    """Of speakers with as many words each the rise is a mean, and its limits are the textbook's."""
    random = np.random.default_rng(3)
    own = random.integers(-20, 60, 6).astype(float)
    before, after = np.full(60, 50.0), 50.0 + np.repeat(own, 10)
    names = [f"s{i // 10}" for i in range(60)]
    found = units_of(PairedErrors(np.full(60, 100.0), before, after, np.zeros((0, 60)), names))
    error, degrees = over_blocks(found)
    assert error == pytest.approx(float(np.std(own, ddof=1)) / np.sqrt(6)) and degrees == pytest.approx(5)
    low, high = interval(rises(found))
    half = 2.5706 * error  # t(0.975, 5)
    assert (low, high) == pytest.approx((own.mean() - half, own.mean() + half), rel=1e-3)


def test_the_degrees_of_freedom_are_satterthwaites() -> None:
    """Against the eigenvalues of the variance's quadratic form, where speakers have unequal numbers of words."""
    random = np.random.default_rng(0)
    for words in (random.uniform(1, 5, 12), np.array([50.0] + [1.0] * 39), np.array([5.0, 1.0])):
        count, share = len(words), words / words.sum()
        residual_of = np.eye(count) - np.outer(share, np.ones(count))
        scaled = np.diag(1 / (1 - share)) @ residual_of
        roots = np.linalg.eigvalsh(scaled @ np.diag(share**2) @ scaled.T)
        units_ = Units(words, random.normal(size=(1, count)), True)
        assert over_blocks(units_)[1] == pytest.approx(roots.sum() ** 2 / (roots**2).sum())


def test_what_few_speakers_agree_on_by_chance_is_no_proof() -> None:
    words, before, after = errors(60, 0.2, 0.02)
    for group in (slice(0, 30), slice(30, 60)):  # two speakers who rose by exactly as much
        words[group], before[group], after[group] = words[:30], before[:30], after[:30]
    found = units_of(PairedErrors(words, before, after, np.zeros((0, 60)), ["a"] * 30 + ["b"] * 30))
    assert over_blocks(found)[0] == found.least_error_pp > 0.5


def test_more_speakers_are_asked_for_where_few_cannot_tell() -> None:
    random = np.random.default_rng(5)
    before, after = np.full(120, 30.0), 30.0 - np.repeat(random.integers(2, 6, 12), 10)
    names = [f"s{i // 10}" for i in range(120)]
    found = units_of(PairedErrors(np.full(120, 100.0), before, after, np.zeros((0, 120)), names))
    estimate = float(found.points[0])
    near, far = (needed_units(found, rises(found), estimate, estimate + d, 12) for d in (0.5, 1.5))
    assert near is not None and far is not None and near > 2 * far
    # With so many the textbook's condition just holds: margin, quantile and power within the distance.
    error, _ = over_blocks(found)
    for count, holds in ((near, True), (near - 1, False)):
        spread = (quantile(0.95, count - 1) + 0.8416) * error * np.sqrt(12 / count)
        assert bool(found.margin_pp * 12 / count + spread <= 0.5) is holds


@pytest.mark.parametrize("times", [2, 10])
@pytest.mark.parametrize("speakers", [None, 8])
def test_copies_are_no_evidence(times: int, speakers: int | None) -> None:
    words, before, after = errors(200, 0.2, 0.02)
    names = None if speakers is None else [f"s{i % speakers}" for i in range(200)]
    once = units_of(PairedErrors(words, before, after, np.zeros((0, 200)), names))
    again = [np.repeat(column, times) for column in (words, before, after)]
    none, who = np.zeros((0, 200 * times)), None if names is None else np.repeat(names, times).tolist()
    copied = units_of(PairedErrors(*again, none, who, np.repeat(np.arange(200), times).tolist()))
    believed = units_of(PairedErrors(*again, none, None))
    for threshold in (-3.0, -1.0, 0.0):
        sure, unsure = (probability_up_to(rises(u), threshold, u.margin_pp) for u in (once, copied))
        assert unsure == pytest.approx(sure, abs=1e-9)
    assert np.std(rises(believed)) < 0.8 * np.std(rises(copied)), "what it would be if each copy counted"


def test_copies_join_speakers_and_all_that_is_copied_of_one_is_one() -> None:
    assert connected(["a", "a", "b", "c"], [1, 2, 2, 3]) == [0, 0, 0, 1]
    assert connected([1, 2, 3, 1], [5, 5, 6, 7]) == [0, 0, 1, 0]
    words, before, after = errors(40, 0.2, 0.02)
    errors_ = PairedErrors(words, before, after, np.zeros((0, 40)), None, [0] * 40)
    with pytest.raises(ValueError, match="copies of one recording"):
        units_of(errors_)


def test_errors_that_speakers_share_widen_the_interval() -> None:
    words, before = np.full(400, 10.0), np.full(400, 4.0)
    speakers = [f"s{i // 10}" for i in range(400)]
    after = before - np.repeat(np.random.default_rng(0).integers(0, 4, 40), 10)
    none = np.zeros((0, 400))
    blocked = interval(rises(units_of(PairedErrors(words, before, after, none, speakers))))
    single = interval(rises(units_of(PairedErrors(words, before, after, none))))
    assert blocked[1] - blocked[0] > 2 * (single[1] - single[0])


def test_choosing_the_best_of_equals_is_corrected() -> None:
    """Ten intervals without any gain: the best of them seems to gain, and the correction takes it away."""
    random = np.random.default_rng(0)
    raw, corrected = [], []
    for _ in range(30):
        before = random.poisson(2.0, 300).astype(float)
        intervals = random.poisson(2.0, (10, 300)).astype(float)
        words = np.full(300, 10.0)
        best = int(np.argmin(intervals.sum(axis=1)))
        domain = units_of(PairedErrors(words, before, intervals[best], intervals))
        heldout = units_of(PairedErrors(words, before, before, np.tile(before, (10, 1))))
        flattered = optimism(domain, heldout, 0.2, resamples=300)
        assert flattered is not None and abs(flattered[1]) < 1e-9
        raw.append(-domain.points[0])
        corrected.append(raw[-1] - flattered[0])
    error = float(np.std(corrected)) / np.sqrt(30)
    assert np.mean(raw) > 1.0 and abs(np.mean(corrected)) < 3 * error


def test_a_selection_set_leaves_the_gain_as_it_is() -> None:
    random = np.random.default_rng(1)
    words, before = np.full(300, 10.0), random.poisson(2.0, 300).astype(float)
    make = lambda: units_of(PairedErrors(words, before, before, random.poisson(2.0, (5, 300)).astype(float)))  # noqa: E731
    domain, heldout, selection = make(), make(), make()
    flattered = optimism(domain, heldout, 100.0, selection)
    assert flattered is not None and abs(flattered[0]) < 0.1


def test_more_utterances_are_needed_the_nearer_the_threshold() -> None:
    few = replace(units(200), change=0.0)
    distribution = rises(few)
    estimate = float(np.mean(distribution))
    near = needed_units(few, distribution, estimate, estimate + 0.1, 200)
    nearer = needed_units(few, distribution, estimate, estimate + 0.05, 200)
    assert near is not None and nearer == pytest.approx(4 * near, abs=4)
    # (1.6449 + 0.8416)² variances: the textbook's sample size for 95 % one-sided and a power of 80 %.
    assert near == pytest.approx(200 * (2.4865 * float(np.std(distribution)) / 0.1) ** 2, rel=1e-3)
    with_margin = needed_units(units(200), distribution, estimate, estimate + 0.1, 200)
    assert with_margin is not None and with_margin > near
    assert needed_units(few, distribution, estimate, estimate, 200) is None


def test_one_change_more_may_not_overturn_what_is_sure() -> None:
    distribution = np.linspace(-1.0, 1.0, 2001)
    assert probability_up_to(distribution, 0.5, 0.1) == pytest.approx(0.7, abs=0.01)
    assert probability_up_to(distribution, -0.5, 0.1) == pytest.approx(0.3, abs=0.01)
    assert probability_up_to(distribution, 0.05, 0.1) == 0.5


def test_a_changed_utterance_is_as_large_as_those_that_were_seen() -> None:
    words, before = np.full(100, 10.0), np.full(100, 3.0)
    after = before + np.array([3.0] * 4 + [0.0] * 96)
    found = units_of(PairedErrors(words, before, after, np.zeros((0, 100))))
    assert found.change == 3.0 and found.margin_pp == pytest.approx(0.3)
    # Where nothing changed, the base model's errors say how large a change would be.
    assert units_of(PairedErrors(words, before, before, np.zeros((0, 100)))).change == 3.0
    assert units_of(PairedErrors(words, 0 * before, 0 * before, np.zeros((0, 100)))).change == 1.0


def utterance(number: int, hypothesis: str, **changes: Any) -> dict[str, Any]:
    """An utterance of a score document; the reference is `a b c d e`."""
    reference = "a b c d e"
    wrong = sum(x != y for x, y in zip(reference.split(), hypothesis.split(), strict=True))
    counts = {"substitutions": wrong, "deletions": 0, "insertions": 0, "reference_words": 5}
    return {"id": f"u{number}", "reference": reference, "hypothesis": hypothesis} | counts | changes


def documents(fixed: int, broken: int, **changes: Any) -> Documents:
    """100 utterances; of those at fault before, `fixed` are right after, and `broken` of the right ones wrong."""
    before = [utterance(i, "a x c d e" if i < 50 else "a b c d e", **changes) for i in range(100)]
    good = [i < fixed or 50 <= i < 100 - broken for i in range(100)]
    after = [utterance(i, "a b c d e" if good[i] else "a x c d e", **changes) for i in range(100)]
    return Documents(before, after, [after])


def test_all_figures_of_a_comparison() -> None:
    found = assess(documents(40, 5), documents(0, 0), {}, Thresholds(), normaliser("basic"), "key")
    gain, rise = found.domain, found.heldout
    assert gain.raw_pp == pytest.approx(7.0) and (gain.fixed, gain.broken) == (40, 5)
    assert gain.corrected_pp == pytest.approx(7.0, abs=0.05)
    assert gain.low_pp < 7 < gain.high_pp and gain.probability > 0.999 and gain.more_units == 0
    assert gain.conditional and gain.units == gain.unnamed == 100 and not gain.blocked
    # 45 segments hold a difference and 10 none: mean 35/55; the z value by the textbook formula
    differences = np.array([1] * 40 + [-1] * 5 + [0] * 10)
    assert gain.mapsswe_segments == 55
    assert gain.mapsswe_z == pytest.approx(differences.mean() / (differences.std(ddof=1) / np.sqrt(55)))
    assert rise.raw_pp == 0 and rise.mapsswe_p is None
    text = sentence(gain, "domain_gain")
    assert (
        "40 words fixed, 5 broken" in text and "P(≤ −1) = > 99.9 %" in text and "no utterance names its speaker" in text
    )
    assert short(rise, "heldout").startswith("[−0.") and "P(≤ 0.2 | these speakers)" in short(rise, "heldout")


def test_blocks_by_a_field_of_the_manifest() -> None:
    named = documents(40, 5)
    for sets in (named.baseline, named.tuned or ()):
        for index, item in enumerate(sets):
            item["fields"] = {"room": index % 25}  # type: ignore[index]
    found = assess(named, documents(0, 0), {}, Thresholds(block_by="room"), normaliser("basic"), "key")
    assert (found.domain.block_by, found.domain.units, found.domain.conditional) == ("room", 25, False)
    assert "25 values of room" in sentence(found.domain, "domain_gain")
    assert found.heldout.conditional


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"substitutions": 0}, "its counts say 0 errors"),
        ({"reference": "a b c d f"}, "another reference"),
        ({"id": "other"}, "not the utterances"),
    ],
)
def test_edited_documents_are_found(change: dict[str, Any], says: str) -> None:
    edited = documents(10, 5)
    assert edited.tuned is not None
    edited.tuned[20].update(change)  # type: ignore[attr-defined]
    with pytest.raises(RecountError, match=says):
        assess(edited, documents(0, 0), {}, Thresholds(), normaliser("basic"), "key")


def test_ten_thousand_resamples_in_a_second() -> None:
    domain, heldout = errors(500, 0.2, 0.02), errors(1000, 0.05, 0.001)
    table = lambda e: units_of(PairedErrors(*e, np.tile(e[2], (10, 1))))  # noqa: E731
    started = time.process_time()
    for found in (table(domain), table(heldout)):
        rises(found)
    optimism(table(domain), table(heldout), 0.2)
    assert time.process_time() - started < 1.0


def spoken(fixed: int, broken: int, speakers: list[str | None]) -> Documents:
    """100 utterances by these speakers, in turns."""
    found = documents(fixed, broken)
    for sets in (found.baseline, found.tuned or ()):
        for index, item in enumerate(sets):
            item["speaker"] = speakers[index % len(speakers)]  # type: ignore[index]
    return found


def test_a_set_of_which_some_say_who_speaks_is_one_of_which_nobody_does() -> None:
    some = spoken(40, 5, ["ann", "bob", "cid", None])
    found = assess(some, spoken(0, 0, ["ann", "bob"]), {}, Thresholds(), normaliser("basic"), "key")
    assert not found.domain.blocked and found.domain.unnamed == 25 and found.domain.conditional
    assert "25 of 100 utterances name no speaker" in sentence(found.domain, "domain_gain")
    assert found.heldout.blocked and found.heldout.units == 2
    one = assess(spoken(40, 5, ["ann"]), some, {}, Thresholds(), normaliser("basic"), "key").domain
    assert one.conditional and one.unnamed == 0 and "all utterances have one speaker" in sentence(one, "domain_gain")
    empty = assess(spoken(40, 5, ["ann", " "]), some, {}, Thresholds(), normaliser("basic"), "key").domain
    assert empty.unnamed == 50


def test_a_speaker_who_has_most_words_is_told_of() -> None:
    names: list[str | None] = ["ann"] * 8 + ["bob", "cid"]
    found = assess(spoken(40, 5, names), spoken(0, 0, names), {}, Thresholds(), normaliser("basic"), "key").domain
    assert found.units == 3 and found.like_units is not None and found.like_units < 2.5
    assert "by 3 speakers, which count as 2." in sentence(found, "domain_gain")


def test_what_the_audit_says_of_an_utterance_that_is_not_there_is_refused() -> None:
    sets = documents(40, 5)
    together = (Together("domain", ((0, 1), (5, 100))),)
    with pytest.raises(ValueError, match="utterance 100"):
        assess(sets, sets, {}, Thresholds(), normaliser("basic"), "key", together)
    copied = (Together("domain", (tuple(range(10)), (50, 60))), Together("selection", ((0, 1),)))
    found = assess(sets, sets, {}, Thresholds(), normaliser("basic"), "key", copied)
    assert (found.domain.units, found.heldout.units) == (90, 100)
    assert "90 utterances (10 more have a recording in common with these)" in sentence(found.domain, "domain_gain")
