"""One line of a manifest: from bytes to checked fields, or to problems that say what to do."""

from __future__ import annotations

import errno
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import ManifestError
from core.system.files import LONGEST_LINE, POINTER, POINTER_BYTES, is_pointer, open_regular
from core.user_paths import PathError, user_path

SHOWN_PROBLEMS = 20
"""As many are spelled out; the others are counted."""

AUDIO_KEYS = ("audio_filepath", "audio")
TEXT_KEYS = ("text", "sentence")
OTHER_KEYS = ("duration", "offset", "channel", "speaker")

_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_S = 1e9
_MOST_CHANNELS = 1024
_LONGEST_LANGUAGE = 60
"""Characters: as many as a score document keeps of a field."""
_NEMO_UNKNOWN = "-1 is how NeMo says unknown: remove it, or let `lora-cli manifest import nemo` do so"


_NO_EXTRA: Mapping[str, Any] = {}
"""Of most lines: one for all of them."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What a line says, checked. None stands for what it does not say."""

    audio: str
    """As written."""
    text: str
    duration_s: float | None
    offset_s: float | None
    channel: int | None
    """Of the file, from 0."""
    speaker: str | None
    extra: Mapping[str, Any]

    @property
    def slice(self) -> tuple[float, float | None] | None:
        """Which part of the file; None for a line without an offset."""
        return None if self.offset_s is None else (self.offset_s, self.duration_s)

    @property
    def identifier(self) -> str:
        """The audio path as written, and the slice and the channel if the line gives them."""
        channel = "" if self.channel is None else f"#{self.channel}"
        if self.offset_s is None:
            return self.audio + channel
        return f"{self.audio}@{self.offset_s:.15g}" + (f"+{self.duration_s:.15g}" if self.duration_s else "") + channel


class Problems:
    """Counts all problems of a manifest and keeps the first 20: a wrong file may have a million bad lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._shown: list[str] = []

    def add(self, line: int, what: str, kind: str = "line") -> None:
        """Note a problem of a line: `what is wrong: what to do`. `kind` is line, repeat or missing."""
        self.count += 1
        if len(self._shown) < SHOWN_PROBLEMS:
            self._shown.append(f"{self.path}:{line}: {what}")

    def raise_if_any(self) -> None:
        """Raise ManifestError with what was noted, one a line."""
        raise_all([self])

    @property
    def shown(self) -> list[str]:
        """The problems that are written out; the others are only counted."""
        return self._shown


def raise_all(files: Iterable[Problems]) -> None:
    """`raise_if_any` for the problems of several files together."""
    noted = [problems for problems in files if problems.count]
    if not noted:
        return
    shown = [line for problems in noted for line in problems.shown][:SHOWN_PROBLEMS]
    hidden = sum(problems.count for problems in noted) - len(shown)
    more = [f"{noted[0].path}: {hidden} more problems like these"] if hidden else []
    raise ManifestError("\n".join(shown + more))


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, numbered from 1. Split at newlines only: JSON strings may hold U+2028."""
    for number in itertools.count(1):
        data = file.readline(LONGEST_LINE)
        if not data:
            return
        if len(data) == LONGEST_LINE:
            raise OSError(errno.EFBIG, f"line {number} is longer than {LONGEST_LINE >> 20} MiB")
        stripped = (data.removeprefix(_BOM) if number == 1 else data).strip()
        if stripped:
            yield number, stripped


def lines_of_file(path: Path) -> Iterator[tuple[int, bytes]]:
    """`numbered_lines` of a file of any size. Raises ManifestError when it cannot be read, or is no regular file."""
    try:
        with open_regular(path, follow=True) as file:
            if is_pointer(file.peek(POINTER_BYTES)):
                raise ManifestError(f"{path}: {POINTER}")
            yield from numbered_lines(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"{path}: cannot be read ({reason}): correct the path or the permissions") from error


def json_objects(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of JSON Lines; lines that are none are noted. Raises ManifestError."""
    for number, data in lines_of_file(path):
        value = _object(number, data, problems)
        if value is not None:
            yield number, value


def parse_line(number: int, data: bytes, problems: Problems) -> Fields | None:
    """The fields of a line, or None with all its problems noted."""
    document = _object(number, data, problems)
    if document is None:
        return None
    before = problems.count
    audio = _string(document, AUDIO_KEYS, number, problems)
    text = _string(document, TEXT_KEYS, number, problems)
    duration_s = _seconds(document, "duration", number, problems)
    offset_s = _seconds(document, "offset", number, problems)
    channel = _channel(document, number, problems)
    speaker = _speaker(document, number, problems)
    _check_language(document, number, problems)
    if audio is not None and (problem := _path_problem(audio)):
        problems.add(number, problem)
    if text is not None and not _is_unicode(text):
        problems.add(number, r"the text has half a character (an unpaired \uD8xx escape): correct it")
    if audio is None or text is None or problems.count > before:
        return None
    used = {_first(document, AUDIO_KEYS), _first(document, TEXT_KEYS), *OTHER_KEYS}
    extra = {key: value for key, value in document.items() if key not in used}
    return Fields(audio, text, duration_s, offset_s, channel, speaker, extra or _NO_EXTRA)


def audio_path(folder: str, written: str) -> str:
    """The absolute path of a line's audio, in a manifest of the absolute `folder`. PathError for a `~` without a home.

    A name that only begins with ~, without a folder, is a file's.
    """
    if written.startswith("~") and "/" in written:
        return str(user_path(written))
    return os.path.join(folder, written)  # noqa: PTH118 - thousands of names: a Path for each takes as long as the rest


def shortened(text: str, limit: int = 200) -> str:
    """Text of a file for a message: the beginning of what is too long."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def _object(number: int, data: bytes, problems: Problems) -> dict[str, Any] | None:
    """The JSON object of a line."""
    if number == 1 and data.startswith(_UTF16_BOMS):
        problems.add(number, "the file is UTF-16: save it as UTF-8")
        return None
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        problems.add(number, f"not valid UTF-8 at byte {error.start + 1} of the line: save the file as UTF-8")
    except json.JSONDecodeError as error:
        problems.add(number, f"not JSON ({error.msg} at column {error.colno}): write one JSON object a line")
    except _KeyTwice as error:
        problems.add(number, f"the key {shortened(str(error), 60)!r} is there twice: keep one of them")
    except (ValueError, RecursionError):
        problems.add(number, "not usable JSON (a number too long or a nesting too deep): write one flat object a line")
    else:
        if isinstance(document, dict):
            return document
        problems.add(number, "not a JSON object: write one object a line, not a list or a bare value")
    return None


class _KeyTwice(Exception):
    """JSON leaves open which of two values counts: so none does. Carries the key."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise _KeyTwice(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found


def _first(document: dict[str, Any], keys: tuple[str, str]) -> str | None:
    """The first of `keys` that the line has; a null counts as absent."""
    return next((key for key in keys if document.get(key) is not None), None)


def _string(document: dict[str, Any], keys: tuple[str, str], number: int, problems: Problems) -> str | None:
    key = _first(document, keys)
    if key is None:
        has = shortened(", ".join(document)) or "nothing"
        problems.add(number, f"{keys[0]!r} is missing (or {keys[1]!r}): add it; the line has {has}")
        return None
    value = document[key]
    if isinstance(value, str):
        return value
    problems.add(number, f"{key!r} must be a string: correct it")
    return None


def _seconds(document: dict[str, Any], key: str, number: int, problems: Problems) -> float | None:
    """A time in seconds: `offset` 0 or more, `duration` above 0; None for null or nothing."""
    value = document.get(key)
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and (0 < value < _LONGEST_S or (value == 0 and key == "offset")):
        return float(value)
    least = "0 or more" if key == "offset" else "above 0"
    if value == -1:
        problems.add(number, f"{key!r} must be {least}; {_NEMO_UNKNOWN}")
        return None
    problems.add(number, f"{key!r} must be a number of seconds, {least} and below {_LONGEST_S:g}: correct or remove it")
    return None


def _channel(document: dict[str, Any], number: int, problems: Problems) -> int | None:
    """The number of a channel, from 0 as in NeMo and Kaldi; None for null or nothing: the mean of all."""
    value = document.get("channel")
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_CHANNELS:
        return value
    what = "the number of the channel to hear, 0 for the first: correct it, or call the field otherwise"
    problems.add(number, f"'channel' must be {what}")
    return None


def _speaker(document: dict[str, Any], number: int, problems: Problems) -> str | None:
    """A string; numbers are taken as names, for many corpora number their speakers."""
    value = document.get("speaker")
    if value is None:
        return None
    if isinstance(value, str):
        return sys.intern(value)  # one speaker says many lines
    if value == -1:
        problems.add(number, f"'speaker': {_NEMO_UNKNOWN}")
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    problems.add(number, "'speaker' must be a string: correct or remove it")
    return None


def _check_language(document: dict[str, Any], number: int, problems: Problems) -> None:
    """`language` stays among the other fields, so that results can be sliced by it. Which there are, a model says."""
    value = document.get("language")
    if value is None or (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST_LANGUAGE
        and value == value.strip()
        and value.isprintable()
    ):
        return
    problems.add(
        number, "'language' must be the code or name of a language, such as de or german: correct or remove it"
    )


def _path_problem(audio: str) -> str | None:
    try:
        if audio and b"\0" not in os.fsencode(audio):
            audio_path("", audio)
            return None
    except PathError as error:
        return str(error)
    except UnicodeEncodeError:
        pass
    return "the audio path is empty or has a character that no file name can have: correct it"


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
