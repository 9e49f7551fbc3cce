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
from core.speech.peaks import NO_PEAKS, Peaks, coarse_peaks, fine_peaks
from core.speech.sound_file import Block, Samples

FULL_SCALE = 0.999
NEAR_CLAMP = 0.9
"""Resampling can raise a peak: from here on the samples that the model hears are looked at themselves."""
FLAT_RUN = 3
"""As many equal samples in a row at the clip's peak are a flat top: it was clipped, whatever its gain now."""

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
    """Length, rate, checksum and energy of the decoded samples: equal for the same audio in another lossless file."""
    peaks: Peaks = field(default_factory=lambda: NO_PEAKS)
    """Coarse ones."""


class _Blocks:
    """Looks at the samples block by block as the file has them: counts clipped ones, adds up the checksum."""

    def __init__(self) -> None:
        self.clipped = self.samples = 0
        self.peak = 0.0
        self.crc: int | None = 0
        """Of 16-bit mono; None for other files."""

    def see(self, block: Block) -> None:
        self.samples += block.size
        one = block[:, 0] if block.shape[1] == 1 else block
        if one.dtype == np.int16:
            unit: float = _STEPS
            self.crc = None if one.ndim > 1 or self.crc is None else zlib.crc32(one.data, self.crc)
            peak: float = max(int(one.max(initial=0)), -int(one.min(initial=0)))
            full_scale: float = math.ceil(FULL_SCALE * _STEPS)
        else:
            unit, self.crc, full_scale = 1.0, None, FULL_SCALE
            peak = max(float(one.max(initial=0)), -float(one.min(initial=0)))
        if not peak > 0:
            return
        self.peak = max(self.peak, peak / unit)
        least = min(full_scale, peak)
        full = int(np.count_nonzero(one >= least)) + int(np.count_nonzero(one <= -least))
        if full < FLAT_RUN:
            return
        top = (one >= peak) | (one <= -peak)
        flat = 0
        if len(one) >= FLAT_RUN:
            runs = top[:-2] & top[1:-1] & top[2:]
            marked = np.zeros_like(top)
            for shift in range(FLAT_RUN):
                marked[shift : len(runs) + shift] |= runs
            flat = int(np.count_nonzero(marked))
        self.clipped += max(full if peak >= full_scale else 0, flat)


_STEPS = 32768


def measure(
    path: Path, offset_s: float = 0.0, duration_s: float | None = None, target_rms: float = TARGET_RMS
) -> ClipFacts:
    """The facts of one clip. Never raises for a bad file."""
    blocks = _Blocks()
    try:
        clip = decode_native(path, offset_s, duration_s, blocks.see)
    except AudioError as error:
        return ClipFacts(problem=(error.kind, str(error)))
    samples, rate_hz = clip.samples, clip.rate_hz
    rms = math.sqrt(clip.energy / len(samples)) if math.isfinite(clip.energy) else root_mean_square(samples)
    peak = blocks.peak if clip.channels == 1 else float(max(samples.max(), -samples.min()))
    crc = _checksum(samples) if blocks.crc is None else blocks.crc
    silent = rms < SILENCE_RMS
    after, clamped = rms if silent else target_rms, 0.0
    if not silent and peak * target_rms > (NEAR_CLAMP if rate_hz != SAMPLE_RATE_HZ else 1.0) * rms:
        # Only here does the normalisation clamp: the others are spared the resampling.
        heard = normalise(at_sample_rate(samples, rate_hz), target_rms)
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
        clipped_share=blocks.clipped / max(1, blocks.samples),
        clamped_share=clamped,
        silent=silent,
        cut_off=clip.container in _TELLING and is_cut_off(path),
        digest=struct.pack("<QIIf", len(samples), rate_hz, crc, clip.energy),
        peaks=coarse_peaks(samples, rate_hz),
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


def _checksum(samples: Samples) -> int:
    """Of the samples as 16-bit numbers where they are such, so that a 24-bit copy of a 16-bit file has the same one."""
    middle = len(samples) // 2
    for part in (samples[middle : middle + _PROBED], samples):
        steps = part * np.float32(_STEPS)
        if not (np.array_equal(steps, np.rint(steps)) and np.abs(steps).max(initial=0) < _STEPS):
            return zlib.crc32(samples.data)
    return zlib.crc32(steps.astype(np.int16).data)


_PROBED = 256
"""Samples that tell what is not of 16 bits at once."""


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
