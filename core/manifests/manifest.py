"""Manifests: JSON Lines that name audio and its text. Read whole, with every problem reported at once; written whole.

A line is an object with `audio_filepath` (or `audio`) and `text` (or `sentence`), and, if wanted,
`duration` and `offset` (seconds), `channel` (from 0), `speaker` and `language`; other fields are kept in
`Utterance.extra`. Relative paths start at the manifest's folder. What `duration` means with and without
an offset is told in core.audio.samples. Blank lines and a byte order mark are tolerated. A manifest that somebody
made is never overwritten.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from core.errors import AudioError, ManifestError, is_disk_full
from core.manifests.parsing import Fields, Problems, audio_path, lines_of_file, parse_line, shortened
from core.scoring.units import joined, joined_sentence
from core.system.files import write_text


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a manifest: a clip and what is said in it."""

    index: int
    """Position among the utterances, from 0."""
    id: str
    """Stable: the audio path as written, with `@offset+duration` and `#channel` when the line gives them."""
    audio: Path
    """Absolute."""
    text: str
    """As written; may be empty."""
    duration_s: float | None = None
    offset_s: float = 0.0
    speaker: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0
    """Line in the manifest, from 1; 0 for an utterance that was not read from a file."""
    channel: int | None = None
    """Of the file, from 0; None: the mean of all."""
    tells_offset: bool = False
    """Whether the line gives an offset: one of 0 makes a slice, too."""

    @property
    def language(self) -> str | None:
        """What is spoken, as the line's field `language` says it (de, german); None: not told.

        It stays among the other fields: a score document keeps it, and results can be sliced by it.
        """
        language: str | None = self.extra.get("language")
        return language


@dataclass(frozen=True)
class Manifest:
    """The utterances of one file, in its order; at least one."""

    path: Path
    utterances: tuple[Utterance, ...]

    def __len__(self) -> int:
        return len(self.utterances)

    def where(self, utterance: Utterance) -> str:
        """`manifest:line`, for messages."""
        return f"{self.path}:{utterance.line or utterance.index + 1}"

    @cached_property
    def seconds(self) -> float:
        """Seconds of audio, by `duration`, else by the file's header. Raises AudioError."""
        return math.fsum(self._seconds(utterance) for utterance in self.utterances)

    def _seconds(self, utterance: Utterance) -> float:
        # Imported here, because hashing and planning need manifests but no audio library.
        from core.audio.samples import header_seconds

        if utterance.duration_s is not None:
            return utterance.duration_s
        try:
            return max(0.0, header_seconds(utterance.audio) - utterance.offset_s)
        except AudioError as error:
            raise AudioError(f"{self.where(utterance)}: {error.of_a_line}") from error


def read_manifest(path: Path, *, check_audio: bool = True, seen: Callable[[], None] | None = None) -> Manifest:
    """Read a manifest. Raises ManifestError with all problems, one a line: `manifest:line: what: what to do`.

    `check_audio` also looks whether each audio file is there; none is opened. `seen` is called for each usable line.
    """
    problems = Problems(path)
    utterances = tuple(_counted(good_utterances(path, problems, check_audio=check_audio), seen))
    problems.raise_if_any()
    if not utterances:
        raise ManifestError(f"{path}: the manifest is empty: write a JSON object a line with audio_filepath and text")
    return Manifest(path, utterances)


def joined_words(manifest: Manifest) -> str | None:
    """What is wrong, by words, with an evaluation set whose texts are written without spaces between them."""
    found = list(joined(utterance.text for utterance in manifest.utterances))
    where = f"{manifest.path}:{manifest.utterances[found[0]].line}" if found else ""
    return joined_sentence(where, len(found), len(manifest))


def _counted(utterances: Iterator[Utterance], seen: Callable[[], None] | None) -> Iterator[Utterance]:
    for utterance in utterances:
        if seen:
            seen()
        yield utterance


def good_utterances(path: Path, problems: Problems, *, check_audio: bool = True) -> Iterator[Utterance]:
    """The utterances that can be used, in the file's order; the other lines are noted in `problems`.

    Raises ManifestError when the file itself cannot be read.
    """
    files = _Files(check_audio)
    seen: dict[tuple[str, tuple[float, float | None] | None, int | None], int] = {}
    index = 0
    home = str(path.parent.absolute())
    for number, fields in _good_lines(path, problems):
        audio = files.path(audio_path(home, fields.audio))
        # A file may be named once, or once for each slice and channel.
        key = (str(audio), fields.slice, fields.channel)
        if key in seen:
            advice = "remove one of them" if fields.slice else "remove one of them, or give both offset and duration"
            problems.add(number, f"the same audio as line {seen[key]} ({shortened(fields.audio)}): {advice}", "repeat")
            continue
        seen[key] = number
        if not files.has(audio):
            what = f"no audio file {shortened(str(audio))}: correct the path, or bring the audio there"
            problems.add(number, what, "missing")
            continue
        yield Utterance(
            index=index,
            id=fields.identifier,
            audio=audio,
            text=fields.text,
            duration_s=fields.duration_s,
            offset_s=fields.offset_s or 0.0,
            speaker=fields.speaker,
            extra=fields.extra,
            line=number,
            channel=fields.channel,
            tells_offset=fields.offset_s is not None,
        )
        index += 1


def _good_lines(path: Path, problems: Problems) -> Iterator[tuple[int, Fields]]:
    """The numbered lines that are well formed; the others are noted in `problems`."""
    for number, data in lines_of_file(path):
        fields = parse_line(number, data, problems)
        if fields:
            yield number, fields


class _Files:
    """The audio files of a manifest: each is held once, and looked for once, though many lines may cut from it."""

    def __init__(self, check: bool) -> None:
        self._check = check
        self._paths: dict[str, Path] = {}
        self._known: dict[Path, bool] = {}

    def path(self, name: str) -> Path:
        """The path of that name."""
        path = self._paths.get(name)
        if path is None:
            path = self._paths[name] = Path(name)
        return path

    def has(self, path: Path) -> bool:
        """Whether there is a file at the path."""
        if not self._check:
            return True
        if path not in self._known:
            self._known[path] = _is_file(path)
        return self._known[path]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # A name too long, or a folder that may not be entered.
        return False


def refuse_to_overwrite(path: Path, force: bool) -> None:
    """Raise ManifestError when `path` exists and `force` was not asked for: before any work is done."""
    if not force and os.path.lexists(path):
        raise ManifestError(f"{path}: exists already: choose another name, or say --force to replace it")
    if path.is_dir():
        raise ManifestError(f"{path}: is a folder: name a file")


def write_manifest(path: Path, lines: Iterable[dict[str, Any]], force: bool = False) -> int:
    """Write JSON Lines, atomically; the number of lines. Raises ManifestError when `path` exists, unless `force`."""
    refuse_to_overwrite(path, force)
    rows = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines]
    try:
        write_text(path, "".join(rows))
    except OSError as error:
        if is_disk_full(error):
            raise
        raise ManifestError(f"{path}: cannot be written ({error.strerror}): give another file") from error
    return len(rows)


def manifest_line(utterance: Utterance, folder: Path, **more: Any) -> dict[str, Any]:
    """An utterance as a line of a manifest in `folder`: a relative path if the audio is below it or beside it."""
    line: dict[str, Any] = {"audio_filepath": path_from(folder, utterance.audio), "text": utterance.text}
    if utterance.offset_s or utterance.tells_offset:
        line["offset"] = utterance.offset_s
    if utterance.duration_s is not None:
        line["duration"] = utterance.duration_s
    if utterance.channel is not None:
        line["channel"] = utterance.channel
    if utterance.speaker is not None:
        line["speaker"] = utterance.speaker
    return line | {key: value for key, value in utterance.extra.items() if key not in line} | more


def path_from(folder: Path, audio: Path) -> str:
    """`audio` as a manifest in `folder` names it: relative within two levels up, else absolute."""
    relative = os.path.relpath(audio, folder.absolute())
    return str(audio) if relative.startswith("../../..") else relative


_SUFFIXES = frozenset((".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav"))
"""Other files in the folder, such as licences, are no recordings."""


def noise_recordings(folder: Path) -> Manifest:
    """The recordings in `folder` and in the folders in it, in the order of their paths.

    Raises ManifestError without any.
    """
    key = "train.augment.noise"
    if not folder.is_dir():
        raise ManifestError(f"{key}: no such folder: {folder}: correct the path (it is relative to the plan)")
    found = sorted(
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise ManifestError(f"{key}: no recordings in {folder}: put wav, flac, ogg or mp3 files there")
    clips = (Utterance(index, name, path, "") for index, (name, path) in enumerate(found))
    return Manifest(folder, tuple(clips))
