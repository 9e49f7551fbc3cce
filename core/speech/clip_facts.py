"""What a clip is like: one decoding, and every figure that the data audit needs of it."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import AudioError
from core.speech.audio import (
    SAMPLE_RATE_HZ,
    SILENCE_RMS,
    TARGET_RMS,
    at_sample_rate,
    decode_native,
    normalise,
    root_mean_square,
)
from core.speech.levels import Levels, checksum
from core.speech.peaks import NO_PEAKS, Peaks, coarse_peaks, fine_peaks, low_band

NEAR_CLAMP = 0.9
"""Resampling can raise a peak: from here on the samples that the model hears are looked at themselves."""
ClipRequest = tuple[str, float, float | None]
"""(audio file, offset in s, duration in s or None): crosses to the worker processes."""

_OPEN_ENDED = (0, 0xFFFFFFFF)
"""RIFF sizes of files that were written through a pipe."""
_TELLING = ("WAV", "WAVEX", "OGG")
"""Containers that say how much should follow."""
_OGG_TAIL = 1 << 17
_OGG_END_OF_STREAM = 4


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """Figures of one clip. With a `problem` the rest says nothing."""

    problem: tuple[str, str] | None = None
    """(kind, message): missing, unreadable, empty, slice, truncated or nan."""
    rate_hz: int = 0
    channels: int = 0
    file_s: float = 0.0
    """Length of the whole file."""
    seconds: float = 0.0
    """Length of the clip."""
    rms: float = 0.0
    """Before normalisation."""
    rms_after: float = 0.0
    """After normalisation and clamp."""
    peak: float = 0.0
    dc: float = 0.0
    """Mean of the samples."""
    clipped_share: float = 0.0
    """Of the file's samples: at full scale, or in flat tops at the peak."""
    clamped_share: float = 0.0
    """Of the samples that the model hears: clamped by the normalisation."""
    silent: bool = False
    cut_off: bool = False
    """The container says that more should follow."""
    digest: bytes = b""
    """Length, rate, checksums and energy of the decoded samples: equal for the same audio in another lossless file."""
    peaks: Peaks = field(default_factory=lambda: NO_PEAKS)
    """Coarse ones."""


def measure(
    path: Path, offset_s: float = 0.0, duration_s: float | None = None, target_rms: float = TARGET_RMS
) -> ClipFacts:
    """The facts of one clip. Never raises for a bad file."""
    levels = Levels()
    try:
        clip = decode_native(path, offset_s, duration_s, levels.see)
    except AudioError as error:
        return ClipFacts(problem=(error.kind, error.of_a_line))
    samples, rate_hz = clip.samples, clip.rate_hz
    rms = math.sqrt(clip.energy / len(samples)) if math.isfinite(clip.energy) else root_mean_square(samples)
    peak = levels.peak if clip.channels == 1 else float(max(samples.max(), -samples.min()))
    silent = rms < SILENCE_RMS
    after, clamped = rms if silent else target_rms, 0.0
    if not silent and peak * target_rms > (NEAR_CLAMP if rate_hz != SAMPLE_RATE_HZ else 1.0) * rms:
        # Only here does the normalisation clamp: the others are spared the resampling.
        heard = normalise(at_sample_rate(samples, rate_hz), target_rms)
        after, clamped = root_mean_square(heard.samples), heard.clipped / len(heard.samples)
    words, order = checksum(samples)
    low = low_band(samples, rate_hz)
    return ClipFacts(
        rate_hz=rate_hz,
        channels=clip.channels,
        file_s=clip.file_s,
        seconds=len(samples) / rate_hz,
        rms=rms,
        rms_after=after,
        peak=peak,
        dc=float(low.samples.mean()) if len(low.samples) else 0.0,
        clipped_share=levels.clipped / max(1, levels.samples),
        clamped_share=clamped,
        silent=silent,
        cut_off=clip.container in _TELLING and is_cut_off(path),
        digest=struct.pack("<QIQIf", len(samples), rate_hz, words, order, clip.energy),
        peaks=coarse_peaks(low),
    )


def measure_all(requests: Sequence[ClipRequest], target_rms: float = TARGET_RMS) -> list[ClipFacts]:
    """`measure` for a batch of clips: what a worker process does."""
    return [measure(Path(name), offset_s, duration_s, target_rms) for name, offset_s, duration_s in requests]


def fine_peaks_all(requests: Sequence[ClipRequest]) -> list[Peaks]:
    """The fine peaks of a batch of clips; none of those that cannot be decoded any more."""
    found = []
    for name, offset_s, duration_s in requests:
        try:
            clip = decode_native(Path(name), offset_s, duration_s)
        except AudioError:
            found.append(NO_PEAKS)
        else:
            found.append(fine_peaks(clip.samples, clip.rate_hz))
    return found


def is_cut_off(path: Path) -> bool:
    """Whether a WAV is shorter than its header says, or an Ogg file lacks its last page. Decoders pass over both."""
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(12)
            size = os.fstat(file.fileno()).st_size
            if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
                (said,) = struct.unpack("<I", head[4:8])
                return said not in _OPEN_ENDED and said + 8 > size + 1
            if head[:4] != b"OggS":
                return False
            file.seek(max(0, size - _OGG_TAIL))
            tail = file.read()
    except OSError:
        return False
    last = tail.rfind(b"OggS")
    return last < 0 or len(tail) <= last + 5 or not tail[last + 5] & _OGG_END_OF_STREAM or _page_is_short(tail[last:])


def _page_is_short(page: bytes) -> bool:
    """Whether an Ogg page lacks some of the bytes that its segment table tells."""
    if len(page) < 27:
        return True
    segments = page[26]
    return len(page) < 27 + segments + sum(page[27 : 27 + segments])
