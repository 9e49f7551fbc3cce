"""Whether two clips are the same recording, by what they sound like where they should be the same.

*Candidates* come from two looks at all clips. Triples of neighbouring spectral peaks are hashed: pairs of clips that
share triples at one offset, and then a fair part of their peaks where they overlap, may be one recording, whatever was
cut. And the course of whole clips is compared, which stays the same when the speed, pitch or tempo is changed. Only
candidates are decoded once more, for their pictures, which decide: in the same recording, the speech is the same, not
only what stands behind it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from core.audit.fingerprint.peak_store import ClipPeaks, Fingerprints
from core.audit.fingerprint.peaks import COARSE_HOP_S, NO_PEAKS, Peaks
from core.audit.fingerprint.pictures import Course, Picture, Sound, is_same, tuned
from core.audit.fingerprint.shapes import Alike, alike
from core.audit.fingerprint.votes import votes

LEAST_OVERLAP = 0.5
"""The overlap must be at least this share of the shorter clip."""
_AROUND = np.array([[256 + frame * 256 + rise] for frame in (-1, 0, 1) for rise in (-1, 0, 1)])
"""A peak may be one frame and one bin off; places are given one frame later, so that none is negative."""
_PAIRS_AT_ONCE, _FRAMES_AT_ONCE = 256, 1 << 15
"""Pairs of clips, and frames of their first clips, that are looked at together: bounds the memory."""


class Clip:
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


def share(
    first: Clip, second: Clip, offset: int, least_peaks: int, wanted: float, spread: float = 0.0
) -> tuple[float, int, int]:
    """(share, offset, peaks): of the sparser clip's peaks, where they overlap, the share that the other has, and their
    number; below `wanted`, and `spread` divided by the root of the number, the share is at most that.

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
    if found >= wanted * fewest + spread * math.sqrt(fewest):
        back, reach = first.codes[low:high] + (1 - offset) * 256, second.reach
        found = min(found, int(np.count_nonzero(reach[np.clip(back, 0, len(reach) - 1)])))
    return found / fewest, offset, fewest


def may_share(
    clips: ClipPeaks,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    offset: NDArray[np.int64],
    least_peaks: int,
    wanted: float,
    spread: float,
) -> NDArray[np.bool_]:
    """(pairs,): for which pairs of clips `share` can be what is `wanted`: seen from the second one alone, but for many
    pairs in a tenth of the time. `first`, ascending, and `second` are positions in `clips`, `offset` as `share` has it.
    """
    good = np.zeros(len(first), np.bool_)
    for some in _blocks(clips, first):
        ones, which = np.unique(first[some], return_inverse=True)
        here, there = [clips[int(one)] for one in ones], [clips[int(one)] for one in second[some]]
        codes, others = np.concatenate(here).astype(np.int64), np.concatenate(there).astype(np.int64)
        clip, pair = _owners(here), _owners(there)
        ends = np.array([(peaks[0] >> 8, peaks[-1] >> 8) for peaks in here], np.int64)
        their_ends = np.array([(peaks[0] >> 8, peaks[-1] >> 8) for peaks in there], np.int64) + offset[some][:, None]
        start, stop = np.maximum(ends[which, 0], their_ends[:, 0]), np.minimum(ends[which, 1], their_ends[:, 1])
        shorter = np.minimum(ends[which, 1] - ends[which, 0], their_ends[:, 1] - their_ends[:, 0])

        base = np.cumsum(ends[:, 1] + 4) - ends[:, 1] - 4 << 8
        reach = np.zeros(int(base[-1]) + (int(ends[-1, 1]) + 4 << 8), np.bool_)
        reach[codes + base[clip] + _AROUND] = True
        frames = (others >> 8) + offset[some][pair]
        inside = (frames >= start[pair] - 1) & (frames < stop[pair] + 2)
        pair, others = pair[inside], others[inside]
        met = reach[others + ((offset[some] + 1 << 8) + base[which])[pair]]

        places = clip << 24 | codes >> 8
        low, high = (places.searchsorted(which << 24 | np.maximum(at, 0)) for at in (start - 1, stop + 2))
        fewest = np.minimum(high - low, np.bincount(pair, minlength=len(which)))
        found = np.bincount(pair[met], minlength=len(which))
        good[some] = (
            (stop - start >= LEAST_OVERLAP * shorter)
            & (fewest >= least_peaks)
            & (found >= wanted * fewest + spread * np.sqrt(fewest))
        )
    return good


def _blocks(clips: ClipPeaks, first: NDArray[np.int64]) -> Iterator[slice]:
    """Pairs that are looked at together, by their first clips."""
    start, frames = 0, 0
    for at in range(len(first)):
        new = at == start or first[at] != first[at - 1]
        more = int(clips[int(first[at])][-1] >> 8) + 4 if new else 0
        if at > start and (at - start == _PAIRS_AT_ONCE or frames + more > _FRAMES_AT_ONCE):
            yield slice(start, at)
            start, frames = at, 0
            more = int(clips[int(first[at])][-1] >> 8) + 4
        frames += more
    if len(first):
        yield slice(start, len(first))


def _owners(parts: list[Peaks]) -> NDArray[np.int64]:
    """Of which of the joined `parts` each peak is."""
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])


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


def matches(prints: Fingerprints, listen: Listen, first_only: int | None = None) -> list[Match]:
    """Pairs of clips that have a recording or a part of one in common, ordered by their positions. The courses are let
    go on the way, for there may be very many clips.

    `first_only`: only pairs of one of so many clips at the head of the list and one behind them.
    """
    whole = alike(prints.shapes)
    prints.shapes = bytearray()
    rows = np.concatenate([_rows(candidates(prints.peaks), whole=False), _rows(whole.pairs, whole=True)])
    if first_only is not None:
        rows = rows[(rows["first"] < first_only) & (rows["second"] >= first_only)]
    rows = rows[np.lexsort((rows["whole"], rows["second"], rows["first"]))]
    good = []
    for some in _together(rows, prints.peaks):
        clips = np.unique([some["first"], some["second"]]).tolist()
        pictures = dict(zip(clips, listen(clips), strict=True))
        base, here = -1, Sound(pictures[clips[0]])
        for (first, second), ways in groupby(some.tolist(), itemgetter(0, 1)):
            if first != base:
                base, here = first, Sound(pictures[first])
            match = judged(first, second, here, Sound(pictures[second]), _courses(ways, whole))
            if match:
                good.append(match)
    return sorted(good, key=lambda match: (match.first, match.second))


_ROW = np.dtype([("first", np.int32), ("second", np.int32), ("whole", np.bool_), ("how", np.int32)])
"""Two clips, by position (first < second), that may be the same: from end to end, where `how` says whether one of them
is backwards, or in a part, where it is the frame of the first one at which the second begins."""


def _rows(pairs: NDArray[np.int64], whole: bool) -> NDArray[np.void]:
    """`pairs`: (pairs, 3)."""
    rows = np.empty(len(pairs), _ROW)
    rows["first"], rows["second"], rows["how"] = pairs.T
    rows["whole"] = whole
    return rows


def _courses(ways: Iterable[tuple[int, int, bool, int]], alike: Alike) -> Iterator[tuple[Course, bool]]:
    """Where the second clip of a pair may be in the first one, and whether both are compared from end to end."""
    for first, second, whole, how in ways:
        if whole:
            yield from ((course, True) for course in alike.courses(first, second, bool(how)))
        else:
            yield Course.line(1.0, -how), False


def _together(rows: NDArray[np.void], peaks: ClipPeaks) -> Iterator[NDArray[np.void]]:
    """The pairs in parts whose clips are held together; those that hang together by others stand side by side, so that
    few clips are listened to twice."""
    if not len(rows):
        return
    first, second = rows["first"], rows["second"]
    links = scipy.sparse.coo_matrix((np.ones(len(rows), np.int8), (first, second)), (len(peaks), len(peaks)))
    _, label = connected_components(links, directed=False)
    rows = rows[np.lexsort((rows["whole"], second, first, label[first]))]
    start, held, before = 0, 0, (-1, -1)
    close = set[int]()
    for at, pair in enumerate(zip(rows["first"].tolist(), rows["second"].tolist(), strict=True)):
        if pair == before:
            continue
        before = pair
        held += sum(_frames(peaks[clip]) for clip in pair if clip not in close)
        if at > start and held > FRAMES_AT_ONCE:
            yield rows[start:at]
            start, close, held = at, set(), sum(_frames(peaks[clip]) for clip in pair)
        close.update(pair)
    yield rows[start:]


def _frames(peaks: Peaks) -> int:
    """About how many frames a clip has."""
    return int(peaks[-1] >> 8) if len(peaks) else 0


def candidates(coarse: ClipPeaks) -> NDArray[np.int64]:
    """Pairs of clips, by their peaks, that must be looked at closely, ascending: (pairs, 3), the position of the first
    and of the second one in the list, and at which frame of the first one the second begins; negative when it begins
    earlier."""
    voted, counts = votes(coarse)
    firsts, seconds = (voted >> 40).astype(np.int64), (voted >> 16 & 0xFFFFFF).astype(np.int64)
    offsets = (voted & 0xFFFF).astype(np.int64) - 0x8000
    likely = np.flatnonzero(
        may_share(coarse, firsts, seconds, offsets, LEAST_PEAKS, CHANCE_SHARE, CANDIDATE_SPREAD)
    ).tolist()
    found = array("q")
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
            found.extend((first, second, offset))
    return np.array(found, np.int64).reshape(-1, 3)


def judged(first: int, second: int, here: Sound, there: Sound, courses: Iterable[tuple[Course, bool]]) -> Match | None:
    """The match of two clips, if they are the same recording. `courses`: where the second may be in the first, and
    whether both are compared from end to end."""
    if not len(here.picture) or not len(there.picture):
        return None
    for course, whole in courses:
        pitch = tuned(here, there, course) if whole else 1.0
        share = is_same(here, there, course, pitch, whole)
        if share:
            offset_s = round(float(course.turned()(np.zeros(1))[0]) * COARSE_HOP_S, 2)
            return Match(first, second, round(share, 3), offset_s, round(1 / course.pace, 3), pitch)
    return None
