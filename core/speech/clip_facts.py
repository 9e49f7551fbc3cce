"""What a clip is like: one decoding, and every figure that the data audit needs of it."""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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
from core.speech.landmarks import Peaks, find_peaks
from core.speech.sound_file import Samples

FULL_SCALE = 0.999
NEAR_CLAMP = 0.9
"""Resampling can raise a peak: from here on the samples that the model hears are looked at themselves."""
FLAT_RUN = 3
"""As many equal samples in a row at the clip's peak are a flat top: it was clipped, whatever its gain now."""

ClipRequest = tuple[str, float, float | None]
"""(audio file, offset in s, duration in s or None): crosses to the worker processes."""

_OPEN_ENDED = (0, 0xFFFFFFFF)
"""RIFF sizes of files that were written through a pipe."""
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
    """Length, rate, checksum and energy of the decoded samples: equal for the same audio in another lossless file."""
    peaks: Peaks = field(default_factory=lambda: np.empty(0, np.uint32))


class _Clipping:
    """Counts clipped samples block by block, as the file has them."""

    def __init__(self) -> None:
        self.clipped = self.samples = 0

    def see(self, block: Samples) -> None:
        self.samples += block.size
        peak = float(max(block.max(initial=0.0), -block.min(initial=0.0)))
        if not peak > 0:
            return
        size = np.abs(block)
        top = size >= peak
        full = int(np.count_nonzero(size >= FULL_SCALE)) if peak >= FULL_SCALE else 0
        flat = 0
        if len(block) >= FLAT_RUN and int(np.count_nonzero(top)) >= FLAT_RUN:
            runs = top[:-2] & top[1:-1] & top[2:]
            marked = np.zeros_like(top)
            for shift in range(FLAT_RUN):
                marked[shift : len(runs) + shift] |= runs
            flat = int(np.count_nonzero(marked))
        self.clipped += max(full if full >= FLAT_RUN else 0, flat)


def measure(path: Path, offset_s: float = 0.0, duration_s: float | None = None) -> ClipFacts:
    """The facts of one clip, `target_rms` being the default. Never raises for a bad file."""
    clipping = _Clipping()
    try:
        clip = decode_native(path, offset_s, duration_s, clipping.see)
    except AudioError as error:
        return ClipFacts(problem=(error.kind, str(error)))
    samples, rate_hz = clip.samples, clip.rate_hz
    energy = float(np.dot(samples, samples))
    rms = math.sqrt(energy / len(samples)) if math.isfinite(energy) else root_mean_square(samples)
    peak = float(max(samples.max(), -samples.min()))
    silent = rms < SILENCE_RMS
    after, clamped = rms if silent else TARGET_RMS, 0.0
    if not silent and peak * TARGET_RMS > (NEAR_CLAMP if rate_hz != SAMPLE_RATE_HZ else 1.0) * rms:
        # Only here does the normalisation clamp: the others are spared the resampling.
        heard = normalise(at_sample_rate(samples, rate_hz), TARGET_RMS)
        after, clamped = root_mean_square(heard.samples), heard.clipped / len(heard.samples)
    return ClipFacts(
        rate_hz=rate_hz,
        channels=clip.channels,
        file_s=clip.file_s,
        seconds=len(samples) / rate_hz,
        rms=rms,
        rms_after=after,
        peak=peak,
        dc=float(samples.mean()),
        clipped_share=clipping.clipped / max(1, clipping.samples),
        clamped_share=clamped,
        silent=silent,
        cut_off=is_cut_off(path),
        digest=struct.pack("<QIIf", len(samples), rate_hz, zlib.crc32(samples.data), energy),
        peaks=find_peaks(samples, rate_hz),
    )


def measure_all(requests: Sequence[ClipRequest]) -> list[ClipFacts]:
    """`measure` for a batch of clips: what a worker process does."""
    return [measure(Path(name), offset_s, duration_s) for name, offset_s, duration_s in requests]


def is_cut_off(path: Path) -> bool:
    """Whether a WAV is shorter than its header says, or an Ogg file lacks its last page. Decoders pass over both."""
    try:
        with path.open("rb") as file:
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
