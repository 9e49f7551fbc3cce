"""Decoded clips on disk, memory-mapped: one packed file per list of clips, built once, keyed by what the clips contain.

    <key>.f32     all clips back to back, float32, 16 kHz, mono, before RMS normalisation
    <key>.json    their lengths and facts; written last, so its existence means that the pair is whole
    <key>.lock    held (flock) while the pair is built; the kernel frees it when a builder is killed

The key is over file hashes, offsets, durations, AUDIO_PATH_VERSION and the decoding libraries' versions: not over paths or texts.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from core.errors import AudioError
from core.runs.files import fsync_folder, write_json
from core.speech.audio import (
    AUDIO_PATH_VERSION,
    DURATION_TOLERANCE_S,
    RESAMPLER_QUALITY,
    SAMPLE_RATE_HZ,
    SILENCE_RMS,
    Decoded,
    Samples,
    decode_clip,
    root_mean_square,
)
from core.speech.hashing import HashCache, Progress, audio_hashes, hash_lines
from core.speech.manifest import Manifest, Utterance

WORKERS = 2
AHEAD = 16
"""Clips decoded ahead of the one being written: bounds the memory, whatever the manifest's length."""
SHOWN_PROBLEMS = 20
_WAIT_S = 0.2


@dataclass(frozen=True)
class ClipStore:
    """The clips of a manifest, by index. Holds no samples in memory: the kernel pages them in."""

    samples: NDArray[np.float32]
    lengths: NDArray[np.int64]
    """Samples of each clip at 16 kHz."""
    rms: NDArray[np.float64]
    """RMS of each clip before normalisation."""
    file_s: NDArray[np.float64]
    """Seconds of the whole file that each clip comes from."""
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Samples:
        """Clip `index` (samples,), read-only, at 16 kHz, before RMS normalisation."""
        start = int(self.starts[index])
        return self.samples[start : start + int(self.lengths[index])]

    @property
    def silent(self) -> list[int]:
        """Clips below the silence threshold: they are used as they are, and whoever uses them says so."""
        return [int(index) for index in np.flatnonzero(self.rms < SILENCE_RMS)]

    @property
    def seconds(self) -> float:
        """Seconds of audio in all clips."""
        return float(self.lengths.sum()) / SAMPLE_RATE_HZ


class SampleCache:
    """A folder of packed clips. Several processes may use and build it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clips(self, manifest: Manifest, hash_cache: HashCache, progress: Progress | None = None) -> ClipStore:
        """The clips of `manifest`, decoded now if no process did before.

        `progress(done, total)` is called for every clip and about five times a second while another process builds; it may raise
        to stop. Raises AudioError naming manifest:line for up to 20 bad files; OSError (disk full): nothing half-written stays.
        """
        total = len(manifest)
        report: Progress = progress or (lambda done, total: None)
        hashes = audio_hashes(manifest, hash_cache, lambda done, of: report(0, total))
        key = clips_key(manifest, hashes)
        store = self._open(key, total)
        if store is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder / f"{key}.lock", lambda: report(0, total)):
                store = self._open(key, total)
                if store is None:
                    self._build(key, manifest, report)
                    store = self._open(key, total)
        if store is None:
            raise OSError(
                f"{self.folder / key}: the packed clips are gone again: does something clean this folder?"
            )
        report(total, total)
        return store

    def _open(self, key: str, total: int) -> ClipStore | None:
        """The pair on disk, or None when it is not there or not whole."""
        try:
            index: dict[str, Any] = json.loads((self.folder / f"{key}.json").read_bytes())
            lengths = np.array(index["lengths"], dtype=np.int64)
            rms, file_s = (np.array(index[name], dtype=np.float64) for name in ("rms", "file_s"))
            samples = np.memmap(self.folder / f"{key}.f32", dtype=np.float32, mode="r")
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not len(lengths) == len(rms) == len(file_s) == total or len(samples) != lengths.sum():
            return None
        return ClipStore(samples, lengths, rms, file_s, np.cumsum(lengths) - lengths)

    def _build(self, key: str, manifest: Manifest, report: Progress) -> None:
        """Decode in order into a temporary file, then rename; its name is fixed, so that a killed build leaves at most one."""
        packed, index = self.folder / f"{key}.f32", self.folder / f"{key}.json"
        temporary = self.folder / f"{key}.f32.tmp"
        index.unlink(missing_ok=True)
        lengths, rms, file_s = list[int](), list[float](), list[float]()
        try:
            with temporary.open("wb") as file:
                for clip in _decoded(manifest):
                    file.write(clip.samples.data)
                    lengths.append(len(clip.samples))
                    rms.append(root_mean_square(clip.samples))
                    file_s.append(clip.file_s)
                    report(len(lengths), len(manifest))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, packed)
            fsync_folder(self.folder)
            write_json(index, {"version": 1, "lengths": lengths, "rms": rms, "file_s": file_s})
        except BaseException:
            temporary.unlink(missing_ok=True)
            if not index.exists():
                packed.unlink(missing_ok=True)
            raise


def clips_key(manifest: Manifest, hashes: list[str]) -> str:
    """32 hex digits over all that decides the packed samples."""
    libraries = [soundfile.__libsndfile_version__, soxr.__version__, soxr.__libsoxr_version__]
    head = [AUDIO_PATH_VERSION, SAMPLE_RATE_HZ, RESAMPLER_QUALITY, libraries]
    clips = ([h, u.offset_s, u.duration_s] for u, h in zip(manifest.utterances, hashes, strict=True))
    return hash_lines("clips 1", [head, *clips])[:32]


def duration_notices(manifest: Manifest, store: ClipStore) -> list[str]:
    """Lines without an offset whose duration is not the file's: what was done with them, one sentence each."""
    notices = []
    for utterance, file_s in zip(manifest.utterances, store.file_s, strict=True):
        if (
            utterance.offset_s
            or utterance.duration_s is None
            or abs(utterance.duration_s - file_s) <= DURATION_TOLERANCE_S
        ):
            continue
        done = "the file is cut there" if utterance.duration_s < file_s else "the whole file is used"
        notices.append(
            f"{manifest.where(utterance)}: duration says {utterance.duration_s:g} s, the file has {file_s:.3f} s: {done}"
        )
    return notices


def _decoded(manifest: Manifest) -> Iterator[Decoded]:
    """The clips in order, decoded by two threads a little ahead. Raises AudioError with up to 20 bad clips."""
    problems: list[str] = []
    pending: deque[tuple[Utterance, Future[Decoded]]] = deque()
    waiting = iter(manifest.utterances)
    pool = ThreadPoolExecutor(WORKERS)
    try:
        while len(problems) < SHOWN_PROBLEMS:
            while len(pending) < AHEAD and (utterance := next(waiting, None)) is not None:
                pending.append(
                    (
                        utterance,
                        pool.submit(decode_clip, utterance.audio, utterance.offset_s, utterance.duration_s),
                    )
                )
            if not pending:
                break
            utterance, future = pending.popleft()
            try:
                clip = future.result()
            except AudioError as error:
                problems.append(f"{manifest.where(utterance)}: {error}")
                continue
            if not problems:
                yield clip
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if problems:
        more = "\nthere may be more" if len(problems) == SHOWN_PROBLEMS else ""
        raise AudioError("\n".join(problems) + more)


@contextmanager
def _locked(path: Path, waiting: Any) -> Iterator[None]:
    """Hold the lock of a key. Asks rather than blocks, so that `waiting()` runs and a waiting trainer is seen to be alive."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(_WAIT_S)
        yield
    finally:
        os.close(descriptor)
