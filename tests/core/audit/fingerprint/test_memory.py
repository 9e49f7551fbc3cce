"""What is held while very many clips are compared: joined, let go after use, and nothing that grows with pairs."""

from __future__ import annotations

import tracemalloc

import numpy as np

from core.audit.fingerprint.landmarks import matches
from core.audit.fingerprint.peak_store import Fingerprints
from core.audit.fingerprint.peaks import NO_PEAKS
from core.audit.fingerprint.pictures import BANDS, NO_PICTURE, Sound
from core.audit.fingerprint.shapes import NO_SHAPE


def test_a_pitch_that_only_one_pair_has_leaves_nothing_behind() -> None:
    sound = Sound(np.full((20, BANDS), 9, np.uint8))
    pitches = [0.9 + step / 10_000 for step in range(2000)]
    for pitch in pitches[:200]:
        sound.higher(pitch)
    tracemalloc.start()
    for pitch in pitches[200:]:
        sound.higher(pitch)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 2 << 20


def test_a_clip_is_a_thousand_bytes_and_courses_are_let_go_when_they_were_compared() -> None:
    rng = np.random.default_rng(0)
    prints = Fingerprints()
    tracemalloc.start()
    for _ in range(20_000):
        peaks = np.sort(rng.integers(0, 120 << 8, 120)).astype(np.uint32)
        prints.append(rng.bytes(28), peaks, NO_SHAPE)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1000 * len(prints) + (4 << 20)  # and the last block of peaks, which is not full
    few = Fingerprints()
    few.append(rng.bytes(28), NO_PEAKS, NO_SHAPE)
    assert matches(few, lambda clips: [NO_PICTURE for _ in clips]) == [] and not few.shapes


def test_of_clips_with_equal_samples_the_first_is_kept() -> None:
    one, other = bytes([1]) * 28, bytes([1]) * 27 + b"\0"
    prints = Fingerprints()
    for digest in (other, one, b"", one, b"", other, one):
        prints.append(digest, np.arange(5, dtype=np.uint32), b"\1" * len(NO_SHAPE))
    assert prints.take_equal_samples() == [[0, 5], [1, 3, 6]]
    assert [len(peaks) for peaks in prints.peaks] == [5, 5, 5, 0, 5, 0, 0]
    assert bytes(prints.shapes[5 * len(NO_SHAPE) : 6 * len(NO_SHAPE)]) == NO_SHAPE
    assert Fingerprints().take_equal_samples() == []
