"""The proof of the audio path: hard signals go through it, and what comes out is compared with recorded figures.

`core.audio.samples.audio_fingerprint` is over the parameters that the code says it uses. This is over the samples that
it makes: a changed resampler, a lost clamp, another mix of channels show here although no parameter changed.
Libraries round differently on different machines, so figures are compared with recorded ones, within a tolerance: no
figure is rounded to a digit that noise could turn over. A new version of the audio path records new ones.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from core.audio.samples import SAMPLE_RATE_HZ, SILENCE_RMS, TARGET_RMS, normalise, read_clip
from core.audio.sound_file import Samples

EXPECTED: dict[str, list[float]] = {
    "quiet": [
        16000.0,
        0.0,
        0.083716,
        0.000348,
        0.038451,
        0.065162,
        2e-05,
        0.071985,
        0.065076,
        8e-06,
        0.088488,
        0.083729,
        1.8e-05,
        0.147434,
    ],
    "loud": [
        16000.0,
        0.0,
        0.083716,
        0.000348,
        0.038451,
        0.065162,
        2e-05,
        0.071985,
        0.065076,
        8e-06,
        0.088488,
        0.083729,
        1.8e-05,
        0.147434,
    ],
    "dc": [
        16000.0,
        0.0,
        0.075075,
        0.074791,
        0.002996,
        0.074938,
        0.074766,
        0.005609,
        0.074937,
        0.074765,
        0.006895,
        0.07505,
        0.074766,
        0.011487,
    ],
    "clipped": [
        16000.0,
        0.0,
        0.081355,
        0.000511,
        0.041977,
        0.068326,
        0.000136,
        0.075657,
        0.068453,
        1.2e-05,
        0.098444,
        0.08079,
        0.000123,
        0.143724,
    ],
    "peaky": [
        16000.0,
        9.0,
        0.027933,
        0.000771,
        0.035317,
        0.022768,
        0.000501,
        0.031982,
        0.022766,
        0.000502,
        0.032153,
        0.023029,
        0.0005,
        0.033141,
    ],
    "silence": [16000.0, 0.0, 1.7e-05, 0.0, 8e-06, 1.4e-05, 0.0, 1.5e-05, 1.4e-05, 0.0, 1.8e-05, 1.7e-05, 0.0, 3.1e-05],
    "digital_silence": [16000.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    "8_khz": [
        16000.0,
        0.0,
        0.083775,
        0.000545,
        0.020585,
        0.065126,
        -0.000199,
        0.038794,
        0.065038,
        8.5e-05,
        0.049055,
        0.083729,
        -3.6e-05,
        0.089497,
    ],
    "44_khz": [
        16000.0,
        0.0,
        0.129897,
        0.000455,
        0.146511,
        0.05827,
        0.0,
        0.10067,
        0.041332,
        4e-06,
        0.074888,
        0.022872,
        -9e-06,
        0.028002,
    ],
    "stereo": [
        16000.0,
        0.0,
        0.082747,
        0.000466,
        0.038072,
        0.06402,
        -4e-06,
        0.069368,
        0.066858,
        5e-06,
        0.089928,
        0.084169,
        9e-06,
        0.148093,
    ],
    "24_bit": [
        16000.0,
        0.0,
        0.083716,
        0.000346,
        0.038451,
        0.065162,
        1.9e-05,
        0.071985,
        0.065076,
        6e-06,
        0.088488,
        0.083729,
        1.7e-05,
        0.147434,
    ],
    "short": [
        700.0,
        0.0,
        0.061005,
        0.027312,
        0.00251,
        0.065055,
        0.010114,
        0.004805,
        0.080226,
        -0.000551,
        0.007961,
        0.090056,
        -0.011949,
        0.012292,
    ],
}


TOLERANCE = 1e-5
"""Absolute, on figures of at most about 1. Rounding makes 5e-7; soxr's next quality, above or below, 3e-5 and more."""
SECONDS = 1.0
SEGMENTS = 4


@dataclass(frozen=True, slots=True)
class Signal:
    """A sound file to write: frames (frames, channels), its rate and libsndfile's name of its sample format."""

    name: str
    frames: Samples
    rate_hz: int
    subtype: str = "FLOAT"


def signals() -> Iterator[Signal]:
    """The hard cases: quiet, loud, DC, clipped, silence, 8 kHz, 44.1 kHz, stereo, 24-bit, short."""
    voice = _voice(SAMPLE_RATE_HZ)
    yield Signal("quiet", voice * np.float32(0.003), SAMPLE_RATE_HZ)
    yield Signal("loud", voice * np.float32(3.0), SAMPLE_RATE_HZ)
    yield Signal("dc", voice * np.float32(0.1) + np.float32(0.2), SAMPLE_RATE_HZ)
    yield Signal("clipped", np.clip(voice * np.float32(6.0), -1, 1).astype(np.float32), SAMPLE_RATE_HZ, "PCM_16")
    peaky = voice * np.float32(0.01)
    peaky[::1999] = 1.0
    yield Signal("peaky", peaky, SAMPLE_RATE_HZ)
    yield Signal("silence", voice * np.float32(1e-4), SAMPLE_RATE_HZ)
    yield Signal("digital_silence", np.zeros_like(voice), SAMPLE_RATE_HZ, "PCM_16")
    yield Signal("8_khz", _voice(8_000), 8_000, "PCM_16")
    yield Signal("44_khz", _voice(44_100), 44_100, "PCM_16")
    yield Signal("stereo", np.stack([voice, np.roll(voice, 400) * np.float32(0.5)], axis=1), SAMPLE_RATE_HZ, "PCM_16")
    yield Signal("24_bit", voice * np.float32(0.02), SAMPLE_RATE_HZ, "PCM_24")
    yield Signal("short", voice[:700], SAMPLE_RATE_HZ, "PCM_16")


def figures(target_rms: float = TARGET_RMS) -> dict[str, list[float]]:
    """What each signal becomes: length, clamped samples, then RMS, mean and roughness of each quarter."""
    return _figures(_decoded(), target_rms)


def probe_fingerprint(target_rms: float = TARGET_RMS) -> str:
    """12 hex digits: the same wherever the audio path makes the same samples, but for rounding. Takes 30 ms of CPU.

    The signals are brought to the default level, whose figures are recorded, and at another `target_rms` compared with
    their definition, sample by sample. A path that makes others gets the fingerprint of its own figures.
    """
    decoded = _decoded()
    made = _figures(decoded, TARGET_RMS)
    rows = _rows(EXPECTED if same_figures(made, EXPECTED) else made)
    if target_rms != TARGET_RMS:
        rows += [f"at {target_rms!r}"]
        rows += [] if _as_defined(decoded, target_rms) else _rows(_figures(decoded, target_rms))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]


def _decoded() -> dict[str, Samples]:
    """The signals through files and decoder, before normalisation."""
    clips: dict[str, Samples] = {}
    with tempfile.TemporaryDirectory(prefix="lora-probe-") as folder:
        for signal in signals():
            path = Path(folder) / f"{signal.name}.wav"
            sound = io.BytesIO()
            soundfile.write(sound, signal.frames, signal.rate_hz, format="WAV", subtype=signal.subtype)
            path.write_bytes(sound.getvalue())  # an OSError says that the disk is full; libsndfile does not
            clips[signal.name] = read_clip(path)
    return clips


def _figures(decoded: dict[str, Samples], target_rms: float) -> dict[str, list[float]]:
    result: dict[str, list[float]] = {}
    for name, clip in decoded.items():
        heard = normalise(clip, target_rms)
        result[name] = [float(len(heard.samples)), float(heard.clipped), *_quarters(heard.samples)]
    return result


def _rows(figures: dict[str, list[float]]) -> list[str]:
    return [f"{name} {[round(value, 6) for value in values]}" for name, values in sorted(figures.items())]


def _as_defined(decoded: dict[str, Samples], target_rms: float) -> bool:
    """Whether each clip becomes what docs/design.md says: scaled to the level, clamped to ±1, silence left alone."""
    for clip in decoded.values():
        exact = clip.astype(np.float64)
        rms = float(np.sqrt(np.mean(np.square(exact))))
        wanted = exact if rms < SILENCE_RMS else np.clip(exact * (target_rms / rms), -1.0, 1.0)
        heard = normalise(clip, target_rms).samples
        if heard.shape != wanted.shape or not np.allclose(heard, wanted, rtol=0, atol=TOLERANCE):
            return False
    return True


def same_figures(first: dict[str, list[float]], second: dict[str, list[float]]) -> bool:
    """Whether two sets of figures differ by rounding only."""
    return first.keys() == second.keys() and all(
        len(first[name]) == len(second[name]) and np.allclose(first[name], second[name], rtol=0, atol=TOLERANCE)
        for name in first
    )


def _voice(rate_hz: int) -> Samples:
    """A sweep with overtones that swells and fades: some of it at every frequency. Shape (samples,)."""
    time = np.arange(int(SECONDS * rate_hz)) / rate_hz
    phase = 2 * np.pi * (80 * time + 0.45 * rate_hz / 2 * time**2)
    swell = 0.15 + 0.85 * np.sin(np.pi * 3 * time) ** 2
    return (0.3 * swell * (np.sin(phase) + 0.5 * np.sin(2 * phase / 3) + 0.2 * np.sin(phase / 5))).astype(np.float32)


def _quarters(samples: Samples) -> Iterator[float]:
    for part in np.array_split(samples.astype(np.float64), SEGMENTS):
        yield float(np.sqrt(np.mean(np.square(part))))
        yield float(np.mean(part))
        yield float(np.sqrt(np.mean(np.square(np.diff(part)))))
