"""The share of their spectral peaks that two clips have in common where they overlap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from core.audit.fingerprint.peak_store import ClipPeaks
from core.audit.fingerprint.peaks import Peaks

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
