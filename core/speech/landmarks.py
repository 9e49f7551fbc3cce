"""Whether two clips are the same recording, by the spectral peaks that they share.

Triples of neighbouring coarse peaks are hashed; pairs of clips that share triples at one offset, and then a fair part
of their coarse peaks, are *candidates*. Only those are decoded once more, for their fine peaks, which decide together
with the coarse ones. Speed or pitch changes are beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from core.speech.peak_store import ClipPeaks
from core.speech.peaks import COARSE_HOP_S, FINE_HOP_S, NO_PEAKS, Peaks
from core.speech.shares import Clip, may_share, share
from core.speech.triples import agreeing, clip_triples
from core.speech.votes import LEAST_VOTES, votes

OFFSETS = 4
"""How many of a pair's most voted offsets are tried."""
LEAST_COARSE, LEAST_FINE = 8, 12
"""Peaks where two clips overlap, of the sparser one."""
CHANCE_SHARE, CANDIDATE_SPREAD = 0.33, 1.3
"""Share of the sparser clip's coarse peaks in the overlap that the other has by chance, at the best of many offsets;
and what it must have beyond that to be looked at closely, divided by the square root of their number."""
SAME_SHARE, FINE_WEIGHT = 0.45, 0.7
"""The weighted mean of the shares of coarse and fine peaks from which on two clips with many peaks are the same
recording. Fine ones tell more: chance gives fewer of them."""
SPARSE = 1.5
"""Divided by the number of peaks compared, this is asked for in addition: a share of few peaks is high by chance more
easily, as where one speaker says the same word in two short clips."""
LEAST_AGREEING = 12
"""Coarse triples that the two must have in common at that offset when they share hardly a fine one: steady hum has the
same peaks everywhere, but not the same triples."""
LISTENED_AT_ONCE = 20_000
"""Clips whose fine peaks are held together: bounds the memory where very many clips are alike."""


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
    firsts, seconds = (voted >> 40).astype(np.int64), (voted >> 16 & 0xFFFFFF).astype(np.int64)
    offsets = (voted & 0xFFFF).astype(np.int64) - 0x8000
    likely = np.flatnonzero(
        may_share(coarse, firsts, seconds, offsets, LEAST_COARSE, CHANCE_SHARE, CANDIDATE_SPREAD)
    ).tolist()
    found = []
    base, here = -1, Clip(NO_PEAKS)
    for (first, second), group in groupby(likely, lambda at: (int(firsts[at]), int(seconds[at]))):
        if first != base:
            base, here = first, Clip(coarse[first])
        there = Clip(coarse[second])
        most = sorted(((int(counts[at]), int(offsets[at])) for at in group), reverse=True)[:OFFSETS]
        best, offset, peaks = max(
            share(here, there, offset, LEAST_COARSE, CHANCE_SHARE, CANDIDATE_SPREAD) for _, offset in most
        )
        if best >= CHANCE_SHARE + CANDIDATE_SPREAD / math.sqrt(max(1, peaks)):
            found.append(Candidate(first, second, best, peaks, offset))
    return found


def confirmed(found: Sequence[Candidate], coarse: ClipPeaks, fine: Mapping[int, Peaks]) -> Iterator[Match]:
    """Those candidates that are the same recording. `fine`: the fine peaks of each clip that is in one."""
    base, here = -1, Clip(NO_PEAKS)
    for one in found:
        first, second = fine.get(one.first, NO_PEAKS), fine.get(one.second, NO_PEAKS)
        if min(len(first), len(second)) < LEAST_FINE:
            continue
        if one.first != base:
            base, here = one.first, Clip(first)
        there = Clip(second)
        middle = one.offset * COARSE_HOP_S / FINE_HOP_S
        tried = range(int(np.floor(middle)) - 1, int(np.ceil(middle)) + 2)
        coarse_part = (1 - FINE_WEIGHT) * one.share
        least = max(0.0, SAME_SHARE - coarse_part) / FINE_WEIGHT
        found_share, offset, peaks = max(share(here, there, offset, LEAST_FINE, least) for offset in tried)
        if found_share < least or FINE_WEIGHT * found_share + coarse_part < SAME_SHARE + SPARSE / (peaks + one.peaks):
            continue
        if (
            agreeing(here.triples, there.triples, offset) >= LEAST_VOTES
            or agreeing(clip_triples(coarse[one.first]), clip_triples(coarse[one.second]), one.offset) >= LEAST_AGREEING
        ):
            yield Match(one.first, one.second, round(found_share, 3), round(offset * FINE_HOP_S, 2))
