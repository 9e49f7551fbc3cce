"""Whether two clips are the same recording, by the spectral peaks that they share.

Triples of neighbouring coarse peaks are hashed; pairs of clips that share triples at one offset, and then a fair part
of their coarse peaks, are *candidates*. Only those are decoded once more, for their fine peaks, which decide together
with the coarse ones. Speed or pitch changes are beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from core.speech.peak_store import ClipPeaks
from core.speech.peaks import COARSE_HOP_S, FINE_HOP_S, NO_PEAKS, Peaks
from core.speech.triples import Triples, agreeing, clip_triples
from core.speech.votes import LEAST_VOTES, votes

OFFSETS = 4
"""How many of a pair's most voted offsets are tried."""
LEAST_COARSE, LEAST_FINE = 8, 12
"""Peaks where two clips overlap, of the sparser one."""
CANDIDATE_SHARE = 0.38
"""Share of the sparser clip's coarse peaks in the overlap that the other must have, to be looked at closely."""
SAME_SHARE = 0.45
"""The mean of the shares of coarse and fine peaks from which on two clips with many peaks are the same recording."""
SPARSE = 1.5
"""Divided by the number of peaks compared, this is asked for in addition: a share of few peaks is high by chance more
easily, as where one speaker says the same word in two short clips."""
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
    peaks: int
    """How many those are, of the sparser one."""
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


def matches(coarse: ClipPeaks, listen: Listen, first_only: int | None = None) -> Iterator[Match]:
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


def _listened(found: Sequence[Candidate], coarse: ClipPeaks, close: Sequence[int], listen: Listen) -> Iterator[Match]:
    return confirmed(found, coarse, dict(zip(close, listen(close), strict=True)))


def candidates(coarse: ClipPeaks) -> list[Candidate]:
    """Pairs of clips, by their coarse peaks, that must be looked at closely, ordered by their positions."""
    voted, counts = votes(coarse)
    keys = voted.tolist()
    found = []
    base, here = -1, _Clip(NO_PEAKS)
    for (first, second), group in groupby(range(len(keys)), lambda at: (keys[at] >> 40, keys[at] >> 16 & 0xFFFFFF)):
        if first != base:
            base, here = first, _Clip(coarse[first])
        there = _Clip(coarse[second])
        most = sorted(((int(counts[at]), (keys[at] & 0xFFFF) - 0x8000) for at in group), reverse=True)[:OFFSETS]
        share, offset, peaks = max(_share(here, there, offset, LEAST_COARSE, CANDIDATE_SHARE) for _, offset in most)
        if share >= CANDIDATE_SHARE:
            found.append(Candidate(first, second, share, peaks, offset))
    return found


def confirmed(found: Sequence[Candidate], coarse: ClipPeaks, fine: Mapping[int, Peaks]) -> Iterator[Match]:
    """Those candidates that are the same recording. `fine`: the fine peaks of each clip that is in one."""
    base, here = -1, _Clip(NO_PEAKS)
    for one in found:
        first, second = fine.get(one.first, NO_PEAKS), fine.get(one.second, NO_PEAKS)
        if min(len(first), len(second)) < LEAST_FINE:
            continue
        if one.first != base:
            base, here = one.first, _Clip(first)
        there = _Clip(second)
        middle = one.offset * COARSE_HOP_S / FINE_HOP_S
        tried = range(int(np.floor(middle)) - 1, int(np.ceil(middle)) + 2)
        least = max(0.0, 2 * SAME_SHARE - one.share)
        share, offset, peaks = max(_share(here, there, offset, LEAST_FINE, least) for offset in tried)
        if share < least or (share + one.share) / 2 < SAME_SHARE + SPARSE / (peaks + one.peaks):
            continue
        if (
            agreeing(here.triples, there.triples, offset) >= LEAST_VOTES
            or agreeing(clip_triples(coarse[one.first]), clip_triples(coarse[one.second]), one.offset) >= LEAST_AGREEING
        ):
            yield Match(one.first, one.second, round(share, 3), round(offset * FINE_HOP_S, 2))


class _Clip:
    """A clip's peaks, and what follows from them, made when it is asked for."""

    def __init__(self, peaks: Peaks) -> None:
        self.peaks = peaks
        self.codes = peaks.astype(np.int64)
        self.frames = self.codes >> 8

    @cached_property
    def reach(self) -> NDArray[np.bool_]:
        """Where a peak of another clip meets one of this, by frame + 1 << 8 | bin: one frame and one bin around."""
        reach = np.zeros((int(self.frames[-1]) + 4) << 8, bool)
        reach[self.codes + _AROUND] = True
        return reach

    @cached_property
    def triples(self) -> Triples:
        return clip_triples(self.peaks)


_AROUND = np.array([[256 + frame * 256 + rise] for frame in (-1, 0, 1) for rise in (-1, 0, 1)])


def _share(first: _Clip, second: _Clip, offset: int, least_peaks: int, wanted: float) -> tuple[float, int, int]:
    """(share, offset, peaks): of the sparser clip's peaks, where they overlap, the share that the other has, and their
    number; below `wanted` the share is at most that.

    `second` begins at frame `offset` of `first`. A peak may be one frame and one bin off.
    0 when the overlap is less than half of the shorter clip, or the sparser clip has too few peaks there.
    """
    frames, others = first.frames, second.frames
    begin, end = int(others[0]) + offset, int(others[-1]) + offset
    start, stop = max(int(frames[0]), begin), min(int(frames[-1]), end)
    if stop - start < LEAST_OVERLAP * min(int(frames[-1] - frames[0]), end - begin):
        return 0.0, offset, 0
    low, high = frames.searchsorted((start - 1, stop + 2))
    other_low, other_high = others.searchsorted((start - 1 - offset, stop + 2 - offset))
    fewest = int(min(high - low, other_high - other_low))
    if fewest < least_peaks:
        return 0.0, offset, 0
    found = int(np.count_nonzero(first.reach[second.codes[other_low:other_high] + (offset + 1) * 256]))
    if found >= wanted * fewest:
        back, reach = first.codes[low:high] + (1 - offset) * 256, second.reach
        found = min(found, int(np.count_nonzero(reach[np.clip(back, 0, len(reach) - 1)])))
    return found / fewest, offset, fewest
