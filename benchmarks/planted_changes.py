"""What `planted_defects.py` does to clips and texts: the changes that thresholds were chosen on, and others.

TUNED were looked at while the thresholds of the audit were chosen, so their rates are optimistic. HELD_OUT were written
afterwards, with other codecs, bitrates, cuts, levels, speeds and noises; no threshold was touched after they were seen.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.signal
import soundfile
import soxr

from core.audio.samples import SAMPLE_RATE_HZ

Change = Callable[[Any], Any]


def encoded(samples: Any, rate_hz: int = SAMPLE_RATE_HZ, **options: Any) -> Any:
    """Through a codec and back, at another rate if asked."""
    buffer = io.BytesIO()
    sent = samples if rate_hz == SAMPLE_RATE_HZ else soxr.resample(samples, SAMPLE_RATE_HZ, rate_hz)
    soundfile.write(buffer, np.clip(sent, -1, 1), rate_hz, **options)
    buffer.seek(0)
    back = soundfile.read(buffer, dtype="float32")[0]
    return back if rate_hz == SAMPLE_RATE_HZ else soxr.resample(back, rate_hz, SAMPLE_RATE_HZ)


def part(samples: Any, start: float, stop: float, shift: int = 0) -> Any:
    """From a share of the clip to another, some samples off."""
    return samples[int(len(samples) * start) + shift : int(len(samples) * stop)]


def with_noise(samples: Any, snr_db: float, slope: float = 0.0) -> Any:
    """Noise under the clip: white, or falling by `slope` powers of the frequency."""
    noise = np.random.default_rng(len(samples)).standard_normal(len(samples))
    if slope:
        spectrum = np.fft.rfft(noise)
        spectrum[1:] /= np.arange(1, len(spectrum)) ** (slope / 2)
        noise = np.fft.irfft(spectrum, len(samples))
    level = np.sqrt(np.mean(samples**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return samples + noise * level


def faster(samples: Any, factor: float) -> Any:
    """Played faster: pitch and speed change together."""
    return soxr.resample(samples, SAMPLE_RATE_HZ * factor, SAMPLE_RATE_HZ)


def filtered(samples: Any, low_hz: float, high_hz: float) -> Any:
    """A band of it, with steep edges."""
    spectrum = np.fft.rfft(samples)
    frequency = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ)
    spectrum[(frequency < low_hz) | (frequency > high_hz)] = 0
    return np.fft.irfft(spectrum, len(samples))


def echoed(samples: Any) -> Any:
    """In a room: six decaying reflections within 150 ms."""
    out = np.array(samples, np.float64)
    for delay, level in ((400, 0.5), (730, 0.4), (1130, 0.3), (1510, 0.25), (1990, 0.2), (2400, 0.15)):
        if delay < len(out):
            out[delay:] += level * samples[:-delay]
    return out


def vorbis(samples: Any) -> Any:
    """Ogg Vorbis of low quality."""
    return encoded(samples, format="OGG", subtype="VORBIS", compression_level=0.9)


def opus(samples: Any, level: float = 0.95) -> Any:
    """Opus; level 1 is 6 kbit/s, 0.95 about 18, 0 is 256."""
    return encoded(samples, format="OGG", subtype="OPUS", compression_level=level)


def silence(seconds: float) -> Any:
    """Some of it."""
    return np.random.default_rng(0).standard_normal(int(seconds * SAMPLE_RATE_HZ)) * 1e-3


TUNED: dict[str, Change] = {
    "Vorbis q 0.1": vorbis,
    "MP3": lambda x: encoded(x, format="MP3", compression_level=0.7),
    "12 dB quieter": lambda x: x * 0.25,
    "20 dB louder, clipped": lambda x: np.clip(x * 10, -1, 1),
    "through 8 kHz": lambda x: soxr.resample(soxr.resample(x, SAMPLE_RATE_HZ, 8000), 8000, SAMPLE_RATE_HZ),
    "first 30 % cut": lambda x: part(x, 0.3, 1, 37),
    "last 40 % cut": lambda x: part(x, 0, 0.6),
    "middle half only": lambda x: part(x, 0.25, 0.75, 111),
    "white noise at 20 dB": lambda x: with_noise(x, 20),
    "cut, louder and Vorbis": lambda x: vorbis(np.clip(part(x, 0.2, 1, 100) * 1.7, -1, 1)),
}
HELD_OUT: dict[str, Change] = {
    "Opus at 18 kbit/s": opus,
    "Opus at 6 kbit/s": lambda x: opus(x, 1.0),
    "MP3, lowest bitrate": lambda x: encoded(x, format="MP3", compression_level=0.99),
    "MP3 at 48 kHz": lambda x: encoded(x, 48_000, format="MP3", compression_level=0.5),
    "u-law at 8 kHz": lambda x: encoded(x, 8000, format="WAV", subtype="ULAW"),
    "GSM 6.10": lambda x: encoded(x, 8000, format="WAV", subtype="GSM610"),
    "IMA ADPCM": lambda x: encoded(x, format="WAV", subtype="IMA_ADPCM"),
    "26 dB quieter, 16 bit": lambda x: encoded(x * 0.05, format="WAV", subtype="PCM_16"),
    "32 dB louder, clipped": lambda x: np.clip(x * 40, -1, 1),
    "first 45 % cut": lambda x: part(x, 0.45, 1, 151),
    "last 30 % cut": lambda x: part(x, 0, 0.7, 0),
    "15 to 80 % kept": lambda x: part(x, 0.15, 0.8, 77),
    "a third kept": lambda x: part(x, 0.3, 0.63, 77),
    "pink noise at 12 dB": lambda x: with_noise(x, 12, 1.0),
    "white noise at 8 dB": lambda x: with_noise(x, 8),
    "1 % faster": lambda x: faster(x, 1.01),
    "2 % faster": lambda x: faster(x, 1.02),
    "2 % slower": lambda x: faster(x, 0.98),
    "300 to 2500 Hz": lambda x: filtered(x, 300, 2500),
    "room echo": echoed,
    "1.3 s of silence before": lambda x: np.concatenate([silence(1.3), x]),
    "polarity turned": lambda x: -x,
    "cut, quieter, noise, Opus": lambda x: opus(with_noise(part(x, 0.1, 0.75, 59) * 0.3, 15)),
}
BEYOND = ("Opus at 6 kbit/s", "1 % faster", "2 % faster", "2 % slower")
"""These were not recognised when thresholds were chosen first: counted apart."""

Rewording = Callable[[str, random.Random], str]
_FILLERS = ("well", "so", "then", "okay", "um", "you know", "please", "now")


def turned(text: str, _rng: random.Random) -> str:
    """The halves change places, small words come in."""
    words = text.split()
    middle = len(words) // 2
    return " ".join(["well", *words[middle:], "and", *words[:middle]])


def filled(text: str, rng: random.Random) -> str:
    """Two fillers at random places."""
    words = text.split()
    for _ in range(2):
        words.insert(rng.randint(0, len(words)), rng.choice(_FILLERS))
    return " ".join(words)


def inflected(text: str, rng: random.Random) -> str:
    """Long words get another ending."""
    return " ".join(word + rng.choice(("s", "ed", "ing")) if len(word) > 4 else word for word in text.split())


def misspelt(text: str, rng: random.Random) -> str:
    """One letter of one word of four or more letters is another one."""
    words = text.split()
    long = [i for i, word in enumerate(words) if len(word) > 3] or [0]
    at = rng.choice(long)
    place = rng.randrange(len(words[at]))
    words[at] = words[at][:place] + rng.choice("abcdefghijklmnopqrstuvwxyz") + words[at][place + 1 :]
    return " ".join(words)


def without_a_word(text: str, rng: random.Random) -> str:
    """One word falls out."""
    words = text.split()
    del words[rng.randrange(len(words))]
    return " ".join(words)


def shuffled(text: str, rng: random.Random) -> str:
    """All words in another order."""
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


TUNED_TEXTS: dict[str, Rewording] = {"halves turned round": turned}
HELD_OUT_TEXTS: dict[str, Rewording] = {
    "two fillers": filled,
    "other endings": inflected,
    "a letter wrong": misspelt,
    "a word left out": without_a_word,
    "words shuffled": shuffled,
}


def tempo(samples: Any, factor: float) -> Any:
    """Said faster at the same pitch, as sox and ffmpeg do it: pieces of 50 ms, each shifted by up to 12 ms to where it
    goes on from the one before (WSOLA)."""
    samples = np.asarray(samples, np.float64)
    size, reach = SAMPLE_RATE_HZ // 20, SAMPLE_RATE_HZ * 12 // 1000
    hop = size // 2
    window = np.hanning(size + 1)[:-1]
    padded = np.concatenate([np.zeros(reach), samples, np.zeros(2 * size + reach)])
    out = np.zeros(int(len(samples) / factor) + 2 * size)
    last = reach
    for number in range(int(len(samples) / factor / hop)):
        at = reach + int(number * hop * factor)
        if number:
            wanted = padded[last + hop : last + hop + size]
            around = padded[at - reach : at + reach + size]
            likeness = np.correlate(around, wanted, "valid") if len(wanted) == size else np.zeros(1)
            energy = np.sqrt(np.convolve(np.square(around), np.ones(size), "valid") + 1e-9)
            at += int(np.argmax(likeness[: len(energy)] / energy[: len(likeness)])) - reach
        out[number * hop : number * hop + size] += padded[at : at + size] * window
        last = at
    return out[: int(len(samples) / factor)]


def pitched(samples: Any, factor: float) -> Any:
    """Another pitch at the same tempo."""
    return faster(tempo(samples, 1 / factor), factor)


def shifted(samples: Any, by_hz: float) -> Any:
    """All frequencies higher by as many Hz: harmonics are none any more."""
    turning = np.exp(2j * np.pi * by_hz * np.arange(len(samples)) / SAMPLE_RATE_HZ)
    return np.real(scipy.signal.hilbert(samples) * turning)


def halves_swapped(samples: Any) -> Any:
    """The second half first."""
    return np.concatenate([part(samples, 0.5, 1), part(samples, 0, 0.5)])
