"""Content hashes of audio files and manifests. A file is read once; then its size and times vouch for it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from core.errors import AudioError
from core.runs.files import write_bytes
from core.speech.manifest import Manifest

WORKERS = 4
"""Threads that read files: enough to keep a disk busy; hashing releases the interpreter lock."""
MAX_ENTRIES = 500_000
FRESH_NS = 50_000_000
"""A file may change again within one tick of the kernel's clock and keep its times: one so young is hashed but not remembered."""

Stamp = tuple[int, int, int]
"""Size, mtime and ctime (ns). ctime notices a replacement that keeps the mtime, as `rsync -t` makes."""
Progress = Callable[[int, int], None]
"""Called as (done, total). May raise to stop."""


class HashCache:
    """SHA-256 of files by path, size and times, kept in a JSON file. A missing or corrupt file is an empty cache."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries = _load(path)
        self._changed: dict[str, list[int | str]] = {}

    def find(self, path: str, stamp: Stamp) -> str | None:
        """The hash of the file at the absolute `path`, if it still has this size and these times."""
        entry = self._entries.get(path)
        return str(entry[3]) if entry and entry[:3] == [*stamp] else None

    def remember(self, path: str, stamp: Stamp, digest: str) -> None:
        """Keep a hash, unless the file is so young that its times cannot vouch for it."""
        if time.time_ns() - max(stamp[1], stamp[2]) > FRESH_NS:
            self._entries[path] = self._changed[path] = [*stamp, digest]

    def save(self) -> None:
        """Write what is new, atomically, beside what other processes wrote meanwhile."""
        if not self._changed:
            return
        entries = {**_load(self.path), **self._changed}
        if len(entries) > MAX_ENTRIES:
            entries = dict(self._entries) if len(self._entries) <= MAX_ENTRIES else dict(self._changed)
        data = json.dumps({"version": 1, "files": entries}, separators=(",", ":")).encode()
        try:
            write_bytes(self.path, data)
        except OSError:
            return  # Only time is lost: a full disk or a read-only folder must not stop whoever asks for a hash.
        self._changed = {}


def file_sha256(path: Path, cache: HashCache) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits. Raises AudioError when it cannot be read."""
    name = os.path.abspath(path)
    try:
        known = cache.find(name, _stamp(os.stat(name)))
        if known:
            return known
        with open(name, "rb") as file:
            before = _stamp(os.fstat(file.fileno()))
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if _stamp(os.fstat(file.fileno())) == before:
                cache.remember(name, before, digest)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be read ({reason}): correct the path or the permissions") from error
    return digest


def audio_hashes(manifest: Manifest, cache: HashCache, progress: Progress | None = None) -> list[str]:
    """The file hash of each utterance, in order; each file is read once. Raises AudioError naming the manifest's line."""
    first = {utterance.audio: utterance for utterance in reversed(manifest.utterances)}
    hashes: dict[Path, str] = {}

    def digest(path: Path) -> str:
        try:
            return file_sha256(path, cache)
        except AudioError as error:
            raise AudioError(f"{manifest.where(first[path])}: {error}") from error

    with ThreadPoolExecutor(WORKERS) as pool:
        paths = list(first)
        try:
            for done, (path, result) in enumerate(zip(paths, pool.map(digest, paths), strict=True), 1):
                hashes[path] = result
                if progress:
                    progress(done, len(paths))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    cache.save()
    return [hashes[utterance.audio] for utterance in manifest.utterances]


def manifest_sha256(manifest: Manifest, cache: HashCache, progress: Progress | None = None) -> str:
    """64 hex digits over texts, offsets, durations and audio contents, in order; not over paths, speakers or other fields."""
    lines = (
        [utterance.text, utterance.offset_s, utterance.duration_s, audio]
        for utterance, audio in zip(manifest.utterances, audio_hashes(manifest, cache, progress), strict=True)
    )
    return hash_lines("manifest 1", lines)


def hash_lines(kind: str, lines: Iterable[object]) -> str:
    """SHA-256 over a kind and JSON values, one a line."""
    digest = hashlib.sha256(f"{kind}\n".encode())
    for line in lines:
        digest.update(json.dumps(line).encode() + b"\n")
    return digest.hexdigest()


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _load(path: Path) -> dict[str, list[int | str]]:
    try:
        document = json.loads(path.read_bytes())
        files = document["files"] if document["version"] == 1 else {}
        return {name: entry for name, entry in files.items() if isinstance(entry, list) and len(entry) == 4}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
