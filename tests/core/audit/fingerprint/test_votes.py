"""Votes of triples: counted in pieces as if counted one by one, also where limits are met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from core.audit.fingerprint import votes
from core.audit.fingerprint import votes as triples
from core.audit.fingerprint.peak_store import PART, PeakStore
from core.audit.fingerprint.peaks import Peaks

Triple = tuple[int, int, int]
"""(hash, clip, frame)."""


def random_clips(seed: int, count: int = 30, peaks: int = 60) -> list[Peaks]:
    """Clips of random peaks; every third one has most of what an earlier one has, later and with damage."""
    rng = np.random.default_rng(seed)
    clips: list[Peaks] = []
    for number in range(count):
        frames, bins = rng.integers(0, 3 * peaks, peaks), rng.integers(6, 108, peaks)
        if number % 3 == 2:
            source = clips[rng.integers(len(clips))]
            kept = source[rng.random(len(source)) < 0.7]
            frames = np.concatenate(((kept >> 8) + rng.integers(0, 40), frames[: peaks // 4]))
            bins = np.concatenate((kept & 255, bins[: peaks // 4]))
        clips.append(np.unique(frames << 8 | bins).astype(np.uint32))
    clips[3] = clips[3][:0]
    return clips


def slow_triples(clips: Sequence[Peaks], every: int) -> list[Triple]:
    found = []
    for number, clip in enumerate(clips):
        peaks = [(int(peak) >> 8, int(peak) & 255) for peak in clip]
        for at, (frame, base) in enumerate(peaks):
            following = peaks[at + 1 : at + 1 + triples.FAN_OUT]
            for far, (frame2, bin2) in enumerate(following):
                for frame1, bin1 in following[: max(0, far - 1)]:
                    wait1, wait2 = frame1 - frame, frame2 - frame
                    if not 0 < wait2 <= triples.MOST_FRAMES:
                        continue
                    code = (
                        base + (wait1 << 8) + (wait2 << 13) + ((bin1 - base) % 256 << 18) + ((bin2 - base) % 256 << 26)
                    )
                    hashed = (code * 0x9E3779B97F4A7C1 >> 24) % (1 << 24)
                    if hashed % every == 0:
                        found.append((hashed, number, frame))
    return sorted(found)


def slow_votes(clips: Sequence[Peaks]) -> list[tuple[int, int, int, int]]:
    """(first, second, offset, count), ascending."""
    wanted = min(triples.MOST_TRIPLES, max(triples.LEAST_MOST, triples.A_CLIP * len(clips)))
    every = 1 + 15 * sum(map(len, clips)) // wanted
    table = slow_triples(clips, every)
    counts: Counter[Triple] = Counter()
    most = max(votes.LEAST_MOST_PAIRS, votes.PAIRS_A_CLIP * len(clips))
    for distance in range(1, votes.GROUP + 1):
        pairs = [(a, b) for a, b in zip(table, table[distance:], strict=False) if a[0] == b[0]]
        if not pairs or sum(counts.values()) + len(pairs) > most:
            break
        counts.update((a[1], b[1], a[2] - b[2]) for a, b in pairs if a[1] != b[1])
    shared = {key: count + counts.get((key[0], key[1], key[2] + 1), 0) for key, count in counts.items()}
    found = [
        (*key, count)
        for key, count in sorted(shared.items())
        if count >= votes.LEAST_VOTES
        and count >= min(len(clips[key[0]]), len(clips[key[1]])) / (votes.PEAKS_A_VOTE * every)
    ]
    if len(found) > votes.MOST_CANDIDATES:
        limit = sorted(count for *_, count in found)[-votes.MOST_CANDIDATES]
        found = [one for one in found if one[3] > limit]
    return found


def fast_votes(clips: Sequence[Peaks]) -> list[tuple[int, int, int, int]]:
    store = PeakStore()
    for clip in clips:
        store.append(clip)
    keys, counts = votes.votes(store)
    assert keys.dtype == np.uint64
    return [
        (key >> 40, key >> 16 & 0xFFFFFF, (key & 0xFFFF) - 0x8000, count)
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True)
    ]


LIMITS: dict[str, dict[Any, int]] = {
    "as shipped": {},
    "small pieces": {(votes, "_PIECE"): 37, (votes, "PAIRS_AT_ONCE"): 200, (triples, "_AT_ONCE"): 3},
    "one hash in three": {(triples, "MOST_TRIPLES"): 8000, (votes, "PAIRS_AT_ONCE"): 500, (votes, "_PIECE"): 100},
    "few neighbours": {(votes, "GROUP"): 2, (votes, "_PIECE"): 50},
    "few keys": {(votes, "LEAST_MOST_PAIRS"): 3000, (votes, "PAIRS_A_CLIP"): 1},
    "few pairs, one clip at a time": {(votes, "PAIRS_AT_ONCE"): 1, (votes, "MOST_CANDIDATES"): 20},
}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("seed", [1, 2])
def test_votes_are_those_of_counting_one_by_one(
    monkeypatch: pytest.MonkeyPatch, limits: dict[Any, int], seed: int
) -> None:
    for (module, name), value in limits.items():
        monkeypatch.setattr(module, name, value)
    clips = random_clips(seed)
    expected = slow_votes(clips)
    assert len(expected) > 10
    assert fast_votes(clips) == expected


def test_clips_that_are_all_alike_stay_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triples, "MOST_TRIPLES", 2000)
    clip = random_clips(1)[0]
    table, every = triples.triples_of_all([clip] * 200)
    assert len(table) <= 2500 and every > 1 + 15 * 200 * len(clip) // 2000
    clips = {int(place) >> 16 & 0xFFFFFF for place in table}
    assert len(clips) == 200, "no clip is left out because it comes late"


def test_no_clips_and_silent_clips_have_no_votes() -> None:
    nothing = np.empty(0, np.uint32)
    for clips in ([], [nothing], [nothing, nothing, nothing]):
        assert fast_votes(clips) == []


def test_a_store_gives_what_it_was_given() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 1 << 20, size).astype(np.uint32) for size in (0, 5, PART - 3, 7, 0, PART + 11, 2)]
    store = PeakStore()
    for clip in clips:
        store.append(clip)
    assert len(store) == len(clips)
    for kept, clip in zip(store, clips, strict=True):
        np.testing.assert_array_equal(kept, clip)
