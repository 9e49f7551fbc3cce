"""Whether the mean of a file's channels stands for them: not with opposite phases, nor with different speakers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from core.audio.sound_file import Samples
from core.audio.sound_headers import Oddity

FRAME_S = 0.05
LEAST_FRAMES = 10
"""Fewer (half a second) tell nothing of how two channels swell and fade."""
MOST_CHANNELS = 8
"""Of more only these are compared."""
OPPOSITE = -0.5
"""Correlation of the samples of two channels below which the one is the other turned over."""
LOST = 0.16
"""Power of the mean as a share of the louder channel's: one speaker beside a silent channel leaves 0.25."""
ALIKE = 0.5
"""Correlation of two channels' levels, frame by frame, below which they hold different sound."""
SAME_WAVE = 0.7
"""Correlation of the samples above which two channels hold the same sound, whatever their levels."""
WITHIN_DB, FLOOR_DB = 20.0, 40.0
"""A channel this far below the loudest does not matter; levels are followed down to this far below a channel's peak."""


class Channels:
    """RunStatusCache at the frames block by block as the file has them."""

    def __init__(self) -> None:
        self._frames = 0
        self._sums: NDArray[np.float64] = np.zeros(0)
        self._products: NDArray[np.float64] = np.zeros((0, 0))
        self._levels: list[Samples] = []

    def see(self, block: Samples, rate_hz: int) -> None:
        """The next block (frames, channels); mono ones tell nothing."""
        if block.ndim < 2:
            return
        block = block[:, :MOST_CHANNELS]
        if not self._frames:
            self._sums, self._products = np.zeros(block.shape[1]), np.zeros((block.shape[1], block.shape[1]))
        self._frames += len(block)
        self._sums += block.sum(axis=0, dtype=np.float64)
        self._products += block.T @ block
        length = max(1, round(FRAME_S * rate_hz))
        whole = block[: len(block) // length * length].reshape(-1, length, block.shape[1])
        self._levels.append(np.einsum("fsc,fsc->fc", whole, whole) / np.float32(length))

    def oddity(self) -> Oddity | None:
        """Channels that cancel out, or that hold different sound; None: neither."""
        if not self._frames or not np.isfinite(self._products).all():
            return None
        means = self._sums / self._frames
        shared = self._products / self._frames - np.outer(means, means)
        power = np.maximum(np.diag(shared), 0.0)
        loudest = float(power.max())
        if loudest <= 0:
            return None
        audible = [int(c) for c in np.flatnonzero(power > loudest * 10 ** (-WITHIN_DB / 10))]
        pairs = [
            (float(shared[one, two] / np.sqrt(power[one] * power[two])), one, two)
            for one, two in combinations(audible, 2)
        ]
        if not pairs:
            return None
        lost = float(shared.mean()) / loudest
        wave, one, two = min(pairs)
        if wave < OPPOSITE and lost < LOST:
            decibels = 10 * np.log10(max(lost, 1e-12))
            return "cancelled", (
                f"channels {one} and {two} are of opposite phase (correlation {wave:+.2f}): their mean is "
                f"{decibels:.0f} dB below the louder one: choose one with channel"
            )
        return self._different([(one, two) for wave, one, two in pairs if abs(wave) < SAME_WAVE])

    def _different(self, pairs: list[tuple[int, int]]) -> Oddity | None:
        powers = np.concatenate(self._levels).astype(np.float64)
        if len(powers) < LEAST_FRAMES or not pairs:
            return None
        floor = np.maximum(powers.max(axis=0), 1e-20) * 10 ** (-FLOOR_DB / 10)
        levels = np.log10(np.maximum(powers, floor))
        levels -= levels.mean(axis=0)
        spread = np.sqrt(np.square(levels).sum(axis=0))
        found = [
            (float(levels[:, one] @ levels[:, two] / max(spread[one] * spread[two], 1e-12)), one, two)
            for one, two in pairs
        ]
        alike, one, two = min(found)
        if alike >= ALIKE:
            return None
        return "different_channels", (
            f"channels {one} and {two} hold different sound (their levels correlate by {alike:+.2f}), such as two "
            "speakers: the model hears their mixture: choose one with channel"
        )
