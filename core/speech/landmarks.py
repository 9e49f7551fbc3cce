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
from numpy.typing import NDArray

from core.speech.sound_file import Samples

FRAME, HOP = 1024, 320
"""Samples at 16 kHz: 64 ms frames every 20 ms."""
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


def find_peaks(samples: Samples) -> Peaks:
    """The peaks of a clip (samples,) at 16 kHz; none for silence or less than a frame. Of long clips the beginning."""
    samples = samples[: int(LONGEST_S * 16_000)]
    if len(samples) < FRAME:
        return np.empty(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    found, powers = [], []
    for start in range(0, len(frames), _BLOCK):
        first, last = max(0, start - NEAR_FRAMES), start + _BLOCK + NEAR_FRAMES
        spectrum = np.fft.rfft(frames[first:last] * _WINDOW, axis=1)[:, LOWEST_BIN:HIGHEST_BIN]
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        at, which = np.nonzero(power == _maximum(_maximum(power, NEAR_BINS, 1), NEAR_FRAMES, 0))
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
    for (first, second), offsets in sorted(best.items()):
        tried = sorted(offsets, reverse=True)[:OFFSETS]
        share, offset = max((same_share(clips[first], clips[second], offset), offset) for _, offset in tried)
        if share >= SAME_SHARE:
            yield Match(first, second, round(share, 3), round(offset * HOP / 16_000, 2))


def same_share(first: Peaks, second: Peaks, offset: int) -> float:
    """The share of the sparser clip's peaks that the other has, where they overlap.

    `second` begins at frame `offset` of `first`. A peak may be one frame and one bin off.
    0 when the overlap is less than half of the shorter clip.
    """
    frames, bins = (first >> 8).astype(np.int64), (first & 255).astype(np.int64)
    others, other_bins = (second >> 8).astype(np.int64) + offset, (second & 255).astype(np.int64)
    start, stop = max(frames[0], others[0]), min(frames[-1], others[-1])
    if stop - start < LEAST_OVERLAP * min(frames[-1] - frames[0], others[-1] - others[0]):
        return 0.0
    inside = (frames >= start - 1) & (frames <= stop + 1)
    inside_other = (others >= start - 1) & (others <= stop + 1)
    fewest = min(int(inside.sum()), int(inside_other.sum()))
    if fewest < LEAST_PEAKS:
        return 0.0
    one = (frames << 8 | bins)[inside]
    another = (others << 8 | other_bins)[inside_other]
    found = min(np.isin(one, _around(another)).sum(), np.isin(another, _around(one)).sum())
    return float(found) / fewest


def _around(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Peaks and their neighbours, one frame and one bin off."""
    steps = np.array([frame * 256 + rise for frame in (-1, 0, 1) for rise in (-1, 0, 1)])
    return np.asarray(codes[:, None] + steps).ravel()


_WINDOW = np.hanning(FRAME).astype(np.float32)


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


def _triples(peaks: Peaks) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """(hashes, frames) of a clip's triples: bins and distances of three peaks, in 28 bits, mixed."""
    frames, bins = (peaks >> 8).astype(np.int64), (peaks & 255).astype(np.int64)
    hashes, at = [], []
    for near in range(1, FAN_OUT):
        for far in range(near + 1, FAN_OUT + 1):
            base = slice(0, -far)
            count = max(0, len(peaks) - far)
            one, two = slice(near, near + count), slice(far, far + count)
            wait1, wait2 = frames[one] - frames[base], frames[two] - frames[base]
            rise1, rise2 = bins[one] - bins[base], bins[two] - bins[base]
            good = (wait2 <= MOST_FRAMES) & (wait2 > 0)
            code = bins[base] | (wait1 & 31) << 8 | (wait2 & 31) << 13 | (rise1 & 255) << 18 | (rise2 & 255) << 26
            hashes.append(((code[good] * 0x9E3779B97F4A7C1) >> 24 & 0xFFFFFFFF).astype(np.uint32))
            at.append(frames[base][good].astype(np.uint16))
    return np.concatenate(hashes), np.concatenate(at)


def _votes(clips: Sequence[Peaks]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(first << 40 | second << 16 | offset, count) of the pairs that share triples at one offset."""
    every = 1 + _COMBINATIONS * sum(map(len, clips)) // MOST_TRIPLES
    hashes, owners, frames = [], [], []
    for index, peaks in enumerate(clips):
        if len(peaks) < LEAST_PEAKS:
            continue
        some, at = _triples(peaks)
        if every > 1:
            chosen = some % every == 0
            some, at = some[chosen], at[chosen]
        hashes.append(some)
        frames.append(at)
        owners.append(np.full(len(some), index, np.uint32))
    if not hashes:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    values, owner, frame = np.concatenate(hashes), np.concatenate(owners), np.concatenate(frames)
    del hashes, owners, frames
    order = np.argsort(values, kind="stable")
    values, owner, frame = values[order], owner[order], frame[order].astype(np.int64)
    keys = []
    for distance in range(1, GROUP + 1):
        equal = np.flatnonzero(values[:-distance] == values[distance:])
        if not len(equal):
            break
        first, second = owner[equal].astype(np.uint64), owner[equal + distance].astype(np.uint64)
        offset = (frame[equal] - frame[equal + distance] + 0x8000).astype(np.uint64)
        inside = first != second
        keys.append((first << np.uint64(40) | second << np.uint64(16) | offset)[inside])
    if not keys:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    found, counts = np.unique(np.concatenate(keys), return_counts=True)
    least = LEAST_VOTES
    while np.count_nonzero(counts >= least) > MOST_CANDIDATES:
        least += 1
    enough = counts >= least
    return found[enough], counts[enough]
