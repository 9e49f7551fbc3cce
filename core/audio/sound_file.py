"""Reading sound files: what libsndfile reads, with its failures as AudioErrors that name the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from itertools import combinations
from pathlib import Path
from typing import cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from core.audio.sound_headers import MendedFile, Oddity, mended
from core.errors import AudioError
from core.system.files import POINTER_BYTES, pointer_problem

PLAUSIBLE_RATES_HZ = range(1_000, 1_000_000)
"""Beyond these a header is broken, and resampling would fill the memory."""

_BLOCK_SAMPLES = 1 << 22
_PASSED_FRAMES = 1 << 18
_UNKNOWN_FRAMES = 1 << 50
"""libsndfile says 2⁶³ − 1 for a stream whose length it cannot know."""

Samples = NDArray[np.float32]
Inspect = Callable[[Samples, int], None]
"""Sees (frames,) of mono or of one channel, else (frames, channels), as the file has them, and their rate in Hz."""


class SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """Read onwards only: soundfile else seeks after each read, which fails at the end of a cut-off FLAC."""

    oddity: Oddity | None = None
    """What is odd about its header; all of the sound is read nevertheless."""

    def seekable(self) -> bool:
        """No, so that `read` does not seek; `seek` works all the same."""
        return False

    def go_to(self, frame: int) -> None:
        """Bring a file that was just opened to `frame`, exactly: what is read then is what the whole file has there.

        libsndfile finds places in an MP3 by guessing, and what it decodes first lacks what earlier frames lend it. GSM
        and some others it cannot seek in at all. These are decoded from the start.
        """
        if self.format != "MP3" and super().seekable():
            self.seek(frame)
            return
        while frame > 0 and (passed := len(self.read(min(frame, _PASSED_FRAMES), dtype="float32"))):
            frame -= passed


@contextmanager
def opened(path: Path) -> Iterator[SoundFile]:
    """The open file, or an AudioError; what libsndfile says while it is read becomes one too."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(
            f"{path}: cannot be opened ({reason}): correct the path or the permissions", "missing"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{path}: not a file: name an audio file", "missing")
    if status.st_size == 0:
        raise AudioError(f"{path}: the file is empty: replace it", "empty")
    if status.st_size <= POINTER_BYTES and (pointer := pointer_problem(path)):
        raise AudioError(f"{path}: {pointer}", "missing")
    try:
        change = mended(path)
        # Bytes: file names need not be valid UTF-8.
        source: AbstractContextManager[bytes | MendedFile] = (
            nullcontext(os.fsencode(path)) if change.as_it_is else closing(MendedFile(path, change))
        )
        with source as seen, SoundFile(seen) as file:
            file.oddity = change.oddity
            if file.frames <= 0:
                raise AudioError(f"{path}: no samples in the file: replace it", "empty")
            if file.samplerate not in PLAUSIBLE_RATES_HZ:
                raise AudioError(
                    f"{path}: a sample rate of {file.samplerate} Hz is not plausible: export the file again"
                )
            yield file
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        reason = str(getattr(error, "error_string", error)).rstrip(". ")
        raise AudioError(f"{path}: not readable as audio ({reason}): convert it to WAV or FLAC") from error


def total_frames(file: SoundFile) -> int:
    """Frames in the file; counted when its header does not say, as in FLAC that came through a pipe."""
    if file.frames < _UNKNOWN_FRAMES:
        return int(file.frames)
    total = sum(len(block) for block in _blocks(file, 0, file.frames))
    file.seek(0)
    return total


def read_mono(
    file: SoundFile, start: int, stop: int, inspect: Inspect | None = None, channel: int | None = None
) -> Samples:
    """Frames [start, stop) of one channel (0 is the first), or the mean over all; fewer when the file ends early."""
    if start:
        file.go_to(start)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and its like are looked for later.
        blocks = []
        for block in _blocks(file, start, stop):
            heard = block if channel is None or block.ndim == 1 else np.ascontiguousarray(block[:, channel])
            if inspect:
                inspect(heard, file.samplerate)
            blocks.append(heard if heard.ndim == 1 else cast(Samples, heard.mean(axis=1)))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks or [np.empty(0, np.float32)])


def _blocks(file: SoundFile, start: int, stop: int) -> Iterator[Samples]:
    """Frames from the current place; a false header cannot ask for all the memory."""
    channels = file.channels
    longest = max(1, _BLOCK_SAMPLES // channels)
    while start < stop:
        block = file.read(min(longest, stop - start), dtype="float32", always_2d=channels > 1)
        if not len(block):
            return
        start += len(block)
        yield block


# Whether the mean of a file's channels stands for them: not with opposite phases, nor with different speakers

FRAME_S = 0.05
LEAST_FRAMES = 10
"""Fewer (half a second) tell nothing of how two channels swell and fade."""
MOST_CHANNELS = 8
"""Of more only these are compared."""
OPPOSITE = -0.5
"""Correlation of the samples of two channels below which the one is the other turned over."""
LOST = 0.16
"""Power of the mean as a share of the louder channel's: one speaker beside a silent channel leaves 0.25."""
ALIKE = 0.5
"""Correlation of two channels' levels, frame by frame, below which they hold different sound."""
SAME_WAVE = 0.7
"""Correlation of the samples above which two channels hold the same sound, whatever their levels."""
WITHIN_DB, FLOOR_DB = 20.0, 40.0
"""A channel this far below the loudest does not matter; levels are followed down to this far below a channel's peak."""


class Channels:
    """RunStatusCache at the frames block by block as the file has them."""

    def __init__(self) -> None:
        self._frames = 0
        self._sums: NDArray[np.float64] = np.zeros(0)
        self._products: NDArray[np.float64] = np.zeros((0, 0))
        self._levels: list[Samples] = []

    def see(self, block: Samples, rate_hz: int) -> None:
        """The next block (frames, channels); mono ones tell nothing."""
        if block.ndim < 2:
            return
        block = block[:, :MOST_CHANNELS]
        if not self._frames:
            self._sums, self._products = np.zeros(block.shape[1]), np.zeros((block.shape[1], block.shape[1]))
        self._frames += len(block)
        self._sums += block.sum(axis=0, dtype=np.float64)
        self._products += block.T @ block
        length = max(1, round(FRAME_S * rate_hz))
        whole = block[: len(block) // length * length].reshape(-1, length, block.shape[1])
        self._levels.append(np.einsum("fsc,fsc->fc", whole, whole) / np.float32(length))

    def oddity(self) -> Oddity | None:
        """Channels that cancel out, or that hold different sound; None: neither."""
        if not self._frames or not np.isfinite(self._products).all():
            return None
        means = self._sums / self._frames
        shared = self._products / self._frames - np.outer(means, means)
        power = np.maximum(np.diag(shared), 0.0)
        loudest = float(power.max())
        if loudest <= 0:
            return None
        audible = [int(c) for c in np.flatnonzero(power > loudest * 10 ** (-WITHIN_DB / 10))]
        pairs = [
            (float(shared[one, two] / np.sqrt(power[one] * power[two])), one, two)
            for one, two in combinations(audible, 2)
        ]
        if not pairs:
            return None
        lost = float(shared.mean()) / loudest
        wave, one, two = min(pairs)
        if wave < OPPOSITE and lost < LOST:
            decibels = 10 * np.log10(max(lost, 1e-12))
            return "cancelled", (
                f"channels {one} and {two} are of opposite phase (correlation {wave:+.2f}): their mean is "
                f"{decibels:.0f} dB below the louder one: choose one with channel"
            )
        return self._different([(one, two) for wave, one, two in pairs if abs(wave) < SAME_WAVE])

    def _different(self, pairs: list[tuple[int, int]]) -> Oddity | None:
        powers = np.concatenate(self._levels).astype(np.float64)
        if len(powers) < LEAST_FRAMES or not pairs:
            return None
        floor = np.maximum(powers.max(axis=0), 1e-20) * 10 ** (-FLOOR_DB / 10)
        levels = np.log10(np.maximum(powers, floor))
        levels -= levels.mean(axis=0)
        spread = np.sqrt(np.square(levels).sum(axis=0))
        found = [
            (float(levels[:, one] @ levels[:, two] / max(spread[one] * spread[two], 1e-12)), one, two)
            for one, two in pairs
        ]
        alike, one, two = min(found)
        if alike >= ALIKE:
            return None
        return "different_channels", (
            f"channels {one} and {two} hold different sound (their levels correlate by {alike:+.2f}), such as two "
            "speakers: the model hears their mixture: choose one with channel"
        )
