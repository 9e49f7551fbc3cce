"""Where to cut audio that is longer than a model takes: in the pauses."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FRAME_S = 0.05
HOP_S = 0.01
MIN_REST_S = 1.0
"""A shorter rest makes recognisers repeat themselves, so the last cut leaves at least this where it can."""

Samples = NDArray[np.float32]


def pause_cuts(samples: Samples, max_seconds: float, sample_rate_hz: int) -> list[tuple[int, int]]:
    """Ranges [start, stop) of `samples` (samples,), each at most `max_seconds`, that cover all of it once.

    Each cut is in the middle of the quietest 50 ms of the last third of its window. No samples give no range.
    """
    if not (math.isfinite(max_seconds) and int(max_seconds * sample_rate_hz) >= 1):
        raise ValueError(f"max_seconds must be at least one sample long, not {max_seconds}")
    limit, rest = int(max_seconds * sample_rate_hz), int(MIN_REST_S * sample_rate_hz)
    total = len(samples)
    ranges: list[tuple[int, int]] = []
    start = 0
    while total - start > limit:
        first, last = start + limit - limit // 3, start + limit
        if first < total - rest < last:
            last = total - rest
        cut = first + _quietest(samples[first:last], sample_rate_hz)
        ranges.append((start, cut))
        start = cut
    if start < total:
        ranges.append((start, total))
    return ranges


def _quietest(window: Samples, sample_rate_hz: int) -> int:
    """The middle of the quietest frame (latest of equals); the end of a window shorter than a frame."""
    frame, hop = int(FRAME_S * sample_rate_hz), int(HOP_S * sample_rate_hz)
    if len(window) < frame:
        return len(window)
    energy = np.concatenate(([0.0], np.cumsum(np.square(window, dtype=np.float64))))
    starts = np.arange(0, len(window) - frame + 1, hop)
    frames = energy[starts + frame] - energy[starts]
    quietest = len(frames) - 1 - int(np.argmin(frames[::-1]))
    return int(starts[quietest]) + frame // 2
