"""One utterance of the synthetic corpus, from its plan to a FLAC file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

from core.corpus.noise import Samples, mix, rms
from core.corpus.recipe import Utterance
from core.corpus.synth import Synthesiser
from core.errors import UserError

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
