"""Acoustic fingerprints: the spectral peaks of a clip, and whether two clips are the same recording.

A peak is a place (frame, bin) that is louder than all of its neighbourhood. Peaks stay where they are when a recording
is made louder, re-encoded, resampled or cut, so two clips of one recording share most of them at one offset. Found in
two steps: triples of neighbouring peaks are hashed, and pairs of clips that share triples at one offset are candidates;
then the peaks themselves are laid over each other. Speed or pitch changes are beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray

from core.speech.sound_file import Samples

FRAME_S, HOP_S = 0.064, 0.02
DIRECT_HZ = (8_000, 16_000)
"""Rates at which a clip is looked at as it is; others are brought to the first."""
LOWEST_BIN, HIGHEST_BIN = 8, 232
"""125 to 3625 Hz: what a telephone and a bad codec keep."""
NEAR_FRAMES, NEAR_BINS = 3, 8
"""A peak is the loudest of 7 frames by 17 bins around it: 30 to 60 a second of speech."""
FLOOR = 10 ** (-50 / 20)
"""Peaks more than 50 dB below the clip's loudest are noise."""
LONGEST_S = 600.0
_BLOCK = 2048
"""Frames at once: bounds the memory."""
_NOTHING = 1e-12

MOST_FRAMES, FAN_OUT = 31, 4
"""Triples: a peak and two of the 4 next ones, within this many frames."""
_COMBINATIONS = FAN_OUT * (FAN_OUT - 1) // 2
MOST_TRIPLES = 6_000_000
"""Of all clips together; beyond it a fixed share of the hashes is looked at, the same for every clip."""
MOST_KEYS = 12_000_000
"""Pairs of equal triples that are counted: bounds the memory where very many clips are alike."""
GROUP = 48
"""Neighbours in a group of equal hashes that are compared: a triple that hundreds of clips share tells little."""
LEAST_VOTES, MOST_CANDIDATES = 2, 60_000
"""Pairs with so many triples at one offset are looked at; with more, if there would be too many pairs."""
LEAST_PEAKS = 12
SAME_SHARE = 0.45
"""Share of the sparser clip's peaks in the overlap that the other must have. Different recordings reach 0.3."""
OFFSETS = 3
"""How many of a pair's most voted offsets are tried."""
LEAST_OVERLAP = 0.5
"""The overlap must be at least this share of the shorter clip."""

Peaks = NDArray[np.uint32]
"""(peaks,): frame << 8 | bin, ascending."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two clips, by position in the list, that are the same recording."""

    first: int
    second: int
    share: float
    """Of the peaks where the two overlap."""
    offset_s: float
    """Where the second begins in the first; negative when it begins earlier."""


def find_peaks(samples: Samples, rate_hz: int = 16_000) -> Peaks:
    """The peaks of a clip (samples,); none for silence or less than a frame. Of long clips the beginning."""
    samples = samples[: int(LONGEST_S * rate_hz)]
    if rate_hz not in DIRECT_HZ:
        samples, rate_hz = np.asarray(soxr.resample(samples, rate_hz, DIRECT_HZ[0])), DIRECT_HZ[0]
    width, hop = round(FRAME_S * rate_hz), round(HOP_S * rate_hz)
    if len(samples) < width:
        return np.empty(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, width)[::hop]
    window = _WINDOWS[rate_hz]
    found, powers = [], []
    for start in range(0, len(frames), _BLOCK):
        first, last = max(0, start - NEAR_FRAMES), start + _BLOCK + NEAR_FRAMES
        # scipy's transform of many short frames is four times faster than numpy's.
        spectrum = scipy.fft.rfft(frames[first:last] * window, axis=1)[:, LOWEST_BIN:HIGHEST_BIN]
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        tops = power == _maximum(_maximum(power, NEAR_FRAMES, 0), NEAR_BINS, 1)
        at, which = np.divmod(np.flatnonzero(tops), HIGHEST_BIN - LOWEST_BIN)
        inside = (at + first >= start) & (at + first < start + _BLOCK)
        powers.append(power[at, which][inside])
        found.append((((at + first) << 8) | which)[inside])
    power, peaks = np.concatenate(powers), np.concatenate(found)
    loud = power > max(float(power.max(initial=0.0)) * FLOOR**2, _NOTHING)
    return peaks[loud].astype(np.uint32)


def matches(clips: Sequence[Peaks]) -> Iterator[Match]:
    """Pairs of clips that are the same recording, whole or in part, ordered by their positions."""
    best: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for key, count in zip(*_votes(clips), strict=True):
        first, second, offset = int(key) >> 40, (int(key) >> 16) & 0xFFFFFF, (int(key) & 0xFFFF) - 0x8000
        best.setdefault((first, second), []).append((int(count), offset))
    base, reach = -1, np.empty(0, bool)
    for (first, second), offsets in sorted(best.items()):
        if first != base:
            base, reach = first, _reach(clips[first])
        tried = sorted(offsets, reverse=True)[:OFFSETS]
        share, offset = max((_share(clips[first], reach, clips[second], offset), offset) for _, offset in tried)
        if share >= SAME_SHARE:
            yield Match(first, second, round(share, 3), round(offset * HOP_S, 2))


def _share(first: Peaks, reach: NDArray[np.bool_], second: Peaks, offset: int) -> float:
    """The share of the sparser clip's peaks that the other has, where they overlap; below SAME_SHARE, at most that.

    `second` begins at frame `offset` of `first`, whose `_reach` is given. A peak may be one frame and one bin off.
    0 when the overlap is less than half of the shorter clip.
    """
    frames, others = (first >> 8).astype(np.int64), (second >> 8).astype(np.int64) + offset
    start, stop = max(frames[0], others[0]), min(frames[-1], others[-1])
    if stop - start < LEAST_OVERLAP * min(frames[-1] - frames[0], others[-1] - others[0]):
        return 0.0
    low, high = np.searchsorted(frames, (start - 1, stop + 2))
    other_low, other_high = np.searchsorted(others, (start - 1, stop + 2))
    fewest = int(min(high - low, other_high - other_low))
    if fewest < LEAST_PEAKS:
        return 0.0
    codes = (others[other_low:other_high] + 1) << 8 | (second[other_low:other_high] & 255)
    found = int(np.count_nonzero(reach[codes]))
    if found >= SAME_SHARE * fewest:
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


_WINDOWS = {rate_hz: np.hanning(round(FRAME_S * rate_hz)).astype(np.float32) for rate_hz in DIRECT_HZ}


def _maximum(values: NDArray[np.float32], side: int, axis: int) -> NDArray[np.float32]:
    """The maximum of `side` neighbours on both sides along an axis, by doubling windows."""
    width, reach = 2 * side + 1, 1
    pad = [(0, 0), (0, 0)]
    pad[axis] = (side, side)
    current = np.pad(values, pad)
    while reach < width:
        shift = min(reach, width - reach)
        ahead, behind = [slice(None)] * 2, [slice(None)] * 2
        ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
        current = np.maximum(current[tuple(ahead)], current[tuple(behind)])
        reach += shift
    return current


def _triples(peaks: Peaks) -> NDArray[np.uint64]:
    """A clip's triples, hash << 40 | frame: bins and distances of three peaks, mixed into 24 bits, and where."""
    frames, bins = (peaks >> 8).astype(np.int64), (peaks & 255).astype(np.int64)
    found = []
    for near in range(1, FAN_OUT):
        for far in range(near + 1, FAN_OUT + 1):
            base = slice(0, -far)
            count = max(0, len(peaks) - far)
            one, two = slice(near, near + count), slice(far, far + count)
            wait1, wait2 = frames[one] - frames[base], frames[two] - frames[base]
            rise1, rise2 = bins[one] - bins[base], bins[two] - bins[base]
            good = (wait2 <= MOST_FRAMES) & (wait2 > 0)
            code = bins[base] | (wait1 & 31) << 8 | (wait2 & 31) << 13 | (rise1 & 255) << 18 | (rise2 & 255) << 26
            mixed = (code[good] * 0x9E3779B97F4A7C1).astype(np.uint64) >> np.uint64(24) & np.uint64(0xFFFFFF)
            found.append(mixed << np.uint64(40) | frames[base][good].astype(np.uint64) & np.uint64(0xFFFF))
    return np.concatenate(found)


def _table(clips: Sequence[Peaks]) -> NDArray[np.uint64]:
    """The triples of all clips, hash << 40 | clip << 16 | frame, ascending: one array, sorted where it stands."""
    every = np.uint64(1 + _COMBINATIONS * sum(map(len, clips)) // MOST_TRIPLES)
    table = np.empty(min(MOST_TRIPLES * 2, _COMBINATIONS * sum(map(len, clips))), np.uint64)
    used = 0
    for index, peaks in enumerate(clips):
        if len(peaks) < LEAST_PEAKS:
            continue
        some = _triples(peaks)
        if every > 1:
            some = some[(some >> np.uint64(40)) % every == 0]
        some = some[: len(table) - used]
        table[used : used + len(some)] = some | np.uint64(index << 16)
        used += len(some)
    table = table[:used]
    table.sort()
    return table


def _votes(clips: Sequence[Peaks]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(first << 40 | second << 16 | offset, count) of the pairs that share triples at one offset."""
    table = _table(clips)
    keys: list[NDArray[np.uint64]] = []
    for distance in range(1, GROUP + 1):
        equal = np.flatnonzero(table[:-distance] >> np.uint64(40) == table[distance:] >> np.uint64(40))
        if not len(equal) or sum(map(len, keys)) + len(equal) > MOST_KEYS:
            break
        here, there = table[equal], table[equal + distance]
        first, second = here >> np.uint64(16) & np.uint64(0xFFFFFF), there >> np.uint64(16) & np.uint64(0xFFFFFF)
        offset = (here & np.uint64(0xFFFF)) + np.uint64(0x8000) - (there & np.uint64(0xFFFF))
        inside = first != second
        keys.append((first << np.uint64(40) | second << np.uint64(16) | offset & np.uint64(0xFFFF))[inside])
    del table
    if not keys:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    every = np.concatenate(keys)
    keys.clear()
    every.sort()
    starts = np.flatnonzero(np.concatenate(([True], every[1:] != every[:-1]))) if len(every) else np.empty(0, np.int64)
    counts = np.diff(starts, append=len(every))
    least = LEAST_VOTES
    while np.count_nonzero(counts >= least) > MOST_CANDIDATES:
        least += 1
    enough = counts >= least
    return every[starts[enough]], counts[enough]
