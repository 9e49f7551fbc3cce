"""Seeded noise for synthetic speech, and mixing it in at a signal-to-noise ratio."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

LOWEST_HZ = 20.0
MAINS_HZ = (50.0, 60.0)
HUM_HARMONICS = 6
BABBLE_TALKERS = 3
SYLLABLES_HZ = 6.0
"""How often the loudness of a far talker changes."""


def mix(speech: Samples, speech_rms: float, snr_db: float, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """`speech` with noise `snr_db` below `speech_rms` (the level of its spoken part)."""
    return speech + noise(len(speech), sample_rate_hz, rng) * speech_rms * 10 ** (-snr_db / 20)


def noise(samples: int, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """White noise, pink noise, mains hum and babble in random shares; shape `(samples,)`, RMS 1."""
    hz = _frequencies(samples, sample_rate_hz)
    kinds = (
        _shaped(np.ones_like(hz), samples, rng),
        _shaped(1 / np.sqrt(hz), samples, rng),
        _hum(samples, sample_rate_hz, rng),
        _babble(hz, samples, sample_rate_hz, rng),
    )
    mixture = np.zeros(samples)
    for share, kind in zip(rng.dirichlet(np.ones(len(kinds))), kinds, strict=True):
        mixture += np.sqrt(share) / rms(kind) * kind
    return mixture / rms(mixture)


def rms(samples: Samples) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples))))


def _frequencies(samples: int, sample_rate_hz: int) -> Samples:
    """Of a spectrum long enough for `samples`: a power of two, since a prime length makes the FFT 20 times slower."""
    length = 1 << max(samples - 1, 1).bit_length()
    return np.asarray(np.maximum(np.fft.rfftfreq(length, 1 / sample_rate_hz), LOWEST_HZ))


def _shaped(gain: Samples, samples: int, rng: np.random.Generator) -> Samples:
    """Gaussian noise with the amplitude spectrum `gain`."""
    spectrum = rng.standard_normal((2, len(gain)))
    return np.asarray(np.fft.irfft(gain * (spectrum[0] + 1j * spectrum[1]))[:samples])


def _hum(samples: int, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    phase = 2 * np.pi * float(rng.choice(MAINS_HZ)) / sample_rate_hz * np.arange(samples)
    turn = np.exp(1j * phase)
    wave, total = turn, np.zeros(samples)
    for harmonic in range(1, HUM_HARMONICS + 1):
        start = np.exp(2j * np.pi * rng.uniform())
        total += rng.uniform(0.2, 1.0) / harmonic * (wave * start).imag
        wave = wave * turn
    return total


def _babble(hz: Samples, samples: int, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """Far talkers without words: noise with the long-term spectrum of speech, its loudness moving like syllables."""
    speech_like = 1 / (1 + (hz / 500) ** 2)
    total = np.zeros(samples)
    knots = np.arange(0, samples + sample_rate_hz, sample_rate_hz / SYLLABLES_HZ)
    for _ in range(BABBLE_TALKERS):
        loudness = np.interp(np.arange(samples), knots, rng.exponential(size=len(knots)))
        total += loudness * _shaped(speech_like, samples, rng)
    return total
