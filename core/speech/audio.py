"""The audio path: slice → mono (mean) → 16 kHz → RMS → clamp. Training, evaluation and `lora-cli` all use it.

**Slices.** A clip is `offset_s … offset_s + duration_s` of its file, the whole file when neither is given.
Durations in manifests are rounded, so without an offset a duration cuts only what is clearly longer: a file
that ends before it, or less than 0.1 s after it, is read whole. With an offset the slice is exact and must
lie inside the file (0.1 s aside). An offset of 0 counts as none.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from core.errors import AudioError
from core.speech.pauses import pause_cuts

SAMPLE_RATE_HZ = 16_000
TARGET_RMS = 0.075
SILENCE_RMS = 1e-4
RESAMPLER_QUALITY = "HQ"
AUDIO_PATH_VERSION = 1
"""To be raised when the samples change: older adapters and caches are then refused."""

DURATION_TOLERANCE_S = 0.1
"""How far a manifest's duration may be from the file's before it means something."""
PLAUSIBLE_RATES_HZ = range(1_000, 1_000_000)
"""Beyond these a header is broken, and resampling would fill the memory."""

_BLOCK_SAMPLES = 1 << 22
_UNKNOWN_FRAMES = 1 << 50
"""libsndfile says 2⁶³ − 1 for a stream whose length it cannot know."""
_LARGEST_SAMPLE = 1e30
"""Above it, float32 overflows on the way."""

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A clip at 16 kHz, mono, before RMS normalisation, and how long the file is that it came from."""

    samples: Samples
    file_s: float


@dataclass(frozen=True, slots=True)
class Normalised:
    """A clip as the model hears it: `clipped` samples were clamped; a `silent` one is left as it was."""

    samples: Samples
    rms_before: float
    clipped: int
    silent: bool


def read_clip(path: Path, offset_s: float = 0.0, duration_s: float | None = None) -> Samples:
    """A clip (samples,): mono, 16 kHz, not yet normalised. Reads only the slice.

    Raises AudioError naming the file: missing, unreadable, empty, shorter than the slice, NaN.
    """
    return decode_clip(path, offset_s, duration_s).samples


def decode_clip(path: Path, offset_s: float = 0.0, duration_s: float | None = None) -> Decoded:
    """`read_clip`, and how long the file is: for those who compare it with what a manifest says."""
    with _opened(path) as file:
        rate_hz, total = file.samplerate, file.frames
        start, stop = slice_frames(total, rate_hz, offset_s, duration_s)
        if start >= total or stop > total:
            end_s = "the end" if duration_s is None else f"{offset_s + duration_s:g} s"
            raise AudioError(
                f"{path}: the slice from {offset_s:g} s to {end_s} is not inside the file, which is "
                f"{total / rate_hz:.3f} s long: correct offset and duration"
            )
        mono = _read_mono(file, start, stop)
        total = _checked_total(path, file, stop, start + len(mono))
    usable = np.abs(mono) < _LARGEST_SAMPLE  # False for NaN, too.
    if not usable.all():
        at_s = (start + int(np.argmin(usable))) / rate_hz
        raise AudioError(
            f"{path}: NaN or infinite samples at {at_s:.3f} s: export it again or remove its line"
        )
    samples = mono
    if rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ, RESAMPLER_QUALITY)
    if not len(samples):
        raise AudioError(f"{path}: no samples in the clip: replace the file or remove its line")
    return Decoded(np.ascontiguousarray(samples, dtype=np.float32), total / rate_hz)


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
    """How long a file is, from its header. Raises AudioError."""
    with _opened(path) as file:
        return float(file.frames / file.samplerate)


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


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """The open file, or an AudioError; what libsndfile says while it is read becomes one too."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(
            f"{path}: cannot be opened ({reason}): correct the path or the permissions"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{path}: not a file: name an audio file")
    if status.st_size == 0:
        raise AudioError(f"{path}: the file is empty: replace it or remove its line")
    try:
        # Bytes: file names need not be valid UTF-8.
        with soundfile.SoundFile(os.fsencode(path)) as file:
            if file.frames <= 0:
                raise AudioError(f"{path}: no samples in the file: replace it or remove its line")
            if file.samplerate not in PLAUSIBLE_RATES_HZ:
                raise AudioError(
                    f"{path}: a sample rate of {file.samplerate} Hz is not plausible: export the file again"
                )
            yield file
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        reason = str(getattr(error, "error_string", error)).rstrip(". ")
        raise AudioError(f"{path}: not readable as audio ({reason}): convert it to WAV or FLAC") from error


def _checked_total(path: Path, file: soundfile.SoundFile, stop: int, end: int) -> int:
    """Frames of the file, now that reading up to `stop` got to `end`. Raises AudioError if it is cut off."""
    total = int(file.frames)
    if end == stop:
        return total
    # The header of an MP3 is often an estimate, so a whole one may end anywhere.
    estimated = total >= _UNKNOWN_FRAMES or file.format == "MP3"
    if stop - end > DURATION_TOLERANCE_S * file.samplerate and not (estimated and stop == total):
        raise AudioError(
            f"{path}: cut off: it ends at {end / file.samplerate:.3f} s, but its header says "
            f"{total / file.samplerate:.3f} s: copy the file again"
        )
    return end


def _read_mono(file: soundfile.SoundFile, start: int, stop: int) -> Samples:
    """Frames [start, stop), mean over channels. In blocks: a false header must not ask for all the memory."""
    blocks: list[Samples] = []
    if start:
        file.seek(start)
    position, block_frames = start, max(1, _BLOCK_SAMPLES // file.channels)
    while position < stop:
        block = file.read(min(block_frames, stop - position), dtype="float32", always_2d=True)
        if not len(block):
            break
        position += len(block)
        blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks or [np.empty(0, np.float32)])
