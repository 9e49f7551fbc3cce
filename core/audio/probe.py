"""Normalisation parity, proved: hard signals through the real audio path, fingerprinted by what comes out.

`core.audio.samples.audio_fingerprint` is over the parameters that the code says it uses. This is over the samples that
it makes: a changed resampler, a lost clamp, another mix of channels show here although no parameter changed.
Libraries round differently on different machines, so figures are compared with recorded ones, within a tolerance: no
figure is rounded to a digit that noise could turn over.
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

from core.audio.probe_figures import EXPECTED
from core.audio.samples import SAMPLE_RATE_HZ, SILENCE_RMS, TARGET_RMS, normalise, read_clip
from core.audio.sound_file import Samples

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
