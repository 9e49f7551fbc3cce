"""Content hashes of audio files and manifests. A file is read once; then its inode, size and times vouch for it.

A manifest has two hashes. The first (`manifest_sha256`) stands for what a run trains and is scored on, and is part of
the run's identity. It holds neither speakers nor fields: they change no weight and no transcript, and whoever names
speakers later need not train again. They do decide how results are sliced and which utterances are resampled together,
so a run records the second (`lines_sha256`) beside it: texts, slices, speakers and fields. Score documents carry what
it is taken over, and both must agree. It can be had without the audio. The path of the audio is in neither: a corpus
may move.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from core.errors import AudioError, ManifestError
from core.manifests.manifest import Manifest, Utterance, joined_words, read_manifest
from core.manifests.parsing import audio_path
from core.system.files import (
    POINTER_BYTES,
    check_size,
    make_private,
    open_raw,
    pointer_problem,
    read_bytes,
    write_bytes,
)
from core.system.seals import hash_lines
from core.user_paths import PathError

FIELD_LENGTH = 60
"""Longest text of a manifest's other field, in characters, that is kept with an utterance's score."""
_WHOLE = 2**53

Field = str | int | float


@dataclass(frozen=True, slots=True)
class Line:
    """What a score document keeps of a manifest's line, and what `lines_sha256` is taken over, but for the id."""

    id: str
    reference: str
    offset: float
    duration: float | None
    """Seconds, as the line gives them."""
    channel: int | None
    speaker: str | None
    fields: Mapping[str, Field]
    """The line's other fields that are short texts or numbers: what results can be sliced by."""


def line_of(utterance: Utterance) -> Line:
    """The fields of an utterance that are used, as they are hashed."""
    return Line(
        utterance.id,
        utterance.text,
        utterance.offset_s,
        utterance.duration_s,
        utterance.channel,
        utterance.speaker,
        short_fields(utterance.extra),
    )


def lines_of(manifest: Manifest) -> Iterator[Line]:
    """What is used of each line, in order."""
    return map(line_of, manifest.utterances)


def lines_sha256(lines: Iterable[Line]) -> str:
    """64 hex digits over texts, slices, channels, speakers and fields, in order. Neither audio nor its path counts."""
    return hash_lines(
        "lines 1",
        (
            [one.reference, one.offset, one.duration, one.channel, one.speaker, sorted(one.fields.items())]
            for one in lines
        ),
    )


def languages_sha256(manifest: Manifest) -> str | None:
    """64 hex digits over the language of each line, in order; None where no line tells one.

    It is no part of `manifest_sha256`: only a model that is told the language writes another transcript for it.
    """
    told = [utterance.language for utterance in manifest.utterances]
    return hash_lines("languages 1", ([language] for language in told)) if any(told) else None


def references_sha256(lines: Iterable[tuple[str, str]]) -> str:
    """64 hex digits over the (id, text) of an evaluation set: all that the scores of older runs tell of it."""
    return hash_lines("references 1", (list(line) for line in lines))


def short_fields(extra: Mapping[str, Any]) -> dict[str, Field]:
    """The fields that are texts of at most 60 characters or finite numbers."""
    return {key: value for key, value in extra.items() if _is_short(value)}


def _is_short(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= FIELD_LENGTH
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < _WHOLE


WORKERS = 4
"""Threads that read files: enough to keep a disk busy. Reading and hashing let other threads run."""
BATCH = 256
MAX_ENTRIES = 500_000
FILE_BYTES = 64 << 30
"""More than any audio file or part of a model has. A file full of holes can say any size, and be read for hours."""
FRESH_NS = 50_000_000
"""A file may change twice within a tick of the kernel's clock: one changed just now is not remembered."""

_MANIFEST_KEY = "manifest 4:"
"""Before the path of a manifest among the cache's files. Raise it when `read_manifest` refuses more than it did."""
_DIGITS = 64
_ALL_BYTES = 1 << 30
"""Of a manifest, or of this cache, at once; a longer manifest is read line by line each time."""

Stamp = tuple[int, int, int, int]
"""Inode, size, mtime and ctime (ns). ctime notices a replacement that keeps the mtime, as `rsync -t` makes; the inode
tells files apart that were written in one tick of the clock, where a link or a folder's name turns from one to another.
The device would do so across file systems, but many give it anew at each boot, and all would be read again."""
_VERSION = 2
Progress = Callable[[int, int], None]
"""Called as (done, total). May raise, to stop."""


class _Names(msgspec.Struct, gc=False):
    """All that has to be known of a line to look whether its audio is the same."""

    audio_filepath: str | None = None
    audio: str | None = None


_NAMES = msgspec.json.Decoder(_Names)


class HashCache:
    """SHA-256 of files by path, inode, size and times, kept in a JSON file. Missing or corrupt: an empty cache."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, list[int | str]] | None = None
        """None: not read yet."""
        self._changed: dict[str, list[int | str]] = {}

    def find(self, path: str, stamp: Stamp) -> str | None:
        """The hash of the file at the absolute `path`, if it is still that file, of this size and these times."""
        entry = self._loaded().get(path)
        return str(entry[-1]) if entry and entry[:-1] == [*stamp] else None

    def remember(self, path: str, stamp: Stamp, digest: str) -> None:
        """Keep a hash, unless the file is so young that its times cannot vouch for it."""
        if time.time_ns() - max(stamp[-2:]) > FRESH_NS:
            self._loaded()[path] = self._changed[path] = [*stamp, digest]

    def forget(self) -> None:
        """Read the file anew when a hash is next asked for: other processes add to it. Takes no memory meanwhile."""
        self._entries = None

    def save(self) -> None:
        """Write what is new, atomically, beside what other processes wrote meanwhile."""
        if not self._changed:
            return
        entries = {**_load(self.path), **self._changed}
        if len(entries) > MAX_ENTRIES:
            entries = self._changed
        try:
            make_private(self.path.parent)
            write_bytes(self.path, json.dumps({"version": _VERSION, "files": entries}, separators=(",", ":")).encode())
        except OSError:
            return  # Only time is lost: a full disk or a read-only folder must not stop whoever needs a hash.
        self._changed = {}

    def _loaded(self) -> dict[str, list[int | str]]:
        if self._entries is None:
            self._entries = {**_load(self.path), **self._changed}
        return self._entries


def file_sha256(path: Path, cache: HashCache) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits. Raises AudioError when it cannot be read."""
    try:
        return _known(path, cache) or _read(path, cache)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be read ({reason}): correct the path or the permissions") from error


def audio_hashes(manifest: Manifest, cache: HashCache, progress: Progress | None = None) -> list[str]:
    """The file hash of each utterance, in order; each file is read once, and the cache is saved.

    Raises AudioError naming manifest:line.
    """
    lines = {utterance.audio: utterance for utterance in reversed(manifest.utterances)}
    hashes: dict[Path, str] = {}
    unknown: list[Path] = []
    for path in lines:
        known = _known_or_none(path, cache)
        if known:
            hashes[path] = known
        else:
            unknown.append(path)

    def digest(path: Path) -> str:
        try:
            return file_sha256(path, cache)
        except AudioError as error:
            raise AudioError(f"{manifest.where(lines[path])}: {error}") from error

    try:
        if unknown:
            # Only here, because a gate that finds all hashes in the cache answers sooner without it.
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(WORKERS) as pool:
                for start in range(0, len(unknown), BATCH):
                    batch = unknown[start : start + BATCH]
                    hashes.update(zip(batch, pool.map(digest, batch), strict=True))
                    if progress:
                        progress(len(hashes), len(lines))
    finally:
        cache.save()
    return [hashes[utterance.audio] for utterance in manifest.utterances]


class ManifestHashes(NamedTuple):
    """The hashes of a manifest, 64 hex digits each. A run records the first two."""

    content: str
    """`manifest_sha256`: what is trained and scored on."""
    lines: str
    """`lines_sha256` (core.manifests.hashing): what else is used of it."""
    languages: str | None = None
    """`languages_sha256`; None where no line tells a language."""


def manifest_file_hashes(
    path: Path, cache: HashCache, progress: Progress | None = None, *, judged: bool = False
) -> ManifestHashes:
    """The hashes of the manifest at `path`: read whole only if it or its audio changed since the last time.

    One that runs are `judged` on by words must have texts of which a word error rate can be had.
    Raises ManifestError and AudioError, as `read_manifest` and `manifest_sha256` do.
    """
    try:
        before = _stamp(path.stat())
        vouchers = _vouchers(path, cache)
    except (OSError, ValueError, PathError):
        vouchers = None  # Reading it will say why.
    key = f"{_MANIFEST_KEY}{'judged:' if judged else ''}{path.absolute()}"
    if vouchers is not None and (kept := cache.find(key, before)) is not None:
        known, content, lines, languages = (kept[place * _DIGITS :][:_DIGITS] for place in range(4))
        if known == vouchers and len(lines) == _DIGITS:
            return ManifestHashes(content, lines, languages or None)
    manifest = read_manifest(path)
    if judged and (problem := joined_words(manifest)):
        raise ManifestError(problem)
    content = manifest_sha256(manifest, cache, progress)
    found = ManifestHashes(content, lines_sha256(lines_of(manifest)), languages_sha256(manifest))
    vouchers = _vouchers(path, cache)
    if vouchers is not None and _stamp(path.stat()) == before:
        cache.remember(key, before, vouchers + found.content + found.lines + (found.languages or ""))
        cache.save()
    return found


def _vouchers(path: Path, cache: HashCache) -> str | None:
    """A hash over the known hashes of all audio that a manifest names, in order; None if one is not known."""
    try:
        lines = _NAMES.decode_lines(_all_of(path))
    except msgspec.MsgspecError:
        return None
    home = str(path.parent.absolute())
    digest = hashlib.sha256()
    for line in lines:
        name = line.audio_filepath if line.audio_filepath is not None else line.audio
        if name is None:
            return None
        audio = audio_path(home, name)
        stamp = _stamp(os.stat(audio))  # noqa: PTH116
        known = cache.find(audio, stamp) or cache.find(str(Path(audio)), stamp)  # the second is one such as "./a.wav"
        if known is None:
            return None
        digest.update(known.encode())
    return digest.hexdigest()


def manifest_sha256(manifest: Manifest, cache: HashCache, progress: Progress | None = None) -> str:
    """64 hex digits over texts, offsets, durations, channels and audio contents, in order. Paths do not count."""
    hashes = audio_hashes(manifest, cache, progress)
    return hash_lines(
        "manifest 1",
        (
            # A channel is hashed only where one is told: sets without keep their hash.
            [u.text, u.offset_s, u.duration_s, audio, *([] if u.channel is None else [u.channel])]
            for u, audio in zip(manifest.utterances, hashes, strict=True)
        ),
    )


def _known(path: Path, cache: HashCache) -> str | None:
    return cache.find(str(path.absolute()), _stamp(path.stat()))


def _known_or_none(path: Path, cache: HashCache) -> str | None:
    try:
        return _known(path, cache)
    except (OSError, ValueError):
        return None  # Reading it will say why.


def _read(path: Path, cache: HashCache) -> str:
    with open_raw(path, follow=True) as file:
        check_size(file, path, FILE_BYTES)
        before = _stamp(os.fstat(file.fileno()))
        if os.fstat(file.fileno()).st_size <= POINTER_BYTES and (pointer := pointer_problem(path)):
            raise AudioError(f"{path}: {pointer}", "missing")
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if _stamp(os.fstat(file.fileno())) == before:
            cache.remember(str(path.absolute()), before, digest)
    return digest


def _all_of(path: Path) -> bytes:
    return read_bytes(path, _ALL_BYTES, follow=True)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _load(path: Path) -> dict[str, list[int | str]]:
    try:
        document = json.loads(_all_of(path))
        files = document["files"] if document["version"] == _VERSION else {}
        return {name: entry for name, entry in files.items() if isinstance(entry, list) and len(entry) == 5}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


class UnsavedHashes(HashCache):
    """Hashes for commands that only look at runs, which create no folder."""

    def save(self) -> None:
        """Nothing is written."""
