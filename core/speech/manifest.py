"""Manifests: JSON Lines that name audio and its text. Read whole, with every problem reported at once.

A line is an object with `audio_filepath` (or `audio`), `text` (or `sentence`), and, if wanted, `duration`, `offset` (seconds) and
`speaker`; other fields are kept in `Utterance.extra`. Relative paths start at the manifest's folder. What `duration` means
with and without an offset is told in `core.speech.audio`. Blank lines and a byte order mark are tolerated.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import ManifestError

SHOWN_PROBLEMS = 20
"""As many are spelled out; the others are counted."""

AUDIO_KEYS = ("audio_filepath", "audio")
TEXT_KEYS = ("text", "sentence")

_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest: a clip and what is said in it."""

    index: int
    """Position among the utterances, from 0."""
    id: str
    """Stable: the audio path as written, with `@offset+duration` when the line gives an offset."""
    audio: Path
    text: str
    duration_s: float | None = None
    offset_s: float = 0.0
    speaker: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    line: int = 0
    """Line in the manifest, from 1; 0 for an utterance that was not read from a file."""


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
        """Seconds of audio, from `duration`, else from the file's header. Raises AudioError."""
        return math.fsum(self._seconds())

    def _seconds(self) -> Iterator[float]:
        # Here, because hashing and planning need manifests but no audio library.
        from core.speech.audio import header_seconds

        for utterance in self.utterances:
            if utterance.duration_s is not None:
                yield utterance.duration_s
            else:
                yield max(0.0, header_seconds(utterance.audio) - utterance.offset_s)


class _Problems:
    """Counts all, keeps the first 20: a wrong file may have a million bad lines."""

    def __init__(self, path: Path) -> None:
        self.path, self.count, self.shown = path, 0, list[str]()

    def add(self, line: int, what: str) -> None:
        self.count += 1
        if self.count <= SHOWN_PROBLEMS:
            self.shown.append(f"{self.path}:{line}: {what}")

    def raise_if_any(self) -> None:
        if self.count > len(self.shown):
            self.shown.append(f"{self.path}: and {self.count - len(self.shown)} more problems")
        if self.count:
            raise ManifestError("\n".join(self.shown))


def read_manifest(path: Path, *, check_audio: bool = True) -> Manifest:
    """Read a manifest. Raises ManifestError with every problem, one a line, each as `manifest:line: what; what to do`.

    `check_audio` also looks whether each audio file is there (it is not opened).
    """
    problems = _Problems(path)
    utterances: list[Utterance] = []
    seen: dict[tuple[str, float | None, float | None], int] = {}
    is_file = _file_check() if check_audio else (lambda _: True)
    try:
        with path.open("rb") as file:
            for line, data in _lines(file):
                fields = _parse(line, data, problems)
                utterance = (
                    None if fields is None else _utterance(len(utterances), line, fields, path, problems)
                )
                if utterance is None or fields is None:
                    continue
                sliced = fields.get("offset") is not None
                key = (
                    str(utterance.audio),
                    *((utterance.offset_s, utterance.duration_s) if sliced else (None, None)),
                )
                if key in seen:
                    advice = (
                        "remove one" if sliced else "remove one, or give each its own offset and duration"
                    )
                    problems.add(line, f"the same audio as line {seen[key]} ({utterance.id}): {advice}")
                    continue
                seen[key] = line
                if not is_file(str(utterance.audio)):
                    problems.add(
                        line, f"no such audio file: {utterance.audio}: correct the path or remove the line"
                    )
                    continue
                utterances.append(utterance)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(
            f"{path}: cannot be read ({reason}): correct the path or the permissions"
        ) from error
    problems.raise_if_any()
    if not utterances:
        raise ManifestError(
            f"{path}: the manifest is empty: write one JSON object a line, with audio_filepath and text"
        )
    return Manifest(path, tuple(utterances))


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank. Split at newlines only: JSON strings may hold U+2028 and its like."""
    for line, data in enumerate(file, 1):
        stripped = (data.removeprefix(_BOM) if line == 1 else data).strip(b" \t\r\n")
        if stripped:
            yield line, stripped


def _parse(line: int, data: bytes, problems: _Problems) -> dict[str, Any] | None:
    """The JSON object of a line, or None with its problem noted."""
    if line == 1 and data.startswith(_UTF16_BOMS):
        problems.add(line, "the file is UTF-16: save it as UTF-8")
        return None
    try:
        fields = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        problems.add(line, f"not valid UTF-8 at byte {error.start + 1} of the line: save the file as UTF-8")
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a value is too large"
        problems.add(line, f"not JSON ({reason}): write one JSON object a line")
    else:
        if isinstance(fields, dict):
            return fields
        problems.add(line, "not a JSON object: write one object a line, not one list for the whole file")
    return None


def _utterance(
    index: int, line: int, fields: dict[str, Any], path: Path, problems: _Problems
) -> Utterance | None:
    """The utterance of a line, or None with all its problems noted."""
    before = problems.count
    audio = _string(fields, AUDIO_KEYS, line, problems)
    text = _string(fields, TEXT_KEYS, line, problems)
    duration_s = _seconds(fields, "duration", line, problems)
    offset_s = _seconds(fields, "offset", line, problems)
    speaker = fields.get("speaker")
    if speaker is not None and (isinstance(speaker, bool) or not isinstance(speaker, (str, int))):
        problems.add(line, "speaker must be a string: correct or remove it")
    if audio is not None and not _usable_path(audio):
        problems.add(
            line, "the audio path is empty or holds a character that no file name can have: correct it"
        )
    if text is not None and any("\ud800" <= character <= "\udfff" for character in text):
        problems.add(line, "the text holds half a character (an unpaired \\uD8xx escape): correct it")
    if audio is None or text is None or problems.count > before:
        return None
    used = {*(next((k for k in keys if k in fields), "") for keys in (AUDIO_KEYS, TEXT_KEYS)), *_OWN_KEYS}
    return Utterance(
        index=index,
        id=_identifier(audio, offset_s, duration_s),
        audio=Path(os.path.normpath(path.parent.absolute() / audio)),
        text=text,
        duration_s=duration_s,
        offset_s=offset_s or 0.0,
        speaker=None if speaker is None else str(speaker),
        extra={key: value for key, value in fields.items() if key not in used},
        line=line,
    )


_OWN_KEYS = ("duration", "offset", "speaker")


def _identifier(audio: str, offset_s: float | None, duration_s: float | None) -> str:
    if offset_s is None:
        return audio
    return f"{audio}@{offset_s:.15g}" + ("" if duration_s is None else f"+{duration_s:.15g}")


def _string(fields: dict[str, Any], keys: tuple[str, str], line: int, problems: _Problems) -> str | None:
    """The first of `keys` that is there, a string."""
    key = next((key for key in keys if key in fields), None)
    if key is None:
        problems.add(
            line,
            f"no {keys[0]!r} (nor {keys[1]!r}): add it; the line has {', '.join(sorted(fields)) or 'nothing'}",
        )
        return None
    value = fields[key]
    if isinstance(value, str):
        return value
    problems.add(line, f"{key} must be a string: correct it")
    return None


def _seconds(fields: dict[str, Any], key: str, line: int, problems: _Problems) -> float | None:
    """A time in seconds; `duration` above 0, `offset` not below."""
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9:
        if value > 0 or (value == 0 and key == "offset"):
            return float(value)
    problems.add(
        line,
        f"{key} must be a number of seconds{', above 0' if key == 'duration' else ', 0 or more'}: correct it",
    )
    return None


def _usable_path(audio: str) -> bool:
    if not audio or "\0" in audio:
        return False
    try:
        os.fsencode(audio)
    except UnicodeEncodeError:
        return False
    return True


def _file_check() -> Callable[[str], bool]:
    """`os.path.isfile` that looks once at a file that many lines cut from."""
    known: dict[str, bool] = {}

    def check(path: str) -> bool:
        if path not in known:
            known[path] = os.path.isfile(path)
        return known[path]

    return check
