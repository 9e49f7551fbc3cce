"""Spectral peaks of a clip: places (frame, bin) that are louder than all of their neighbourhood.

Peaks stay where they are when a recording is made louder, re-encoded, resampled or cut. They are of the band below
0.9 kHz at an eighth of the usual rate: cheap beside decoding, and what noise and codecs leave alone. Frames are of
64 ms, so that bin n is n * 15.625 Hz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray

from core.audio.sound_file import Samples

FRAME_S = 0.064
LONGEST_S = 600.0
"""Of longer clips only the beginning is looked at."""
NO_PEAKS = np.empty(0, np.uint32)

Peaks = NDArray[np.uint32]
"""(peaks,): frame << 8 | bin, ascending."""

Powers = NDArray[np.float32]
"""(frames, bins of COARSE_BINS)."""

COARSE_HOP_S, COARSE_HZ = 0.025, 2_000
COARSE_BINS = (6, 58)
"""94 to 906 Hz."""
COARSE_FRAMES, COARSE_NEAR = 2, 3
"""The loudest of 5 frames by 7 bins around it: about 40 peaks a second of speech."""
SENT_HZ = 16_000
"""Clips of rates that are no multiple of COARSE_HZ are brought to this one first."""

_FLOOR = 10 ** (-50 / 10)
"""Of power: peaks more than 50 dB below the clip's loudest are noise."""
_NOTHING = 1e-12
_BLOCK = 1024
"""Frames at once: bounds the memory."""


@dataclass(frozen=True, slots=True)
class LowBand:
    """A clip at about COARSE_HZ."""

    samples: Samples
    rate_hz: float


def low_band(samples: Samples, rate_hz: int) -> LowBand:
    """The means of every so many samples of a clip (samples,): its mean is the clip's but for the last half
    millisecond at most.

    A mean is a poor low-pass: from above 1 kHz a part is mirrored into the band. But a copy's is mirrored alike.
    """
    factor = max(1, round(rate_hz / COARSE_HZ))
    if not 0.99 < rate_hz / factor / COARSE_HZ < 1.01:
        samples, rate_hz = np.asarray(soxr.resample(samples, rate_hz, SENT_HZ, "LQ")), SENT_HZ
        factor = SENT_HZ // COARSE_HZ
    count = len(samples) // factor
    # as a product, since numpy's sums of few numbers each take four times as long
    return LowBand(
        samples[: count * factor].reshape(count, factor) @ np.full(factor, 1 / factor, np.float32), rate_hz / factor
    )


def coarse_look(low: LowBand) -> tuple[Peaks, Powers]:
    """The peaks of a clip by frames of COARSE_HOP_S, and what they are peaks of; none for less than a frame."""
    samples = low.samples[: int(LONGEST_S * low.rate_hz)]
    frames, near = COARSE_FRAMES, COARSE_NEAR
    width, hop = round(FRAME_S * low.rate_hz), COARSE_HOP_S * low.rate_hz
    if len(samples) < width:
        return NO_PEAKS, np.empty((0, COARSE_BINS[1] - COARSE_BINS[0]), np.float32)
    every = _frames(np.ascontiguousarray(samples, np.float32), width, hop)
    found: list[NDArray[np.int64]] = []
    tops: list[NDArray[np.float32]] = []
    planes: list[Powers] = []
    for start in range(0, len(every), _BLOCK):
        first, last = max(0, start - frames), min(len(every), start + _BLOCK + frames)
        # scipy's transform of many short frames is four times faster than numpy's.
        spectrum = scipy.fft.rfft(every[first:last] * window(width), axis=1, overwrite_x=True)
        places, top, plane = _tops(spectrum[:, COARSE_BINS[0] : COARSE_BINS[1]], frames, near)
        places += first << 8
        if len(every) > _BLOCK:
            inside = (places >= start << 8) & (places < start + _BLOCK << 8)
            places, top, plane = places[inside], top[inside], plane[start - first : start - first + _BLOCK]
        found.append(places)
        tops.append(top)
        planes.append(plane)
    top, places, plane = (
        (tops[0], found[0], planes[0])
        if len(found) == 1
        else (np.concatenate(tops), np.concatenate(found), np.concatenate(planes))
    )
    loud = top > max(float(top.max(initial=0.0)) * _FLOOR, _NOTHING)
    return places[loud].astype(np.uint32), plane


def _frames(samples: Samples, width: int, hop: float) -> Samples:
    """(frames, width): every `hop` samples; of rates that are no whole multiple of the others, to the nearest one."""
    count = int((len(samples) - width) / hop) + 1
    if hop != int(hop):
        some: Samples = samples[np.rint(np.arange(count) * hop).astype(np.int64)[:, None] + np.arange(width)]
        return some
    # as numpy's sliding_window_view(samples, width)[::hop], which takes longer than the peaks of a short clip
    size = samples.itemsize
    return np.ndarray((count, width), np.float32, samples, strides=(int(hop) * size, size))


_WINDOWS: dict[int, NDArray[np.float32]] = {}


def window(width: int) -> NDArray[np.float32]:
    """What frames of so many samples are multiplied by."""
    if width not in _WINDOWS:
        _WINDOWS[width] = np.hanning(width).astype(np.float32)
    return _WINDOWS[width]


def _tops(
    spectrum: NDArray[np.complex64], frames: int, near: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], Powers]:
    """(frame << 8 | bin, power) of the places of a spectrum (frames, bins) that nothing around them is louder than,
    and others without power; and the powers (frames, bins).

    The plane gets a border of zeros, after each frame too, so that every maximum is one along a single line of
    numbers: an order of magnitude faster than along the axes of so small a plane.
    """
    rows, count = spectrum.shape
    pitch = count + near
    line = np.zeros(near + (rows + 2 * frames) * pitch, np.float32)
    inner = line[near:].reshape(-1, pitch)[frames : frames + rows, :count]
    parts = np.square(spectrum.view(np.float32))  # real and imaginary ones in turn
    np.add(parts[:, ::2], parts[:, 1::2], out=inner)
    around = _maximum(_maximum(line, near, 1), frames, pitch)
    centre = near + frames * pitch
    at = np.flatnonzero(line[centre : centre + len(around)] == around) + centre
    frame, which = np.divmod(at - centre, pitch)
    return frame << 8 | which, line[at], inner


def _maximum(line: NDArray[np.float32], side: int, step: int) -> NDArray[np.float32]:
    """The maximum of 2 * side + 1 places, `step` apart, from each place on; by doubling windows."""
    width, reach = 2 * side + 1, 1
    while reach < width:
        shift = min(reach, width - reach)
        line = np.maximum(line[shift * step :], line[: len(line) - shift * step])
        reach += shift
    return line
