"""Whether two clips are the same recording, by what they sound like where they should be the same.

*Candidates* come from two looks at all clips. Triples of neighbouring spectral peaks are hashed: pairs of clips that
share triples at one offset, and then a fair part of their peaks, may be one recording, whatever was cut. And the course
of whole clips is compared, which stays the same when the speed, pitch or tempo is changed. Only candidates are decoded
once more, for their pictures, which decide: in the same recording, the speech is the same, not only what stands behind
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from core.audit.fingerprint.peak_store import ClipPeaks
from core.audit.fingerprint.peaks import COARSE_HOP_S, NO_PEAKS
from core.audit.fingerprint.pictures import Course, Picture, Sound, is_same, tuned
from core.audit.fingerprint.shapes import Alike, alike
from core.audit.fingerprint.shares import Clip, may_share, share
from core.audit.fingerprint.votes import votes

OFFSETS = 4
"""How many of a pair's most voted offsets are tried."""
LEAST_PEAKS = 8
"""Where two clips overlap, of the sparser one."""
CHANCE_SHARE, CANDIDATE_SPREAD = 0.33, 1.3
"""Share of the sparser clip's peaks in the overlap that the other has by chance, at the best of many offsets; and what
it must have beyond that to be looked at closely, divided by the square root of their number."""
LEAST_CHANGE = 0.012
"""Of speed or pitch, to be told."""
FRAMES_AT_ONCE = 400_000
"""Frames of clips whose pictures are held together: bounds the memory where very many clips are alike."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two clips, by position in the list, that may be the same recording."""

    first: int
    second: int
    share: float
    """Of the peaks where the two overlap."""
    peaks: int
    """How many those are, of the sparser one."""
    offset: int
    """Frames: where the second begins in the first; negative when it begins earlier."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two clips, by position in the list, that are the same recording."""

    first: int
    second: int
    share: float
    """Of one of them, what is in the other."""
    offset_s: float
    """Where the second begins in the first; negative when it begins earlier."""
    speed: float = 1.0
    """Of the second one, against the first; below 0 it runs backwards."""
    pitch: float = 1.0

    @property
    def how(self) -> str:
        """What was done to it, for a report."""
        if max(abs(abs(self.speed) - 1), abs(self.pitch - 1)) < LEAST_CHANGE:
            told = f"shifted by {self.offset_s:g} s"
        else:
            told = f"at {abs(self.speed):.2f} times the speed and {self.pitch:.2f} times the pitch"
        return told if self.speed > 0 else f"{told}, backwards"


Listen = Callable[[Sequence[int]], Iterable[Picture]]
"""The pictures of clips, given by position in the list, in order; none of what cannot be decoded any more."""


def matches(
    peaks: ClipPeaks,
    shapes: bytes | bytearray,
    listen: Listen,
    first_only: int | None = None,
) -> list[Match]:
    """Pairs of clips that have a recording or a part of one in common, ordered by their positions.

    `shapes`: as many as there are `peaks`, joined. `first_only`: only pairs of one of so many clips at the head of the
    list and one behind them.
    """
    found: dict[tuple[int, int], list[Candidate | Alike]] = {}
    every: list[Candidate | Alike] = [*candidates(peaks), *alike(shapes)]
    for one in every:
        if first_only is None or one.first < first_only <= one.second:
            found.setdefault((one.first, one.second), []).append(one)
    good = []
    for pairs in _together(list(found), peaks):
        clips = sorted({clip for pair in pairs for clip in pair})
        pictures = dict(zip(clips, listen(clips), strict=True))
        base, here = -1, Sound(pictures[clips[0]])
        for pair in pairs:
            if pair[0] != base:
                base, here = pair[0], Sound(pictures[pair[0]])
            match = judged(here, Sound(pictures[pair[1]]), found[pair])
            if match:
                good.append(match)
    return sorted(good, key=lambda match: (match.first, match.second))


def _together(pairs: Sequence[tuple[int, int]], peaks: ClipPeaks) -> Iterator[list[tuple[int, int]]]:
    """The pairs in parts whose clips are held together; those that hang together by others stand side by side, so that
    few clips are listened to twice."""
    if not pairs:
        return
    first, second = np.array(pairs).T
    links = scipy.sparse.coo_matrix((np.ones(len(first), np.int8), (first, second)), (len(peaks), len(peaks)))
    _, label = connected_components(links, directed=False)
    some: list[tuple[int, int]] = []
    close: dict[int, int] = {}
    for at in np.lexsort((second, first, label[first])).tolist():
        pair = pairs[at]
        more = {clip: int(peaks[clip][-1] >> 8) if len(peaks[clip]) else 0 for clip in pair if clip not in close}
        if some and sum(close.values()) + sum(more.values()) > FRAMES_AT_ONCE:
            yield some
            some, close = [], {}
            more = {clip: int(peaks[clip][-1] >> 8) if len(peaks[clip]) else 0 for clip in pair}
        some.append(pair)
        close |= more
    yield some


def candidates(coarse: ClipPeaks) -> list[Candidate]:
    """Pairs of clips, by their peaks, that must be looked at closely, ordered by their positions."""
    voted, counts = votes(coarse)
    firsts, seconds = (voted >> 40).astype(np.int64), (voted >> 16 & 0xFFFFFF).astype(np.int64)
    offsets = (voted & 0xFFFF).astype(np.int64) - 0x8000
    likely = np.flatnonzero(
        may_share(coarse, firsts, seconds, offsets, LEAST_PEAKS, CHANCE_SHARE, CANDIDATE_SPREAD)
    ).tolist()
    found = []
    base, here = -1, Clip(NO_PEAKS)
    for (first, second), group in groupby(likely, lambda at: (int(firsts[at]), int(seconds[at]))):
        if first != base:
            base, here = first, Clip(coarse[first])
        there = Clip(coarse[second])
        most = sorted(((int(counts[at]), int(offsets[at])) for at in group), reverse=True)[:OFFSETS]
        best, offset, peaks = max(
            share(here, there, offset, LEAST_PEAKS, CHANCE_SHARE, CANDIDATE_SPREAD) for _, offset in most
        )
        if best >= CHANCE_SHARE + CANDIDATE_SPREAD / math.sqrt(max(1, peaks)):
            found.append(Candidate(first, second, best, peaks, offset))
    return found


def judged(here: Sound, there: Sound, found: Sequence[Candidate | Alike]) -> Match | None:
    """The match of two clips, if they are the same recording."""
    if not len(here.picture) or not len(there.picture):
        return None
    for one in found:
        whole = isinstance(one, Alike)
        for course in one.courses if isinstance(one, Alike) else (Course.line(1.0, -one.offset),):
            pitch = tuned(here, there, course) if whole else 1.0
            share = is_same(here, there, course, pitch, whole)
            if share:
                offset_s = round(float(course.turned()(np.zeros(1))[0]) * COARSE_HOP_S, 2)
                return Match(one.first, one.second, round(share, 3), offset_s, round(1 / course.pace, 3), pitch)
    return None
