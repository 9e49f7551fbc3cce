"""Lucky averages are told from fair orders."""

from __future__ import annotations

import random

import pytest

from core.scoring.alignment import heard_words, word_changes
from core.scoring.position import ScoredClip, position_report
from core.scoring.units import ErrorCounts


def clips(rates: list[float], seed: int = 0, words: int = 10) -> list[ScoredClip]:
    rng = random.Random(seed)
    errors = [sum(rng.random() < rate for _ in range(words)) for rate in rates]
    return [
        ScoredClip(ErrorCounts(n, 0, 0, words), 1.0 + i % 7, "ann" if i % 2 else "bob") for i, n in enumerate(errors)
    ]


def test_fifty_easy_clips_at_the_end_are_found() -> None:
    report = position_report(clips([0.15] * 150 + [0.01] * 50))
    assert report.position_effect
    assert report.p_value < 0.001
    assert report.settled_after > 190
    assert report.blocks[-1].counts.wer is not None
    assert report.blocks[-1].counts.wer < 0.05


def test_the_same_clips_shuffled_have_none() -> None:
    rates = [0.15] * 150 + [0.01] * 50
    random.Random(4).shuffle(rates)
    report = position_report(clips(rates))
    assert not report.position_effect
    inside = sum(a <= r <= b for a, r, b in zip(report.low, report.running, report.high, strict=True))
    assert inside >= 0.8 * len(rates)


def test_false_alarms_are_as_rare_as_the_test_says() -> None:
    alarms = sum(position_report(clips([0.1] * 60, seed), shuffles=300).p_value < 0.05 for seed in range(60))
    assert alarms <= 8


def test_the_report_is_the_same_each_time_and_adds_up() -> None:
    some = clips([0.3] * 40)
    assert position_report(some, shuffles=100) == position_report(some, shuffles=100)
    report = position_report(some, shuffles=100)
    errors = sum(clip.counts.errors for clip in some)
    for slices in (report.blocks, report.durations, report.speakers):
        assert sum(part.counts.errors for part in slices) == errors
        assert sum(part.clips for part in slices) == 40
    assert report.running[-1] == pytest.approx(100 * errors / 400, abs=1e-3)
    assert [part.name for part in report.speakers] == ["ann", "bob"]


def test_one_clip_and_no_words() -> None:
    assert position_report(clips([0.5]), shuffles=10).p_value == 1.0
    with pytest.raises(ValueError, match="reference words"):
        position_report([ScoredClip(ErrorCounts(), 1.0)])


def test_words_are_paired_with_what_was_heard() -> None:
    assert heard_words("a b c d", "a c x") == [("a", "a"), ("b", ""), ("c", "c"), ("d", "x")]
    assert heard_words("a b", "") == [("a", ""), ("b", "")]
    assert heard_words("", "a") == []


def test_broken_fixed_and_never_learnt_words() -> None:
    changes = {c.word: c for c in word_changes([("say gasket now", "say casket now", "say gasket cow")] * 2)}
    assert (changes["gasket"].fixed, changes["now"].broken, changes["now"].heard["cow"]) == (2, 2, 2)
    assert "say" not in changes
    (never,) = word_changes([("shim", "him", "")])
    assert (never.never, never.heard[""]) == (1, 1)
