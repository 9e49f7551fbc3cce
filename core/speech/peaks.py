"""Spectral peaks of a clip: places (frame, bin) that are louder than all of their neighbourhood.

Peaks stay where they are when a recording is made louder, re-encoded, resampled or cut. *Coarse* ones are of the band
below 1.8 kHz at a quarter of the usual rate: cheap beside decoding, and what noise and codecs leave alone. *Fine* ones
reach to 3.6 kHz. Both have frames of 64 ms, so that bin n is n * 15.625 Hz.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray

from core.speech.sound_file import Samples

FRAME_S = 0.064
LONGEST_S = 600.0
"""Of longer clips only the beginning is looked at."""
NO_PEAKS = np.empty(0, np.uint32)

Peaks = NDArray[np.uint32]
"""(peaks,): frame << 8 | bin, ascending."""

COARSE_HOP_S, COARSE_HZ = 0.025, 4_000
COARSE_BINS = (6, 108)
"""94 to 1690 Hz."""
COARSE_FRAMES, COARSE_NEAR = 2, 5
"""The loudest of 5 frames by 11 bins around it: about 45 peaks a second of speech."""
_TAPS, _EDGE_HZ = 4, 1_750
"""Of the low-pass before decimation: as many for each sample that is left out, and one."""

FINE_HOP_S, FINE_HZ = 0.02, (8_000, 16_000)
"""Clips of these rates are looked at as they are; others are brought to the first."""
FINE_BINS = (8, 232)
"""125 to 3625 Hz: what a telephone and a bad codec keep."""
FINE_FRAMES, FINE_NEAR = 3, 8
"""The loudest of 7 frames by 17 bins around it: 30 to 60 a second of speech."""

_FLOOR = 10 ** (-50 / 10)
"""Of power: peaks more than 50 dB below the clip's loudest are noise."""
_NOTHING = 1e-12
_BLOCK = 1024
"""Frames at once: bounds the memory."""


def coarse_peaks(samples: Samples, rate_hz: int) -> Peaks:
    """Peaks of a clip (samples,) by frames of COARSE_HOP_S; none for silence or less than a frame."""
    samples = samples[: int(LONGEST_S * rate_hz)]
    factor = round(rate_hz / COARSE_HZ)
    left_hz = rate_hz / factor if factor else 0.0
    if not 0.99 * COARSE_HZ < left_hz < 1.01 * COARSE_HZ or (round(FRAME_S * left_hz) - FRAME_S * left_hz) ** 2 > 0.1:
        samples, left_hz, factor = np.asarray(soxr.resample(samples, rate_hz, 2 * COARSE_HZ, "LQ")), COARSE_HZ, 2
    low = _decimated(samples, factor)
    return _peaks(low, left_hz, COARSE_HOP_S, COARSE_BINS, COARSE_FRAMES, COARSE_NEAR)


def fine_peaks(samples: Samples, rate_hz: int) -> Peaks:
    """Peaks of a clip (samples,) by frames of FINE_HOP_S; none for silence or less than a frame."""
    samples = samples[: int(LONGEST_S * rate_hz)]
    if rate_hz not in FINE_HZ:
        samples, rate_hz = np.asarray(soxr.resample(samples, rate_hz, FINE_HZ[0])), FINE_HZ[0]
    return _peaks(samples, rate_hz, FINE_HOP_S, FINE_BINS, FINE_FRAMES, FINE_NEAR)


def _decimated(samples: Samples, factor: int) -> Samples:
    """Every `factor`th sample after a low-pass, as one small product of matrices."""
    count = len(samples) // factor
    if factor < 2 or count <= _TAPS:
        return samples if factor < 2 else samples[:0]
    taps = _low_pass(factor)
    parts = taps @ samples[: count * factor].reshape(count, factor).T
    total = parts[0, : count - _TAPS + 1]
    for tap in range(1, _TAPS):
        total += parts[tap, tap : count - _TAPS + 1 + tap]
    return cast(Samples, total)


_FILTERS: dict[int, NDArray[np.float32]] = {}


def _low_pass(factor: int) -> NDArray[np.float32]:
    if factor not in _FILTERS:
        # A sinc under a Hamming window, as scipy.signal.firwin makes it; but that takes each worker 0.6 s to import.
        edge = _EDGE_HZ / COARSE_HZ * 2 / factor
        taps = np.sinc(edge * (np.arange(_TAPS * factor) - (_TAPS * factor - 1) / 2)) * np.hamming(_TAPS * factor)
        taps /= taps.sum()
        _FILTERS[factor] = np.ascontiguousarray(taps.reshape(_TAPS, factor), np.float32)
    return _FILTERS[factor]


def _peaks(samples: Samples, rate_hz: float, hop_s: float, bins: tuple[int, int], frames: int, near: int) -> Peaks:
    """The peaks of `bins`: the loudest of 2 * frames + 1 frames by 2 * near + 1 bins around each."""
    width, hop = round(FRAME_S * rate_hz), round(hop_s * rate_hz)
    if len(samples) < width:
        return NO_PEAKS
    window = _window(width)
    # as numpy's sliding_window_view(samples, width)[::hop], which takes longer than the peaks of a short clip
    samples = np.ascontiguousarray(samples, np.float32)
    shape, strides = ((len(samples) - width) // hop + 1, width), (hop * samples.itemsize, samples.itemsize)
    every = np.ndarray(shape, np.float32, samples, strides=strides)
    found, powers = [], []
    for start in range(0, len(every), _BLOCK):
        first, last = max(0, start - frames), min(len(every), start + _BLOCK + frames)
        # scipy's transform of many short frames is four times faster than numpy's.
        spectrum = scipy.fft.rfft(every[first:last] * window, axis=1, overwrite_x=True)[:, bins[0] : bins[1]]
        at, which, power = _tops(spectrum, frames, near)
        inside = (at + first >= start) & (at + first < start + _BLOCK)
        powers.append(power[inside])
        found.append((((at + first) << 8) | which)[inside])
    power, peaks = np.concatenate(powers), np.concatenate(found)
    loud = power > max(float(power.max(initial=0.0)) * _FLOOR, _NOTHING)
    return peaks[loud].astype(np.uint32)


_WINDOWS: dict[int, NDArray[np.float32]] = {}


def _window(width: int) -> NDArray[np.float32]:
    if width not in _WINDOWS:
        _WINDOWS[width] = np.hanning(width).astype(np.float32)
    return _WINDOWS[width]


def _tops(
    spectrum: NDArray[np.complex64], frames: int, near: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """(frame, bin, power) of the places of a spectrum (frames, bins) that nothing around them is louder than.

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
    power = line[at]
    at, power = at[power > 0], power[power > 0]
    frame, which = np.divmod(at - centre, pitch)
    return frame, which, power


def _maximum(line: NDArray[np.float32], side: int, step: int) -> NDArray[np.float32]:
    """The maximum of 2 * side + 1 places, `step` apart, from each place on; by doubling windows."""
    width, reach = 2 * side + 1, 1
    while reach < width:
        shift = min(reach, width - reach)
        line = np.maximum(line[shift * step :], line[: len(line) - shift * step])
        reach += shift
    return line
