"""The audio path: slice → mono (mean or channel) → 16 kHz → RMS → clamp. Training, evaluation, `lora-cli` use it.

**Slices.** A clip is `offset_s … offset_s + duration_s` of its file, the whole file when neither is given.
Durations in manifests are rounded, so without an offset a duration cuts only what is clearly longer: a file
that ends before it, or less than 0.1 s after it, is read whole. With an offset the slice is exact and must
lie inside the file (0.1 s aside). An offset of 0 counts as none. A slice is what the whole file has there, to the
sample, whatever the format. Audio that is longer than a model takes is cut in its pauses.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr

from core.audio.sound_file import Inspect, Samples, opened, read_mono, total_frames
from core.audio.sound_headers import Oddity
from core.errors import AudioError

FRAME_S = 0.05
HOP_S = 0.01
MIN_REST_S = 1.0
"""A shorter rest makes recognisers repeat themselves, so the last cut leaves at least this where it can."""


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


SAMPLE_RATE_HZ = 16_000
TARGET_RMS = 0.075
SILENCE_RMS = 1e-4
RESAMPLER_QUALITY = "HQ"
AUDIO_PATH_VERSION = 1
"""To be raised when the samples change: older adapters and caches are then refused."""

DURATION_TOLERANCE_S = 0.1
"""How far a manifest's duration may be from the file's before it means something."""

_LARGEST_SAMPLE = 1e30
"""Above it, float32 overflows on the way."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A clip, mono, before RMS normalisation, and facts of the file that it came from."""

    samples: Samples
    file_s: float
    rate_hz: int
    channels: int
    container: str = ""
    """As libsndfile names it: WAV, FLAC, OGG, MP3, …"""
    energy: float = 0.0
    """Sum of the squares of the samples as the file has them, before resampling; infinite if float32 overflows."""
    oddity: Oddity | None = None
    """What is odd about the file's header."""


@dataclass(frozen=True, slots=True)
class Normalised:
    """A clip as the model hears it: `clipped` samples were clamped; a `silent` one is left as it was."""

    samples: Samples
    rms_before: float
    clipped: int
    silent: bool


def read_clip(
    path: Path, offset_s: float = 0.0, duration_s: float | None = None, channel: int | None = None
) -> Samples:
    """A clip (samples,): mono, 16 kHz, not yet normalised. Reads only the slice.

    Raises AudioError naming the file: missing, unreadable, empty, shorter than the slice, without the channel, NaN.
    """
    return decode_clip(path, offset_s, duration_s, channel=channel).samples


def decode_clip(
    path: Path,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    inspect: Inspect | None = None,
    channel: int | None = None,
) -> Decoded:
    """`read_clip`, and what the file is like: for those who compare it with what a manifest says.

    `channel` is the one to hear, from 0; None: the mean of all. `inspect` sees each block of frames before that.
    """
    clip = decode_native(path, offset_s, duration_s, inspect, channel)
    samples = at_sample_rate(clip.samples, clip.rate_hz)
    if not len(samples):
        raise AudioError(f"{path}: no samples in the clip: replace the file", "empty")
    return replace(clip, samples=np.ascontiguousarray(samples, dtype=np.float32))


def at_sample_rate(mono: Samples, rate_hz: int) -> Samples:
    """Samples (samples,) at 16 kHz."""
    if rate_hz == SAMPLE_RATE_HZ:
        return mono
    return np.asarray(soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ, RESAMPLER_QUALITY))


def decode_native(
    path: Path,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    inspect: Inspect | None = None,
    channel: int | None = None,
) -> Decoded:
    """`decode_clip` before resampling: at the file's own rate, for those who only measure."""
    with opened(path) as file:
        rate_hz, total = file.samplerate, total_frames(file)
        if channel is not None and not 0 <= channel < file.channels:
            has = "one channel" if file.channels == 1 else f"{file.channels} channels"
            raise AudioError(
                f"{path}: no channel {channel}: the file has {has}, and the first is 0: correct or remove channel",
                "channel",
            )
        start, stop = slice_frames(total, rate_hz, offset_s, duration_s)
        if start >= total or stop > total:
            end_s = "the end" if duration_s is None else f"{offset_s + duration_s:g} s"
            raise AudioError(
                f"{path}: the slice from {offset_s:g} s to {end_s} is not inside the file, which is "
                f"{total / rate_hz:.3f} s long: correct offset and duration",
                "slice",
            )
        mono = read_mono(file, start, stop, inspect, channel)
        end = start + len(mono)
        if stop - end > DURATION_TOLERANCE_S * rate_hz and (file.format, stop) != ("MP3", total):
            # A whole MP3 may end anywhere: its header is often an estimate.
            raise AudioError(
                f"{path}: cut off: it ends at {end / rate_hz:.3f} s, but its header says "
                f"{total / rate_hz:.3f} s: copy the file again",
                "truncated",
            )
        file_s, channels = (total if end == stop else end) / rate_hz, file.channels
        container, oddity = file.format, file.oddity
    with np.errstate(all="ignore"):
        energy = float(np.dot(mono, mono))
    # The sum says at once that all is well; the look at each sample is False for NaN, too.
    if not math.isfinite(energy) and not (usable := np.abs(mono) < _LARGEST_SAMPLE).all():
        at_s = (start + int(np.argmin(usable))) / rate_hz
        raise AudioError(f"{path}: NaN or infinite samples at {at_s:.3f} s: export it again", "nan")
    if not len(mono):
        raise AudioError(f"{path}: no samples in the clip: replace the file", "empty")
    return Decoded(mono, file_s, rate_hz, channels, container, energy, oddity)


def slice_frames(total: int, rate_hz: int, offset_s: float, duration_s: float | None) -> tuple[int, int]:
    """Frames [start, stop) of a file with `total` frames; may end beyond it (rules: the module's head)."""
    if not (math.isfinite(offset_s) and offset_s >= 0):
        raise ValueError(f"offset_s must be 0 or more, not {offset_s}")
    if duration_s is not None and not (math.isfinite(duration_s) and duration_s > 0):
        raise ValueError(f"duration_s must be more than 0, not {duration_s}")
    start = round(offset_s * rate_hz)
    if duration_s is None:
        return start, total
    stop = round((offset_s + duration_s) * rate_hz)
    tolerance = round(DURATION_TOLERANCE_S * rate_hz)
    if start == 0 and stop >= total - tolerance:
        return 0, total
    if total < stop <= total + tolerance:
        stop = total
    return start, stop


def header_seconds(path: Path) -> float:
    """How long a file is, by its header. Raises AudioError."""
    with opened(path) as file:
        return float(total_frames(file) / file.samplerate)


def normalise(samples: Samples, target_rms: float = TARGET_RMS) -> Normalised:
    """Scale a clip (samples,) to `target_rms` and clamp to ±1. Silence (RMS below 1e-4) is left as it is."""
    rms = root_mean_square(samples)
    if not math.isfinite(rms):
        raise AudioError("the samples hold NaN or infinite values: export the audio again")
    if rms < SILENCE_RMS:
        return Normalised(np.array(samples, dtype=np.float32), rms, clipped=0, silent=True)
    scaled = np.asarray(samples, dtype=np.float32) * np.float32(target_rms / rms)
    clipped = int(np.count_nonzero(np.abs(scaled) > 1.0))
    return Normalised(np.clip(scaled, -1.0, 1.0, out=scaled), rms, clipped, silent=False)


def root_mean_square(samples: Samples) -> float:
    """The RMS of a clip, summed in float64; 0 for no samples."""
    return math.sqrt(float(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def audio_fingerprint(target_rms: float = TARGET_RMS) -> str:
    """12 hex digits over all that decides what a model hears. An adapter carries it; loading checks it."""
    facts = {
        "version": AUDIO_PATH_VERSION,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "resampler": f"soxr {RESAMPLER_QUALITY}",
        "channels": "mean",
        "target_rms": float(target_rms),
        "silence_rms": SILENCE_RMS,
        "clamp": 1.0,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def cut_at_pauses(samples: Samples, max_seconds: float) -> list[tuple[int, int]]:
    """Ranges [start, stop) of at most `max_seconds` that cover `samples` once, cut at its pauses."""
    return pause_cuts(samples, max_seconds, SAMPLE_RATE_HZ)
