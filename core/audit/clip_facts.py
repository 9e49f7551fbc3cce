"""What a clip is like: one decoding, and every figure that the data audit needs of it.

Levels and checksums are few and cheap passes over the samples, since a corpus has hours of audio.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from core.audio.samples import (
    SAMPLE_RATE_HZ,
    SILENCE_RMS,
    TARGET_RMS,
    at_sample_rate,
    decode_native,
    normalise,
    root_mean_square,
)
from core.audio.sound_file import Channels, Samples
from core.audio.sound_headers import Oddity
from core.audit.fingerprint.peaks import NO_PEAKS, Peaks, coarse_look, low_band
from core.audit.fingerprint.pictures import NO_PICTURE, Picture, picture
from core.audit.fingerprint.shapes import NO_SHAPE, shape
from core.errors import AudioError
from core.manifests.manifest import Utterance
from core.system.process import Later, usable_cpus

FULL_SCALE = 0.999
FLAT_RUN = 3
"""As many equal samples in a row at the clip's peak are a flat top: it was clipped, whatever its gain now."""

Checksum = tuple[int, int]
"""Sum of the samples' 64-bit words, which a change of any sample changes, and a CRC of every ORDERED-th sample, which
tells their order: together a fraction of the time that a CRC of all of them takes."""
ORDERED = 64


class Levels:
    """RunStatusCache at the samples block by block as the file has them: counts clipped ones, finds the peak."""

    def __init__(self) -> None:
        self.clipped = self.samples = 0
        self.peak = 0.0

    def see(self, block: Samples) -> None:
        """Take the next block of samples into the figures."""
        self.samples += block.size
        high, low = block.max(initial=0).item(), block.min(initial=0).item()
        peak = max(high, -low)
        if not peak > 0:
            return
        self.peak = max(self.peak, peak)
        least = min(FULL_SCALE, peak)
        full = int(np.count_nonzero(block >= least)) if high >= least else 0
        full += int(np.count_nonzero(block <= -least)) if -low >= least else 0
        if full < FLAT_RUN:
            return
        top = (block >= peak) | (block <= -peak)
        flat = 0
        if len(block) >= FLAT_RUN:
            runs = top[:-2] & top[1:-1] & top[2:]
            marked = np.zeros_like(top)
            for shift in range(FLAT_RUN):
                marked[shift : len(runs) + shift] |= runs
            flat = int(np.count_nonzero(marked))
        self.clipped += max(full if peak >= FULL_SCALE else 0, flat)


def checksum(samples: Samples) -> Checksum:
    """The checksum of mono samples (samples,)."""
    words = int(np.add.reduce(samples[: len(samples) // 2 * 2].view(np.uint64)))
    words += int.from_bytes(samples[len(samples) // 2 * 2 :].tobytes(), "little")
    return words & 0xFFFFFFFFFFFFFFFF, zlib.crc32(samples[::ORDERED].tobytes())


NEAR_CLAMP = 0.9
"""Resampling can raise a peak: from here on the samples that the model hears are looked at themselves."""
ClipRequest = tuple[str, float, float | None, int | None]
"""(audio file, offset in s, duration in s or None, channel or None): crosses to the worker processes."""

_OGG_TAIL = 1 << 17
_OGG_END_OF_STREAM = 4


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """Figures of one clip. With a `problem` the rest says nothing."""

    problem: tuple[str, str] | None = None
    """(kind, message): missing, unreadable, empty, slice, channel, truncated or nan."""
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
    oddity: Oddity | None = None
    """The container says that more should follow, or not how much."""
    channel_oddity: Oddity | None = None
    """Channels whose mean is what none of them says."""
    digest: bytes = b""
    """Length, rate, checksums and energy of the decoded samples: equal for the same audio in another lossless file."""
    peaks: Peaks = field(default_factory=lambda: NO_PEAKS)
    """Coarse ones."""
    shape: bytes = NO_SHAPE


def measure(
    path: Path,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    target_rms: float = TARGET_RMS,
    channel: int | None = None,
) -> ClipFacts:
    """The facts of one clip. Never raises for a bad file."""
    levels, channels = Levels(), Channels()

    def see(block: Samples, rate_hz: int) -> None:
        levels.see(block)
        channels.see(block, rate_hz)

    try:
        clip = decode_native(path, offset_s, duration_s, see, channel)
    except AudioError as error:
        return ClipFacts(problem=(error.kind, error.of_a_line))
    samples, rate_hz = clip.samples, clip.rate_hz
    rms = math.sqrt(clip.energy / len(samples)) if math.isfinite(clip.energy) else root_mean_square(samples)
    peak = levels.peak if clip.channels == 1 or channel is not None else float(max(samples.max(), -samples.min()))
    silent = rms < SILENCE_RMS
    after, clamped = rms if silent else target_rms, 0.0
    if not silent and peak * target_rms > (NEAR_CLAMP if rate_hz != SAMPLE_RATE_HZ else 1.0) * rms:
        # Only here does the normalisation clamp: the others are spared the resampling.
        heard = normalise(at_sample_rate(samples, rate_hz), target_rms)
        after, clamped = root_mean_square(heard.samples), heard.clipped / len(heard.samples)
    words, order = checksum(samples)
    low = low_band(samples, rate_hz)
    is_cut = clip.container == "OGG" and ogg_is_cut_off(path)
    peaks, plane = coarse_look(low)
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
        oddity=("cut_off", f"ends at {clip.file_s:.2f} s") if is_cut else clip.oddity,
        channel_oddity=channels.oddity(),
        digest=struct.pack("<QIQIf", len(samples), rate_hz, words, order, clip.energy),
        peaks=peaks,
        shape=NO_SHAPE if silent else shape(plane),
    )


def measure_all(requests: Sequence[ClipRequest], target_rms: float = TARGET_RMS) -> list[ClipFacts]:
    """`measure` for a batch of clips: what a worker process does."""
    return [
        measure(Path(name), offset_s, duration_s, target_rms, channel)
        for name, offset_s, duration_s, channel in requests
    ]


def pictures_of(requests: Sequence[ClipRequest]) -> list[Picture]:
    """The pictures of a batch of clips; none of those that cannot be decoded any more."""
    found = []
    for name, offset_s, duration_s, channel in requests:
        try:
            clip = decode_native(Path(name), offset_s, duration_s, channel=channel)
        except AudioError:
            found.append(NO_PICTURE)
        else:
            found.append(picture(clip.samples, clip.rate_hz))
    return found


def ogg_is_cut_off(path: Path) -> bool:
    """Whether an Ogg file lacks its last page, or a part of it. Decoders pass over that."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
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


# Measuring many clips on all cores, in order and a little ahead. Ctrl-C ends it cleanly

Result = TypeVar("Result")
BATCH = 32
"""Clips that a worker takes at once."""
AHEAD = 3
"""Batches in flight for each worker: bounds the memory."""
ALONE = 400
"""Fewer clips are measured in this process: others take a second to start."""


def clip_request(utterance: Utterance) -> ClipRequest:
    """What a worker must know of a clip to hear it as the trainer does."""
    return str(utterance.audio), utterance.offset_s, utterance.duration_s, utterance.channel


class Measuring:
    """The processes that measure clips for one audit or expansion, from its first clip to its last one."""

    def __init__(self, clips: int, workers: int | None = None) -> None:
        """`clips`: how many there are; few are measured in this process. `workers`: by default one a core; 1 is
        this process."""
        self._workers = 1 if clips < ALONE else workers or usable_cpus()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        """The processes begin to start, which takes them a while."""
        if self._workers > 1:
            # Not forked: libraries of the parent may hold threads and locks.
            self._pool = ProcessPoolExecutor(self._workers, multiprocessing.get_context("spawn"))
            for _ in range(self._workers):
                with _for_workers():
                    self._pool.submit(measure_all, ())
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def facts(self, requests: Iterable[ClipRequest], target_rms: float = TARGET_RMS) -> Iterator[ClipFacts]:
        """The facts of each clip, in order."""
        return self._in_order(partial(measure_all, target_rms=target_rms), requests)

    def pictures(self, requests: Iterable[ClipRequest]) -> Iterator[Picture]:
        """The picture of each clip, in order."""
        return self._in_order(pictures_of, requests)

    def _in_order(
        self, work: Callable[[Sequence[ClipRequest]], list[Result]], requests: Iterable[ClipRequest]
    ) -> Iterator[Result]:
        clips = iter(requests)
        batches = iter(lambda: list(islice(clips, BATCH)), [])
        if not self._pool:
            for batch in batches:
                yield from work(batch)
            return
        pending: deque[Future[list[Result]]] = deque()
        for batch in batches:
            with _for_workers():
                pending.append(self._pool.submit(work, batch))
            if len(pending) >= AHEAD * self._workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


@contextmanager
def _for_workers() -> Iterator[None]:
    """Around `pool.submit`, which starts workers, for what they inherit: a blocked SIGINT, since of the whole group
    that Ctrl-C reaches only the parent decides; and `_ENVIRONMENT`.

    The parent hears of Ctrl-C afterwards: in the middle it would leave a worker with half of what it is to do. Blocking
    is not enough for that, because another thread (of BLAS, say) may receive the signal, and Python then interrupts.
    """
    inherited = {name: os.environ.get(name) for name in _ENVIRONMENT}
    main = threading.current_thread() is threading.main_thread()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(_ENVIRONMENT)
    try:
        with Later() if main else nullcontext():
            yield
    finally:
        for name, value in inherited.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(48 << 20),
    "PYTHONSAFEPATH": "1",
}
"""Of workers. One thread for BLAS, since there is a worker for each core; glibc keeps the memory of a clip's arrays for
the next clip's, which spares a tenth of the time: the kernel would hand out and clear every page anew; and nothing is
imported from the working folder."""
