"""One utterance of the embedded speech: spoken, mixed with seeded noise at a signal-to-noise ratio, written as FLAC."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from core.corpus.recipe import Utterance
from core.corpus.synth import Synthesiser
from core.errors import UserError

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


SAMPLE_RATE_HZ = 16_000
SILENCE_RATIO = 0.01
"""Samples below this share of the peak count as silence at the ends of what espeak-ng gives."""
PAUSE_S = (0.05, 0.25)
"""Silence put before and after the speech."""
MAX_PEAK = 0.99
"""Where a clip's level would take it beyond, the whole clip is softer."""


def render(utterance: Utterance, synthesiser: Synthesiser) -> Samples:
    """The samples of one utterance at 16 kHz, shape `(samples,)`, within ±1."""
    raw = synthesiser.speak(utterance.text, utterance.speaker, utterance.prosody).astype(np.float64) / 32768
    loud = np.flatnonzero(np.abs(raw) > SILENCE_RATIO * np.max(np.abs(raw)))
    if loud.size == 0:
        raise UserError(f'{utterance.id}: the voice "{utterance.speaker}" is silent: leave it out of the recipe')
    speech = soxr.resample(raw[loud[0] : loud[-1] + 1], synthesiser.sample_rate_hz, SAMPLE_RATE_HZ)
    rng = np.random.default_rng(utterance.seed)
    before, after = (round(rng.uniform(*PAUSE_S) * SAMPLE_RATE_HZ) for _ in range(2))
    mixed = mix(np.pad(speech, (before, after)), rms(speech), utterance.snr_db, SAMPLE_RATE_HZ, rng)
    if utterance.band_hz is not None:
        mixed = _band_passed(mixed, *utterance.band_hz)
    levelled = mixed * (utterance.level_rms / rms(mixed))
    return np.asarray(levelled * min(1.0, MAX_PEAK / float(np.max(np.abs(levelled)))))


def _band_passed(samples: Samples, low_hz: float, high_hz: float) -> Samples:
    """`samples` through a band-pass of the fourth order on either side, without phase shift."""
    frequency = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ), 1.0)
    gain = (1 - 1 / (1 + (frequency / low_hz) ** 8)) / (1 + (frequency / high_hz) ** 8)
    return np.asarray(np.fft.irfft(np.fft.rfft(samples) * gain, len(samples)))


def write_flac(path: Path, samples: Samples) -> None:
    """`samples` as 16-bit FLAC. A full disk raises OSError, which libsndfile alone would hide."""
    encoded = io.BytesIO()
    pcm = np.round(samples * 32767).astype(np.int16)
    soundfile.write(encoded, pcm, SAMPLE_RATE_HZ, subtype="PCM_16", format="FLAC")
    path.write_bytes(encoded.getvalue())
