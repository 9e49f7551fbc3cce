"""Pairs of clips that have triples of peaks in common at one offset: counted clip by clip, so that memory stays small.

A triple of neighbouring spectral peaks, hashed, is what clips of the same recording have in common, whatever was cut.
Beside the peaks themselves: 9 bytes for each of at most MOST_TRIPLES triples, and about 20 for each of PAIRS_AT_ONCE.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

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


GROUP = 48
"""Neighbours in a group of equal hashes that are compared: a triple that hundreds of clips share tells little."""
LEAST_MOST_PAIRS, PAIRS_A_CLIP = 6_000_000, 2000
"""Of equal triples, as many are counted in all, the nearest neighbours first: bounds the time where very many clips are
alike."""
PAIRS_AT_ONCE = 2_000_000
LEAST_VOTES, MOST_CANDIDATES = 2, 60_000
"""Pairs of clips with so many triples at one offset are looked at; with more, if there would be too many."""
PEAKS_A_VOTE = 20
"""And one for so many peaks of the sparser clip: between long clips, chance gives more than two."""

Keys = NDArray[np.uint64]
"""(pairs,): first << 40 | second << 16 | offset, which is 0x8000 for two clips that begin together."""
Rows = NDArray[np.uint32]
"""Positions in the table of triples."""
_CLIP, _PLACE = np.uint64(0xFFFFFF), np.uint64(0xFFFFFFFFFF)
_SECOND = np.uint64(16)
_PIECE = 1 << 17
"""Triples that are looked at together: what is made of them stays in the processor's cache."""
_ROWS = 1 << 12
"""Those whose neighbours are looked at together: these stand beside them, far from those of other triples."""


def votes(clips: ClipPeaks) -> tuple[Keys, NDArray[np.int32]]:
    """The pairs of clips that share triples at one offset, ascending, and how many they share."""
    table, every = triples_of_all(clips)
    sizes = np.fromiter(map(len, clips), np.int32, len(clips))
    following = _following(table, max(LEAST_MOST_PAIRS, PAIRS_A_CLIP * len(clips)))
    voted, counts, limit = np.empty(0, np.uint64), np.empty(0, np.int32), 0
    for keys in _pairs(table, following, len(clips)):
        some, their_counts = _counted(keys, sizes, every)
        more = their_counts > limit
        voted, counts = np.concatenate((voted, some[more])), np.concatenate((counts, their_counts[more]))
        # What has no more votes than the last of so many pairs so far will not be among so many in the end.
        if len(voted) > MOST_CANDIDATES or (limit and len(voted) == MOST_CANDIDATES):
            limit = int(np.partition(counts, -MOST_CANDIDATES)[-MOST_CANDIDATES])
            voted, counts = voted[counts > limit], counts[counts > limit]
    return voted, counts


def _following(table: Triples, most: int) -> NDArray[np.uint8]:
    """With how many of the triples behind it each is compared: those of the same hash, at most GROUP, `most` pairs."""
    following = np.zeros(len(table), np.uint8)
    equal, apart = np.zeros(GROUP + 1, np.int64), np.zeros(GROUP + 1, np.int64)
    for start in range(0, len(table), _PIECE):
        rows = np.arange(start, min(start + _PIECE, len(table)), dtype=np.uint32)
        for distance in range(1, GROUP + 1):
            # Neighbours that are equal at this distance were so at every smaller one.
            rows = rows[: np.searchsorted(rows, len(table) - distance)]
            differ = table[rows] ^ table[rows + distance]
            rows, differ = rows[differ >> HASH == 0], differ[differ >> HASH == 0]
            if not len(rows):
                break
            following[rows] = distance
            equal[distance] += len(rows)
            apart[distance] += np.count_nonzero(differ >> _SECOND)
    fits = np.cumsum(apart)[:-1] + equal[1:] <= most
    return np.minimum(following, np.uint8(GROUP if fits.all() else fits.argmin()), out=following)


def _pairs(table: Triples, following: NDArray[np.uint8], clips: int) -> Iterator[Keys]:
    """A key for each two equal hashes of different clips, ascending; the clips of a range at a time."""
    counts = np.zeros(clips, np.int64)
    for start in range(0, len(table), _PIECE):
        some = slice(start, start + _PIECE)
        counts += np.bincount(_clip(table[some]), following[some], clips).astype(np.int64)
    total = np.cumsum(counts)
    cuts = np.searchsorted(total, np.arange(0, total[-1] if clips else 0, PAIRS_AT_ONCE))
    for first, stop in pairwise([*np.unique(cuts).tolist(), clips]):
        rows = _of_clips(table, following, first, stop)
        keys = np.empty(int(following[rows].sum(dtype=np.int64)), np.uint64)
        used = 0
        for start in range(0, len(rows), _ROWS):
            found = _keys(table, rows[start : start + _ROWS], following)
            keys[used : used + len(found)] = found
            used += len(found)
        keys = keys[:used]
        keys.sort()
        yield keys


def _keys(table: Triples, rows: Rows, following: NDArray[np.uint8]) -> Keys:
    """A key for each of some triples and each that it is compared with, where these are of another clip."""
    count = following[rows]
    ahead = np.arange(1, int(count.max()) + 1, dtype=np.uint8)
    here = table[rows][:, None] & _PLACE
    there = table.take(rows[:, None] + ahead, mode="clip") & _PLACE
    base = here - (here & FRAME) << (HASH - _SECOND) | (here & FRAME) + np.uint64(0x8000)
    keys = base + (there - ((there & FRAME) << np.uint64(1)))  # the offset is one frame less the other
    found: Keys = keys[(ahead <= count[:, None]) & ((here ^ there) >> _SECOND != 0)]
    return found


def _of_clips(table: Triples, following: NDArray[np.uint8], first: int, stop: int) -> Rows:
    """The triples of clips [first, stop) that are compared with one behind them."""
    found = [np.empty(0, np.uint32)]
    for start in range(0, len(table), _PIECE):
        some = slice(start, start + _PIECE)
        clip = _clip(table[some])
        rows = np.flatnonzero((clip >= first) & (clip < stop) & (following[some] > 0))
        found.append((rows + start).astype(np.uint32))
    return np.concatenate(found)


def _clip(triples: Triples) -> NDArray[np.int64]:
    return (triples >> _SECOND & _CLIP).astype(np.int64)


def _counted(keys: Keys, sizes: NDArray[np.int32], every: int) -> tuple[Keys, NDArray[np.int32]]:
    """Each of ascending keys once with how often it is there, where that is often enough."""
    close = np.diff(keys) <= 1
    keys = keys[np.append(close, False) | np.insert(close, 0, False)] if len(keys) else keys
    starts = np.flatnonzero(np.concatenate((np.ones(min(1, len(keys)), bool), keys[1:] != keys[:-1])))
    voted, counts = keys[starts], np.diff(starts, append=len(keys)).astype(np.int32)
    split = voted[1:] - voted[:-1] == 1  # a cut between frames shares its votes out
    counts[:-1][split] += counts[1:][split]
    some = counts >= LEAST_VOTES
    voted, counts = voted[some], counts[some]
    fewer = np.minimum(sizes[voted >> HASH], sizes[voted >> _SECOND & _CLIP])
    some = counts >= fewer / (PEAKS_A_VOTE * every)
    return voted[some], counts[some]
