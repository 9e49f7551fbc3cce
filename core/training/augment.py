"""`train.augment`: training clips at another speed and with noise, and masks over their features (SpecAugment).

What is done to a clip is a function of the run's seed, the step and the clip's place in it, so that a run that was
interrupted goes on as if it had not been. Evaluation knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import soxr
from numpy.typing import NDArray
from torch import Tensor

from core.audio.cache import ClipStore
from core.audio.samples import RESAMPLER_QUALITY, SAMPLE_RATE_HZ, SILENCE_RMS, root_mean_square
from core.plan.schema import AugmentSettings

Samples = NDArray[np.float32]
Axes = tuple[int, int]
"""Which axes of a batch of features (batch first, so never 0) are time and features."""

_STREAM = 2
"""Of the run's seed; the batch plan draws from stream 1."""


class Augmentation:
    """What one run's `train.augment` does to its clips."""

    def __init__(self, settings: AugmentSettings, seed: int, noise: ClipStore | None, max_seconds: float) -> None:
        """`max_seconds`: of the longest clip that the model hears, which no clip is slowed down beyond."""
        self._settings, self._seed, self._noise = settings, seed, noise
        self._longest = int(max_seconds * SAMPLE_RATE_HZ)

    def clip(self, samples: Samples, step: int, place: int, fits: Callable[[int], bool]) -> Samples:
        """Clip `place` of a step as it is heard there: (samples,) at 16 kHz, before its RMS is normalised.

        `fits(samples)`: whether its targets can be learnt from a clip of such a length; else its speed is left.
        """
        random = self._random(step, place, 0)
        if self._settings.speed:
            played = at_speed(samples, random.uniform(-1, 1) * self._settings.speed + 1, self._longest)
            samples = played if fits(len(played)) else samples
        if self._noise is not None and random.random() < self._settings.noise_share:
            recording = self._noise[int(random.integers(len(self._noise)))]
            snr_db = random.uniform(self._settings.snr_low, self._settings.snr_high)
            samples = with_noise(samples, recording, snr_db, float(random.random()))
        return samples

    def mask(self, features: Tensor, axes: Axes, shares: Sequence[float], step: int, places: Sequence[int]) -> None:
        """Mask a batch of features in place. `places`: of its clips in the step.

        `shares`: of the time axis, how much of it is the clip's own; the rest is padding.
        """
        time, bins = axes
        settings = self._settings
        for row, (share, place) in enumerate(zip(shares, places, strict=True)):
            random = self._random(step, place, 1)
            frames = min(features.shape[time], max(1, round(features.shape[time] * share)))
            own = features[row].narrow(time - 1, 0, frames)
            # what a masked place says must be neutral, whatever the family's features are centred on
            neutral = float(own.mean())
            for axis, size, count, widest in (
                (time, frames, settings.time_masks, settings.time_mask_share),
                (bins, features.shape[bins], settings.feature_masks, settings.feature_mask_share),
            ):
                for _ in range(count):
                    width = int(random.integers(int(size * widest) + 1))
                    own.narrow(axis - 1, int(random.integers(size - width + 1)), width).fill_(neutral)

    @property
    def masks(self) -> bool:
        """Whether features are masked."""
        return bool(self._settings.time_masks or self._settings.feature_masks)

    def _random(self, step: int, place: int, what: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, _STREAM, step, place, what])


def at_speed(samples: Samples, factor: float, longest: int) -> Samples:
    """The clip played `factor` times as fast, its pitch changed with it; slowed down to `longest` samples at most."""
    factor = max(factor, min(1.0, len(samples) / longest))
    if factor == 1.0:
        return samples
    return np.asarray(soxr.resample(samples, SAMPLE_RATE_HZ * factor, SAMPLE_RATE_HZ, RESAMPLER_QUALITY))[:longest]


def with_noise(samples: Samples, noise: Samples, snr_db: float, start: float) -> Samples:
    """The clip with as much of a noise recording, from share `start` of it on and over and over, at this ratio.

    The ratio is between the RMS of both over the clip. Silence on either side leaves the clip as it is.
    """
    begin = int(start * len(noise))
    heard = np.resize(np.concatenate([noise[begin:], noise[:begin]]), len(samples))
    speech_rms, noise_rms = root_mean_square(samples), root_mean_square(heard)
    if min(speech_rms, noise_rms) < SILENCE_RMS:
        return samples
    gain = speech_rms / noise_rms * 10 ** (-snr_db / 20)
    return np.asarray(samples + np.float32(gain) * heard, dtype=np.float32)
