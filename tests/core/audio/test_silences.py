"""Where speech is: silences of recordings that were put together, over noise of several levels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from training_kit import RATE, speechlike

from core.audio.silences import MARGIN_S, cut_at_silences, speech_ranges, within_speech

WORDS = ("one two three", "four five", "six seven eight nine")
CLOSE_S = MARGIN_S + 0.06
"""The margin that a segment keeps, and a frame."""


def recording(gap_s: float, noise: float = 0.0) -> tuple[NDArray[np.float32], list[tuple[int, int]]]:
    """(speech with gaps before, between and after, where each speech lies)."""
    pause = np.zeros(int(gap_s * RATE), np.float32)
    parts, places, at = [pause], [], len(pause)
    for words in WORDS:
        speech = speechlike(words)
        places.append((at, at + len(speech)))
        parts += [speech, pause]
        at += len(speech) + len(pause)
    whole = np.concatenate(parts)
    return (whole + noise * np.random.default_rng(0).standard_normal(len(whole))).astype(np.float32), places


@pytest.mark.parametrize("noise", [0.0, 1e-4, 3e-3])
@pytest.mark.parametrize("level", [0.01, 1.0])
def test_segments_are_where_the_speech_is(noise: float, level: float) -> None:
    samples, places = recording(1.0, noise)
    found = cut_at_silences(level * samples, 30.0)
    assert len(found) == len(places)
    for (start, stop), (first, last) in zip(found, places, strict=True):
        assert abs(start - first) <= CLOSE_S * RATE and abs(stop - last) <= CLOSE_S * RATE
        assert start <= first and stop >= last - 0.05 * RATE, "no speech is lost"


def test_short_silences_are_cuts_only_where_a_segment_would_be_too_long() -> None:
    samples, places = recording(0.4)
    assert len(cut_at_silences(samples, 30.0)) == 1
    longest = max(last - first for first, last in places) / RATE + 3 * MARGIN_S
    assert len(cut_at_silences(samples, longest)) > 1
    assert all(stop - start <= longest * RATE for start, stop in cut_at_silences(samples, longest))


def test_speech_without_a_silence_is_cut_and_none_of_it_lost() -> None:
    samples = np.concatenate([speechlike("one two three")] * 6)
    found = cut_at_silences(samples, 1.0)
    assert all(0 < stop - start <= RATE for start, stop in found)
    assert all(one[1] <= other[0] for one, other in pairwise(found))
    kept = sum(float(np.square(samples[start:stop]).sum()) for start, stop in found)
    assert kept >= 0.999 * float(np.square(samples).sum())


@pytest.mark.parametrize("samples", [np.zeros(3 * RATE, np.float32), np.zeros(0, np.float32)])
def test_silence_has_no_segment(samples: NDArray[np.float32]) -> None:
    assert cut_at_silences(samples, 10.0) == [] and speech_ranges(samples) == []
    assert within_speech((0, len(samples)), []) == (0, len(samples))


@pytest.mark.parametrize("length", [1, 10, 799, 801, RATE])
def test_a_sound_of_any_length_is_kept(length: int) -> None:
    assert cut_at_silences(np.full(length, 0.1, np.float32), 10.0) == [(0, length)]
