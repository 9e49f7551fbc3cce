"""Triples of neighbouring spectral peaks, hashed: what clips of the same recording have in common, whatever was cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.audit.fingerprint.peak_store import ClipPeaks

MOST_FRAMES, FAN_OUT = 31, 7
"""Triples: a peak and two of the 7 next ones, which are no neighbours, within this many frames."""
LEAST_MOST, A_CLIP, MOST_TRIPLES = 4_000_000, 160, 16_000_000
"""Triples of all clips together, so many for each beyond the first number: 8 bytes each. Where there are more, a fixed
share of the hashes is looked at, the same for every clip."""

Triples = NDArray[np.uint64]
"""(triples,): hash << 40 | clip << 16 | frame."""
HASH_BITS, HASH = 24, np.uint64(40)
FRAME = np.uint64(0xFFFF)

_PAIRS = [(near, far) for near in range(FAN_OUT) for far in range(near + 2, FAN_OUT)]
_MIXER = 0x9E3779B97F4A7C1
_ABOVE, _MASK = np.uint64(24), np.uint32((1 << HASH_BITS) - 1)
"""The hash is the product's bits 24 to 47, which depend on all fields."""
_AT_ONCE = 64
"""Clips whose triples are made together: a call for each would take longer than its triples, more leave the cache."""


def triples_of_all(clips: ClipPeaks) -> tuple[Triples, int]:
    """The triples of all clips, ascending, in one array sorted in place, and of how many hashes one is in it."""
    most = len(_PAIRS) * sum(map(len, clips))
    wanted = min(MOST_TRIPLES, max(LEAST_MOST, A_CLIP * len(clips)))
    every = 1 + most // wanted
    table = np.empty(min(wanted * 5 // 4, most), np.uint64)
    used = 0
    for start in range(0, len(clips), _AT_ONCE):
        block = [clips[index] for index in range(start, min(start + _AT_ONCE, len(clips)))]
        peaks = np.concatenate(block)
        clip = np.repeat(np.arange(start, start + len(block)), [len(one) for one in block])
        some = _triples(clip << 16 | peaks >> 8, peaks & 255, every)
        while used + len(some) > len(table) and every < 1 << HASH_BITS:
            # Few different hashes: more of them than a fair share may be kept ones.
            every *= 2
            kept = _kept(table[:used], every)
            used = len(kept)
            table[:used] = kept
            some = _kept(some, every)
        some = some[: len(table) - used]
        table[used : used + len(some)] = some
        used += len(some)
    table = table[:used]
    table.sort()
    return table, every


def _kept(triples: Triples, every: int) -> Triples:
    return triples[_is_looked_at((triples >> HASH).astype(np.uint32), every)]


def _is_looked_at(hashes: NDArray[np.uint32], every: int) -> NDArray[np.bool_]:
    good: NDArray[np.bool_] = hashes // every * every == hashes  # several times faster than a remainder
    return good


def _triples(places: NDArray[np.integer], bins: NDArray[np.integer], every: int) -> Triples:
    """The triples of clips one after the other, of one in `every` hash: bins and distances of three peaks, in 24 bits.

    `places` of peaks are clip << 16 | frame, ascending, so that peaks of different clips are too far apart.
    """
    waits, rises = _ahead(places, -1) - places.astype(np.int64), _ahead(bins, 0) - bins.astype(np.int64) & 255
    near_enough = (waits > 0) & (waits <= MOST_FRAMES)
    # The hash of a triple is a product of its fields, side by side in one number, so it is the sum of two products,
    # each of which belongs to several triples. What overflows is meant to.
    near = ((waits << 8 | rises << 18 | bins) * _MIXER).view(np.uint64)
    far = ((waits << 13 | rises << 26) * _MIXER).view(np.uint64)
    where = places.astype(np.uint64)
    found = []
    for one, other in _PAIRS:
        products = near[one] + far[other]
        good = near_enough[other]
        if every > 1:
            good = good & _is_looked_at((products >> _ABOVE).astype(np.uint32) & _MASK, every)
        found.append((products[good] >> _ABOVE) << HASH | where[good])
    return np.concatenate(found)


def _ahead(values: NDArray[np.integer], beyond: int) -> NDArray[np.int64]:
    """(FAN_OUT, count): the 1st, 2nd, … value after each; `beyond` behind the last one."""
    padded = np.full(len(values) + FAN_OUT, beyond, np.int64)
    padded[: len(values)] = values
    step = padded.itemsize
    return np.ndarray((FAN_OUT, len(values)), np.int64, padded, step, (step, step))
