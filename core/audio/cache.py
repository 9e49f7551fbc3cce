"""Decoded clips on disk, memory-mapped: one packed file for a list of clips, built once, keyed by content.

    <key>.f32     all clips back to back, float32, 16 kHz, mono, before RMS normalisation
    <key>.json    their lengths and facts; written last: its existence means that the pair is whole
    <key>.lock    held (flock) while the pair is built; the kernel frees it when a builder is killed

The key is over file hashes, offsets, durations, channels, AUDIO_PATH_VERSION and the versions of the decoding
libraries; not over paths, names or texts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from core.audio.samples import (
    AUDIO_PATH_VERSION,
    RESAMPLER_QUALITY,
    SAMPLE_RATE_HZ,
    SILENCE_RMS,
    Decoded,
    root_mean_square,
)
from core.audio.sound_file import Samples
from core.system.files import fsync_folder, write_json
from core.system.locks import held
from core.system.seals import hash_lines

Progress = Callable[[int, int], None]
"""`progress(done, total)`."""
Decode = Callable[[], Generator[Decoded, None, None]]
"""Decodes clips in order; it is closed in the middle when something goes wrong."""

_KIND = "clips 2"
"""Raised from 1 when slices of MP3 files and sound behind odd headers came to be decoded to the sample."""


@dataclass(frozen=True, eq=False)
class ClipStore:
    """The clips of a manifest, by index. Holds no samples in memory: the kernel pages them in and out."""

    samples: Samples
    """All clips back to back (samples,), memory-mapped, read-only."""
    lengths: NDArray[np.int64]
    """Samples of each clip at 16 kHz (clips,)."""
    rms: NDArray[np.float64]
    """RMS of each clip before normalisation (clips,)."""
    file_s: NDArray[np.float64]
    """Seconds of the whole file that each clip comes from (clips,)."""
    starts: NDArray[np.int64]
    """Where each clip starts in `samples` (clips,)."""
    oddities: Mapping[int, str] = field(default_factory=dict)
    """What is odd about the headers or the channels of the files of some clips."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Samples:
        """Clip `index` (samples,): a read-only view, 16 kHz, before RMS normalisation."""
        start, length = int(self.starts[index]), int(self.lengths[index])
        return self.samples[start : start + length]

    @property
    def silent(self) -> list[int]:
        """Clips below the silence threshold. They are used as they are, and whoever uses them says so."""
        return [int(index) for index in np.flatnonzero(self.rms < SILENCE_RMS)]

    @property
    def seconds(self) -> float:
        """Seconds of audio in all clips."""
        return float(self.lengths.sum()) / SAMPLE_RATE_HZ


class SampleCache:
    """A folder of packed clips, on a local disk. Several processes may use and build it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clips(self, key: str, total: int, decode: Decode, progress: Progress) -> ClipStore:
        """The `total` clips of this key, decoded by `decode` now unless a process did so before.

        `progress(done, total)` is called at every clip, and every 0.2 s while another process builds. It may
        raise, to stop. Raises what `decode` raises, and OSError, for a full disk; then nothing half-written stays.
        """
        store = self._open(key, total)
        if store is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with held(self.folder / f"{key}.lock", lambda: progress(0, total)):
                store = self._open(key, total) or self._build(key, total, decode, progress)
        progress(total, total)
        return store

    def _open(self, key: str, total: int) -> ClipStore | None:
        """The pair on disk, or None when it is not there or not whole."""
        try:
            index: dict[str, Any] = json.loads((self.folder / f"{key}.json").read_bytes())
            lengths = np.array(index["lengths"], dtype=np.int64)
            rms, file_s = (np.array(index[name], dtype=np.float64) for name in ("rms", "file_s"))
            oddities = {int(i): str(what) for i, what in index["oddities"].items()}
            samples = np.asarray(np.memmap(self.folder / f"{key}.f32", dtype=np.float32, mode="r"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if not (len(lengths) == len(rms) == len(file_s) == total and lengths.sum() == len(samples)):
            return None
        return ClipStore(samples, lengths, rms, file_s, np.cumsum(lengths) - lengths, oddities)

    def _build(self, key: str, total: int, decode: Decode, progress: Progress) -> ClipStore:
        """Decode into a temporary file, then rename. Its name is fixed: killed builds leave one at most."""
        packed, index = self.folder / f"{key}.f32", self.folder / f"{key}.json"
        temporary = self.folder / f"{key}.f32.tmp"
        index.unlink(missing_ok=True)
        lengths, rms, file_s, oddities = list[int](), list[float](), list[float](), dict[str, str]()
        try:
            with temporary.open("wb") as file, closing(decode()) as clips:
                for clip in clips:
                    file.write(clip.samples.data)
                    lengths.append(len(clip.samples))
                    rms.append(root_mean_square(clip.samples))
                    file_s.append(clip.file_s)
                    if clip.oddity:
                        oddities[str(len(lengths) - 1)] = clip.oddity[1]
                    progress(len(lengths), total)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(packed)
            fsync_folder(self.folder)
            write_json(index, {"version": 2, "lengths": lengths, "rms": rms, "file_s": file_s, "oddities": oddities})
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            packed.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno and not error.filename:
                raise OSError(error.errno, os.strerror(error.errno), str(packed)) from error
            raise
        store = self._open(key, total)
        if store is None:
            raise OSError(f"{packed}: gone or changed right after it was written: does something clean this folder?")
        return store


def clips_key(clips: Iterable[Sequence[str | float | int | None]]) -> str:
    """32 hex digits over all that decides the packed samples. A clip: [hash of its file, offset, duration, channel]."""
    libraries = [soundfile.__libsndfile_version__, soxr.__version__, soxr.__libsoxr_version__]
    head = [AUDIO_PATH_VERSION, SAMPLE_RATE_HZ, RESAMPLER_QUALITY, libraries]
    return hash_lines(_KIND, [head, *clips])[:32]
