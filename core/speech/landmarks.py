"""Whether two clips are the same recording, by the spectral peaks that they share.

Triples of neighbouring coarse peaks are hashed; pairs of clips that share triples at one offset, and then a fair part
of their coarse peaks, are *candidates*. Only those are decoded once more, for their fine peaks, which decide together
with the coarse ones. Speed or pitch changes are beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.speech.peaks import COARSE_HOP_S, FINE_HOP_S, NO_PEAKS, Peaks

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
OFFSETS = 4
"""How many of a pair's most voted offsets are tried."""
LEAST_COARSE, LEAST_FINE = 8, 12
"""Peaks where two clips overlap, of the sparser one."""
CANDIDATE_SHARE = 0.38
"""Share of the sparser clip's coarse peaks in the overlap that the other must have, to be looked at closely."""
SAME_SHARE = 0.45
"""The mean of the shares of coarse and fine peaks from which on two clips are the same recording."""
LEAST_AGREEING = 12
"""Coarse triples that the two must have in common at that offset when they share hardly a fine one: steady hum has the
same peaks everywhere, but not the same triples."""
LISTENED_AT_ONCE = 20_000
"""Clips whose fine peaks are held together: bounds the memory where very many clips are alike."""
LEAST_OVERLAP = 0.5
"""The overlap must be at least this share of the shorter clip."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two clips, by position in the list, that may be the same recording."""

    first: int
    second: int
    share: float
    """Of the coarse peaks where the two overlap."""
    offset: int
    """Coarse frames: where the second begins in the first; negative when it begins earlier."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two clips, by position in the list, that are the same recording."""

    first: int
    second: int
    share: float
    """Of the fine peaks where the two overlap."""
    offset_s: float
    """Where the second begins in the first; negative when it begins earlier."""


Listen = Callable[[Sequence[int]], Iterable[Peaks]]
"""The fine peaks of clips, given by position in the list, in order; none of what cannot be decoded any more."""


def matches(coarse: Sequence[Peaks], listen: Listen, first_only: int | None = None) -> Iterator[Match]:
    """Pairs of clips that are the same recording, whole or in part, ordered by their positions.

    `first_only`: only pairs of one of so many clips at the head of the list and one behind them.
    """
    found = candidates(coarse)
    if first_only is not None:
        found = [one for one in found if one.first < first_only <= one.second]
    some: list[Candidate] = []
    close: set[int] = set()
    for one in found:
        some.append(one)
        close |= {one.first, one.second}
        if len(close) >= LISTENED_AT_ONCE:
            yield from _listened(some, coarse, sorted(close), listen)
            some, close = [], set()
    yield from _listened(some, coarse, sorted(close), listen)


def _listened(
    found: Sequence[Candidate], coarse: Sequence[Peaks], close: Sequence[int], listen: Listen
) -> Iterator[Match]:
    return confirmed(found, coarse, dict(zip(close, listen(close), strict=True)))


def candidates(coarse: Sequence[Peaks]) -> list[Candidate]:
    """Pairs of clips, by their coarse peaks, that must be looked at closely, ordered by their positions."""
    best: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for key, count in zip(*(votes.tolist() for votes in _votes(coarse)), strict=True):
        best.setdefault((key >> 40, key >> 16 & 0xFFFFFF), []).append((count, (key & 0xFFFF) - 0x8000))
    found = []
    base, reach = -1, np.empty(0, bool)
    for (first, second), offsets in sorted(best.items()):
        if first != base:
            base, reach = first, _reach(coarse[first])
        share, offset = max(
            (_share(coarse[first], reach, coarse[second], offset, LEAST_COARSE, CANDIDATE_SHARE), offset)
            for _, offset in sorted(offsets, reverse=True)[:OFFSETS]
        )
        if share >= CANDIDATE_SHARE:
            found.append(Candidate(first, second, share, offset))
    return found


def confirmed(found: Sequence[Candidate], coarse: Sequence[Peaks], fine: Mapping[int, Peaks]) -> Iterator[Match]:
    """Those candidates that are the same recording. `fine`: the fine peaks of each clip that is in one."""
    base, reach = -1, np.empty(0, bool)
    for one in found:
        first, second = fine.get(one.first, NO_PEAKS), fine.get(one.second, NO_PEAKS)
        if min(len(first), len(second)) < LEAST_FINE:
            continue
        if one.first != base:
            base, reach = one.first, _reach(first)
        middle = one.offset * COARSE_HOP_S / FINE_HOP_S
        tried = range(int(np.floor(middle)) - 1, int(np.ceil(middle)) + 2)
        least = max(0.0, 2 * SAME_SHARE - one.share)
        share, offset = max((_share(first, reach, second, offset, LEAST_FINE, least), offset) for offset in tried)
        if share < least:
            continue
        if (
            _agreeing(first, second, offset) >= LEAST_VOTES
            or _agreeing(coarse[one.first], coarse[one.second], one.offset) >= LEAST_AGREEING
        ):
            yield Match(one.first, one.second, round(share, 3), round(offset * FINE_HOP_S, 2))


def _share(
    first: Peaks, reach: NDArray[np.bool_], second: Peaks, offset: int, least_peaks: int, wanted: float
) -> float:
    """The share of the sparser clip's peaks that the other has, where they overlap; below `wanted`, at most that.

    `second` begins at frame `offset` of `first`, whose `_reach` is given. A peak may be one frame and one bin off.
    0 when the overlap is less than half of the shorter clip, or the sparser clip has too few peaks there.
    """
    frames, others = (first >> 8).astype(np.int64), (second >> 8).astype(np.int64) + offset
    start, stop = max(frames[0], others[0]), min(frames[-1], others[-1])
    if stop - start < LEAST_OVERLAP * min(frames[-1] - frames[0], others[-1] - others[0]):
        return 0.0
    low, high = np.searchsorted(frames, (start - 1, stop + 2))
    other_low, other_high = np.searchsorted(others, (start - 1, stop + 2))
    fewest = int(min(high - low, other_high - other_low))
    if fewest < least_peaks:
        return 0.0
    codes = (others[other_low:other_high] + 1) << 8 | (second[other_low:other_high] & 255)
    found = int(np.count_nonzero(reach[codes]))
    if found >= wanted * fewest:
        back = (frames[low:high] - offset + 1) << 8 | (first[low:high] & 255)
        other_reach = _reach(second)
        found = min(found, int(np.count_nonzero(other_reach[np.clip(back, 0, len(other_reach) - 1)])))
    return found / fewest


def _reach(peaks: Peaks) -> NDArray[np.bool_]:
    """Where a peak of another clip meets one of `peaks`, by frame + 1 << 8 | bin: one frame and one bin around."""
    codes = (peaks.astype(np.int64)) + 256
    reach = np.zeros((int(peaks[-1] >> 8) + 4) << 8, bool)
    for frame in (-1, 0, 1):
        for rise in (-1, 0, 1):
            reach[codes + (frame * 256 + rise)] = True
    return reach


def _agreeing(first: Peaks, second: Peaks, offset: int) -> int:
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


def _votes(clips: Sequence[Peaks]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
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
    counts = np.diff(starts, append=used)
    votes = keys[starts]
    del new, keys
    counts[:-1] += np.where(votes[1:] - votes[:-1] == 1, counts[1:], 0)  # a cut between frames shares its votes out
    some = counts >= LEAST_VOTES
    votes, counts = votes[some], counts[some]
    sizes = np.array([len(clip) for clip in clips])
    fewer = np.minimum(sizes[votes >> _HASH], sizes[votes >> np.uint64(16) & np.uint64(0xFFFFFF)])
    some = counts >= fewer / (PEAKS_A_VOTE * _sampling(clips))
    votes, counts = votes[some], counts[some]
    if len(votes) > MOST_CANDIDATES:
        some = counts > np.sort(counts)[-MOST_CANDIDATES]
        votes, counts = votes[some], counts[some]
    return votes, counts
