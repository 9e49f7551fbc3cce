"""Triples of neighbouring spectral peaks: hashed, so that pairs of clips that have some in common are found at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.speech.peaks import Peaks

MOST_FRAMES, FAN_OUT = 31, 5
"""Triples: a peak and two of the 5 next ones, within this many frames."""
_COMBINATIONS = FAN_OUT * (FAN_OUT - 1) // 2
MOST_TRIPLES = 4_000_000
"""Of all clips together; beyond it a fixed share of the hashes is looked at, the same for every clip."""
MOST_KEYS = 6_000_000
"""Pairs of equal triples that are counted: bounds the memory where very many clips are alike."""
GROUP = 48
"""Neighbours in a group of equal hashes that are compared: a triple that hundreds of clips share tells little."""
LEAST_VOTES, MOST_CANDIDATES = 2, 60_000
"""Pairs with so many triples at one offset are looked at; with more, if there would be too many pairs."""
PEAKS_A_VOTE = 20
"""And one for so many peaks of the sparser clip: between long clips, chance gives more than two."""


def agreeing(first: Peaks, second: Peaks, offset: int) -> int:
    """How many triples two clips have in common at one offset, which may be a frame or two off."""
    here, there = _triples(first >> 8, first & 255), np.sort(_triples(second >> 8, second & 255))
    low = np.searchsorted(there >> _HASH, here >> _HASH, "left")
    count = np.searchsorted(there >> _HASH, here >> _HASH, "right") - low
    at = np.repeat(low - np.cumsum(count) + count, count) + np.arange(int(count.sum()))
    frames = np.repeat(here & _FRAME, count).astype(np.int64) - (there[at] & _FRAME).astype(np.int64)
    near = frames[np.abs(frames - offset) <= 2] - (offset - 2)
    return int(np.bincount(near).max(initial=0))


_HASH, _FRAME = np.uint64(40), np.uint64(0xFFFF)


def _triples(places: NDArray[np.integer], bins: NDArray[np.integer]) -> NDArray[np.uint64]:
    """The triples of clips one after the other, hash << 40 | place: bins and distances of three peaks, in 24 bits.

    `places` of peaks are clip << 16 | frame, ascending, so that peaks of different clips are too far apart.
    """
    places, bins = places.astype(np.int64), bins.astype(np.int64)
    found = []
    for near in range(1, FAN_OUT):
        for far in range(near + 1, FAN_OUT + 1):
            count = max(0, len(places) - far)
            wait2 = places[far:] - places[:count]
            good = np.flatnonzero((wait2 <= MOST_FRAMES) & (wait2 > 0))
            base = bins[good]
            wait1 = places[good + near] - places[good]
            rise1, rise2 = bins[good + near] - base, bins[good + far] - base
            code = base | wait1 << 8 | wait2[good] << 13 | (rise1 & 255) << 18 | (rise2 & 255) << 26
            mixed = (code * 0x9E3779B97F4A7C1).astype(np.uint64) >> np.uint64(24) & np.uint64(0xFFFFFF)
            found.append(mixed << _HASH | places[good].astype(np.uint64))
    return np.concatenate(found)


def _sampling(clips: Sequence[Peaks]) -> int:
    """Of how many hashes one is looked at."""
    return 1 + _COMBINATIONS * sum(map(len, clips)) // MOST_TRIPLES


def _table(clips: Sequence[Peaks]) -> NDArray[np.uint64]:
    """The triples of all clips, hash << 40 | clip << 16 | frame, ascending: one array, sorted where it stands."""
    every = np.uint64(_sampling(clips))
    table = np.empty(min(MOST_TRIPLES * 5 // 4, _COMBINATIONS * sum(map(len, clips))), np.uint64)
    used = 0
    for start in range(0, len(clips), _AT_ONCE):
        block = clips[start : start + _AT_ONCE]
        peaks = np.concatenate(block)
        clip = np.repeat(np.arange(start, start + len(block)), [len(one) for one in block])
        some = _triples(clip << 16 | peaks >> 8, peaks & 255)
        if every > 1:
            some = some[(some >> _HASH) % every == 0]
        some = some[: len(table) - used]
        table[used : used + len(some)] = some
        used += len(some)
    table = table[:used]
    table.sort()
    return table


_AT_ONCE = 128
"""Clips whose triples are made together: a call for each clip would take longer than its triples."""


def votes(clips: Sequence[Peaks]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """(first << 40 | second << 16 | offset, count) of the pairs that share triples at one offset."""
    table = _table(clips)
    hashes = (table >> _HASH).astype(np.uint32)
    keys = np.empty(min(MOST_KEYS, GROUP * len(table)), np.uint64)
    used = 0
    for distance in range(1, GROUP + 1):
        equal = np.flatnonzero(hashes[:-distance] == hashes[distance:])
        if not len(equal) or used + len(equal) > len(keys):
            break
        here, there = table[equal], table[equal + distance]
        first, second = here >> np.uint64(16) & np.uint64(0xFFFFFF), there >> np.uint64(16) & np.uint64(0xFFFFFF)
        offset = (here & _FRAME) + np.uint64(0x8000) - (there & _FRAME)
        found = (first << _HASH | second << np.uint64(16) | offset & _FRAME)[first != second]
        keys[used : used + len(found)] = found
        used += len(found)
    del table, hashes
    keys = keys[:used]
    keys.sort()
    new = np.ones(used, bool)
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    voted = keys[starts]
    del new, keys
    counts = np.diff(starts, append=used).astype(np.int32)
    del starts
    split = voted[1:] - voted[:-1] == 1  # a cut between frames shares its votes out
    counts[:-1][split] += counts[1:][split]
    some = counts >= LEAST_VOTES
    voted, counts = voted[some], counts[some]
    sizes = np.array([len(clip) for clip in clips])
    fewer = np.minimum(sizes[voted >> _HASH], sizes[voted >> np.uint64(16) & np.uint64(0xFFFFFF)])
    some = counts >= fewer / (PEAKS_A_VOTE * _sampling(clips))
    voted, counts = voted[some], counts[some]
    if len(voted) > MOST_CANDIDATES:
        some = counts > np.sort(counts)[-MOST_CANDIDATES]
        voted, counts = voted[some], counts[some]
    return voted, counts
