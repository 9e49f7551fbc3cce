"""Sounds that stand behind speech, made in code: babble, a kitchen, hold music, a ring tone, a prompt, steady noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from core.audio.samples import SAMPLE_RATE_HZ

Background = Callable[[np.random.Generator, float, Sequence[Any]], Any]
"""(random numbers, seconds, other speech) → samples."""


def babble(rng: np.random.Generator, seconds: float, speech: Sequence[Any]) -> Any:
    """Five voices at once, each saying one thing after the other."""
    out = np.zeros(_count(seconds))
    for _ in range(5):
        voice = np.zeros(0)
        while len(voice) < len(out):
            voice = np.concatenate([voice, _level(speech[rng.integers(len(speech))])])
        out += voice[: len(out)] * rng.uniform(0.6, 1.0)
    return out


def kitchen(rng: np.random.Generator, seconds: float, _speech: Sequence[Any]) -> Any:
    """A hum and a hiss under ringing clatter."""
    count = _count(seconds)
    at = np.arange(count) / SAMPLE_RATE_HZ
    out = sum(np.sin(2 * np.pi * 50 * n * at + n) / n for n in range(1, 8)) * 0.03
    out = out + _filtered([1], [1, -0.9], rng.standard_normal(count)) * 0.03
    for _ in range(int(4 * seconds)):
        start, length = int(rng.integers(0, count)), int(rng.uniform(0.03, 0.3) * SAMPLE_RATE_HZ)
        ring = np.exp(-np.arange(length) / rng.uniform(200, 2000)) * rng.uniform(0.1, 1)
        pitch = rng.uniform(300, 4000, 3)[:, None] * np.arange(length) / SAMPLE_RATE_HZ
        burst = (np.sin(2 * np.pi * pitch).sum(0) + rng.standard_normal(length) * 0.5) * ring
        out[start : start + length] += burst[: count - start]
    return out


def hold_music(rng: np.random.Generator, seconds: float, _speech: Sequence[Any]) -> Any:
    """Chords, one after the other, with a melody over them."""
    count = _count(seconds)
    out = np.zeros(count)
    base, start = rng.uniform(110, 220), 0
    while start < count:
        length = int(rng.choice([0.25, 0.5, 1.0]) * SAMPLE_RATE_HZ)
        chord = rng.choice([0, 2, 4, 5, 7, 9]) + np.array([0, 4, 7, rng.choice([12, 14, 16, 19])])
        at = np.arange(length) / SAMPLE_RATE_HZ
        tone = np.zeros(length)
        for note in base * 2 ** (chord / 12):
            tone += sum(np.sin(2 * np.pi * note * n * at + n) / n**1.5 for n in range(1, 6))
        some = tone * np.exp(-2 * at) * np.minimum(1, at * 100)
        out[start : start + length] += some[: count - start]
        start += length
    return out


def ring_tone(_rng: np.random.Generator, seconds: float, _speech: Sequence[Any]) -> Any:
    """Two tones, 0.4 s on, 0.2 s off, as a telephone rings."""
    at = np.arange(_count(seconds)) / SAMPLE_RATE_HZ
    on = _filtered([0.02], [1, -0.98], (at % 0.6 < 0.4) * 1.0)
    return (np.sin(2 * np.pi * 400 * at) + np.sin(2 * np.pi * 450 * at) + 0.3 * np.sin(2 * np.pi * 800 * at)) * on


def prompt(rng: np.random.Generator, seconds: float, speech: Sequence[Any]) -> Any:
    """One voice that is in all clips: an announcement, again and again, with pauses."""
    said = _level(speech[rng.integers(len(speech))])
    once = np.concatenate([said, np.zeros(int(0.5 * SAMPLE_RATE_HZ))])
    return np.tile(once, _count(seconds) // len(once) + 1)[: _count(seconds)]


def steady_noise(rng: np.random.Generator, seconds: float, _speech: Sequence[Any]) -> Any:
    """One noise file: pink, swelling slowly."""
    count = _count(seconds)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    at = np.arange(count) / SAMPLE_RATE_HZ
    return np.fft.irfft(spectrum, count) * (1 + 0.5 * np.sin(2 * np.pi * 0.7 * at))


BACKGROUNDS: dict[str, Background] = {
    "babble": babble,
    "kitchen": kitchen,
    "hold music": hold_music,
    "ring tone": ring_tone,
    "prompt": prompt,
    "noise file": steady_noise,
}


def over(speech: Any, background: Any, below_db: float) -> Any:
    """Speech with the background's beginning under it, so many dB below, in RMS."""
    some = np.asarray(background[: len(speech)], np.float64)
    level = np.sqrt(np.mean(np.square(speech)) / max(1e-12, np.mean(np.square(some)))) * 10 ** (-below_db / 20)
    return (speech + some * level).astype(np.float32)


def _filtered(ahead: Sequence[float], back: Sequence[float], samples: Any) -> Any:
    import scipy.signal  # takes a second, which whoever only names a background is spared

    return scipy.signal.lfilter(ahead, back, samples)


def _count(seconds: float) -> int:
    return int(seconds * SAMPLE_RATE_HZ)


def _level(samples: Any) -> Any:
    return np.asarray(samples) / max(1e-6, float(np.sqrt(np.mean(np.square(samples)))))
