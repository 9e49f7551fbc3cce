"""Reading sets as other tools write them, and writing them for other tools. Lines are manifest lines (dictionaries).

An importer takes what its format says and refuses everything else, with file and line: it chooses no column, keeps none
of two lines for one clip, and drops nothing that changes what is heard.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from core.audio.samples import slice_frames
from core.audio.sound_file import opened, total_frames
from core.errors import ManifestError
from core.manifests import TEXT_COLUMN_KINDS
from core.manifests.array_import import import_arrays
from core.manifests.manifest import Manifest, Utterance, manifest_line, path_from
from core.manifests.parsing import Problems, audio_path, json_objects, parse_line, raise_all, shortened
from core.system.files import POINTER, is_pointer, open_regular
from core.user_paths import PathError


def read_text(path: Path) -> str:
    """A file of UTF-8, with or without a byte order mark. Raises ManifestError."""
    try:
        with open_regular(path, follow=True) as file:
            data = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"{path}: cannot be read ({reason}): correct the path or the permissions") from error
    if is_pointer(data):
        raise ManifestError(f"{path}: {POINTER}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not valid UTF-8 at byte {error.start + 1}: save the file as UTF-8") from error


def rows_of(path: Path, delimiter: str, quoting: Any) -> Iterator[tuple[int, list[str]]]:
    """(line, cells). A quote that is not closed, or closed in the middle of a cell, is an error: it would swallow what
    follows."""
    text = io.StringIO(read_text(path), newline="")
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise ManifestError(f"{path}:{reader.line_num}: not a table ({error}): export the file again") from error


def headed(
    path: Path, delimiter: str, quoting: Any, needed: tuple[str, ...], problems: Problems
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, column → cell) of a table whose first line names its columns, each once."""
    rows = rows_of(path, delimiter, quoting)
    _, head = next(rows, (0, []))
    missing = [name for name in needed if name not in head]
    if missing:
        raise ManifestError(f"{path}:1: no column {', '.join(missing)}: the first line must name the columns")
    twice = sorted({name for name in head if head.count(name) > 1})
    if twice:
        raise ManifestError(f"{path}:1: the column {twice[0]!r} is there twice: keep one of them")
    for number, row in rows:
        if len(row) != len(head):
            problems.add(number, f"{len(row)} columns, the first line has {len(head)}: correct it")
            continue
        yield number, dict(zip(head, row, strict=True))


__all__ = ["export_rows", "import_lines"]

Line = dict[str, Any]


class Imported(NamedTuple):
    """A line, and where it comes from."""

    problems: Problems
    """Of the file."""
    number: int
    line: Line


Found = Iterator[Imported]

TEXT_COLUMNS = ("text", "transcription", "sentence", "transcript")
"""What audio folders call the text."""
SPEAKER_COLUMNS = ("speaker", "speaker_id")


def import_lines(kind: str, source: Path, output: Path, text_column: str | None = None) -> Iterator[Line]:
    """The lines of `source`, in a manifest at `output`. Raises ManifestError with all problems.

    `kind` is one of IMPORTS. Kind `arrays` writes the samples as WAV files (`core.manifests.array_import`).
    `text_column`: the number (LJSpeech, from 1) or name of the column that holds the text, where a table has several.
    """
    if text_column is not None and kind not in TEXT_COLUMN_KINDS:
        raise ManifestError(f"--text-column {text_column}: a set of kind {kind} has no columns: leave it out")
    yield from _checked(_found(kind, source, output, text_column), output.parent.absolute(), audio=kind != "arrays")


def _found(kind: str, source: Path, output: Path, text_column: str | None) -> Found:
    match kind:
        case "nemo":
            return _import_nemo(source, output)
        case "kaldi":
            return _import_kaldi(source, output)
        case "ljspeech":
            return _import_ljspeech(source, output, text_column)
        case "commonvoice":
            return _import_common_voice(source, output, text_column)
        case "audiofolder":
            return _import_audiofolder(source, output, text_column)
        case _:
            return _import_arrays(source, output)


def _checked(found: Found, folder: Path, *, audio: bool) -> Iterator[Line]:
    """Those lines that a manifest may have, each clip once, with its audio if that must be there now."""
    files: dict[int, Problems] = {}
    seen: dict[object, int] = {}
    for problems, number, line in found:
        files[id(problems)] = problems
        fields = parse_line(number, json.dumps(line).encode(), problems)
        if fields is None:
            continue
        path = folder / fields.audio
        key = (str(path), fields.slice, fields.channel)
        if key in seen:
            problems.add(number, f"the same clip as line {seen[key]} ({shortened(fields.audio)}): keep one of them")
            continue
        seen[key] = number
        if audio and not _is_file(path):
            problems.add(number, f"no audio file {shortened(str(path))}: correct it, or bring the audio there")
            continue
        yield line
    raise_all(files.values())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def export_rows(kind: str, manifest: Manifest, folder: Path) -> Iterator[str]:
    """The text of a file in `folder` that holds `manifest` as nemo (JSON Lines) or csv, in pieces."""
    if kind == "nemo":
        yield from (json.dumps(_nemo(u, folder), ensure_ascii=False) + "\n" for u in manifest.utterances)
        return
    channels = any(u.channel is not None for u in manifest.utterances)
    languages = any(u.language is not None for u in manifest.utterances)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    more = [name for name, told in (("channel", channels), ("language", languages)) if told]
    writer.writerow(("path", "text", "offset", "duration", "speaker", *more))
    for u in manifest.utterances:
        offset = u.offset_s if u.offset_s or u.tells_offset else ""
        row = [
            path_from(folder, u.audio),
            u.text,
            offset,
            "" if u.duration_s is None else u.duration_s,
            u.speaker or "",
        ]
        row += [("" if u.channel is None else u.channel)] if channels else []
        row += [u.language or ""] if languages else []
        writer.writerow(row)
    yield buffer.getvalue()


def _nemo(utterance: Utterance, folder: Path) -> Line:
    """NeMo wants a duration in every line."""
    line = manifest_line(utterance, folder)
    if "duration" not in line:
        with opened(utterance.audio) as file:
            rate_hz, total = file.samplerate, total_frames(file)
            start, stop = slice_frames(total, rate_hz, utterance.offset_s, None)
        line["duration"] = round((stop - start) / rate_hz, 3)
    return line


def _import_nemo(source: Path, output: Path) -> Found:
    """NeMo's manifest is nearly ours. An offset or duration of 0 or less and a speaker of -1 say nothing there; the
    file may be called `audio_filename`, the text `normalized_text`, the speaker `speaker_id`, and the language `lang`
    or `source_lang`."""
    problems = Problems(source)
    for number, row in json_objects(source, problems):
        line = dict(row)
        for key, other in (
            ("audio_filepath", "audio_filename"),
            ("text", "normalized_text"),
            ("speaker", "speaker_id"),
            ("language", "lang"),
            ("language", "source_lang"),
        ):
            if line.get(key) in (None, -1) and line.get(other) not in (None, -1):
                line[key] = line.pop(other)
        for key in ("offset", "duration"):
            value = line.get(key)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0:
                # An offset of 0 makes a slice together with a duration.
                line[key] = 0 if key == "offset" and value == 0 else None
        line = {key: value for key, value in line.items() if value is not None and (key, value) != ("speaker", -1)}
        if "text" not in line and "text_filepath" in line:
            problems.add(number, "the text is in another file (text_filepath): write it into the line, as text")
            continue
        if "channel_selector" in line:
            problems.add(number, "channel_selector is no field of a line: call it channel (0 is the first)")
            continue
        name = line.get("audio_filepath", line.get("audio"))
        if isinstance(name, str) and name:
            line.pop("audio", None)
            try:
                audio = Path(audio_path(str(source.parent.absolute()), name))
            except PathError as error:
                problems.add(number, str(error))
                continue
            line["audio_filepath"] = path_from(output.parent, audio)
        yield Imported(problems, number, line)
    problems.raise_if_any()


class _Table:
    """A file of Kaldi: a name, and the rest of its line. Names that are there twice are problems, with both lines."""

    def __init__(self, path: Path, what: str, *, required: bool = True) -> None:
        self.problems = Problems(path)
        self.rest: dict[str, str] = {}
        self.lines: dict[str, int] = {}
        self.given = required or path.exists()
        if not self.given:
            return
        for number, written in enumerate(read_text(path).split("\n"), 1):
            name, _, rest = _BLANKS.sub(" ", written.strip(" \t\r"), count=1).partition(" ")
            if not name:
                continue
            if name in self.lines:
                self.problems.add(number, f"{what} {name!r} is on line {self.lines[name]} already: keep one of them")
                continue
            self.lines[name], self.rest[name] = number, rest

    def refuse(self, name: str, what: str) -> None:
        """Note what is wrong with the line of `name`."""
        self.problems.add(self.lines[name], what)

    def lacks(self, others: dict[str, str], what: str) -> None:
        """Note the lines whose names are not among `others`."""
        for name in self.rest:
            if name not in others:
                self.refuse(name, what.format(repr(name)))


_BLANKS = re.compile(r"[ \t]+")


def _import_kaldi(source: Path, output: Path) -> Found:
    """A folder with wav.scp and text, and segments and utt2spk if there are any. Commands (`… |`) are refused."""
    recordings = _Table(source / "wav.scp", "recording")
    texts = _Table(source / "text", "utterance")
    speakers = _Table(source / "utt2spk", "utterance", required=False)
    segments = _Table(source / "segments", "utterance", required=False)
    parts = {name: _segment(segments, name) for name in segments.rest}
    for name in texts.rest:
        if segments.given and name not in parts:
            texts.refuse(name, f"utterance {name!r} has no line in segments: give recording, start and end")
        elif not segments.given and name not in recordings.rest:
            texts.refuse(name, f"recording {name!r} is not in wav.scp: give the path of a sound file")
        if speakers.given and name not in speakers.rest:
            texts.refuse(name, f"utterance {name!r} has no speaker in utt2spk: add it")
    (segments if segments.given else recordings).lacks(texts.rest, "{} has no line in text: add or remove it")
    speakers.lacks(texts.rest, "utterance {} has no line in text: correct or remove it")
    for name, segment in parts.items():
        if segment and segment[0] not in recordings.rest:
            segments.refuse(name, f"recording {segment[0]!r} is not in wav.scp: give the path of a sound file")
    for name, path in recordings.rest.items():
        if not path or path.endswith("|"):
            recordings.refuse(name, f"{name!r} {'is a command' if path else 'has no path'}: give that of a sound file")
    for name, speaker in speakers.rest.items():
        if not speaker or _BLANKS.search(speaker):
            speakers.refuse(name, f"not an utterance and a speaker, without blanks in either: {speaker!r}")
    raise_all(table.problems for table in (texts, recordings, segments, speakers))
    for name, text in texts.rest.items():
        recording, part = parts.get(name) or (name, {})
        line: Line = {"audio_filepath": path_from(output.parent, source.absolute() / recordings.rest[recording])}
        line |= {"text": text, **part} | ({"speaker": speakers.rest[name]} if speakers.given else {})
        yield Imported(texts.problems, texts.lines[name], line)


def _segment(segments: _Table, name: str) -> tuple[str, Line] | None:
    """The recording, and offset, duration and channel of it. An end of -1 is the recording's; channels count from 0."""
    fields = _BLANKS.split(segments.rest[name])
    start, stop = (_number(field) for field in (*fields[1:3], *("", "")[: max(0, 3 - len(fields))]))
    if len(fields) not in (3, 4) or start is None or stop is None or start < 0 or not (stop == -1 or stop > start):
        what = "not `utterance recording start end`, in seconds (an end of -1: to the end), and a channel if wanted"
        segments.refuse(name, f"{what}: {shortened(segments.rest[name], 80)!r}")
        return None
    part: Line = {"offset": start} | ({} if stop == -1 else {"duration": round(stop - start, 6)})
    if len(fields) == 4:
        if not re.fullmatch(r"[0-9]{1,4}", fields[3]):
            segments.refuse(name, f"channel {fields[3]!r} is no number, of which 0 is the first: correct it")
            return None
        part["channel"] = int(fields[3])
    return fields[0], part


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _import_ljspeech(source: Path, output: Path, text_column: str | None) -> Found:
    """`id|text` or `id|text|normalised text` without a head; audio in wavs/ beside it.

    The normalised text is taken if there is one. Lists of another shape are refused unless `text_column` is given.
    """
    problems = Problems(source)
    rows = [(number, row) for number, row in rows_of(source, "|", csv.QUOTE_NONE)]
    width = len(rows[0][1]) if rows else 0
    chosen = _column_number(text_column)
    if chosen is None and width == 3 and not _is_normalised_text([row for _, row in rows if len(row) == 3]):
        number, row = rows[0]
        problems.add(
            number, f"the third column ({shortened(row[2], 40)!r}) is not the second one, normalised: {_WHICH}"
        )
        problems.raise_if_any()
    for number, row in rows:
        if len(row) != width:
            problems.add(number, f"{len(row)} columns, the first line has {width}: correct it")
        elif chosen is None and width not in (2, 3):
            problems.add(number, f"{width} columns, not `id|text` or `id|text|normalised text`: {_WHICH}")
        elif (chosen or 2) > width:
            problems.add(number, f"no column {chosen}: it has {width}")
        elif not row[0].strip():
            problems.add(number, "the first column is empty: it must name the sound file")
        else:
            name = row[0] if Path(row[0]).suffix else f"{row[0]}.wav"
            audio = path_from(output.parent, source.parent.absolute() / "wavs" / name)
            text = row[chosen - 1] if chosen else row[-1] or row[1]
            yield Imported(problems, number, {"audio_filepath": audio, "text": text})
    problems.raise_if_any()


_WHICH = "say which column holds the text, such as --text-column 2"


def _column_number(text_column: str | None) -> int | None:
    if text_column is None:
        return None
    if not re.fullmatch(r"[0-9]{1,4}", text_column) or int(text_column) < 2:
        raise ManifestError(f"--text-column {text_column}: LJSpeech has no names: give a number from 2")
    return int(text_column)


def _is_normalised_text(rows: list[list[str]]) -> bool:
    """Whether the third column says what the second does: half of its words, or nothing, in most rows that have any.

    Numbers are no words here: to spell them out is what normalising means.
    """
    telling = alike = 0
    for row in rows:
        written, spoken = ({w for w in _WORDS.findall(c.casefold()) if not w.isdigit()} for c in row[1:3])
        if written:
            telling += 1
            alike += not row[2].strip() or 2 * len(written & spoken) >= len(written)
    return 2 * alike > telling


_WORDS = re.compile(r"\w+")


def _import_common_voice(source: Path, output: Path, text_column: str | None) -> Found:
    """validated.tsv and its like: path and sentence, client_id as the speaker; audio in clips/ beside it."""
    fields = ("accents", "age", "gender", "locale")
    problems = Problems(source)
    text = text_column or "sentence"
    for number, row in headed(source, "\t", csv.QUOTE_NONE, ("path", text), problems):
        if not row["path"]:
            problems.add(number, "the path is empty: it must name the sound file")
            continue
        audio = source.parent.absolute() / "clips" / row["path"]
        line = {"audio_filepath": path_from(output.parent, audio), "text": row[text]}
        if row.get("client_id"):
            line["speaker"] = row["client_id"]
        if row.get("locale"):
            line["language"] = row["locale"].partition("-")[0]  # zh-TW: speech models know languages, not places
        yield Imported(problems, number, line | {field: row[field] for field in fields if row.get(field)})
    problems.raise_if_any()


def _import_audiofolder(source: Path, output: Path, text_column: str | None) -> Found:
    """A Hugging Face audio folder: file_name and a text column in metadata.csv or metadata.jsonl."""
    folder = source if source.is_dir() else source.parent
    path = source
    if source.is_dir():
        found = [folder / name for name in ("metadata.csv", "metadata.jsonl") if (folder / name).is_file()]
        if len(found) != 1:
            what = "both metadata.csv and metadata.jsonl" if found else "no metadata.csv or metadata.jsonl"
            raise ManifestError(f"{source}: {what} in it: name the file that is meant")
        path = found[0]
    problems = Problems(path)
    rows = list(
        headed(path, ",", csv.QUOTE_MINIMAL, ("file_name",), problems)
        if path.suffix == ".csv"
        else json_objects(path, problems)
    )
    text = _one_column(path, rows, text_column)
    columns = {key for _, row in rows for key in row}
    speaker = next((name for name in SPEAKER_COLUMNS if name in columns), "")
    for number, row in rows:
        name = row.get("file_name")
        if not isinstance(name, str) or not name or not isinstance(row.get(text), str) or not row[text]:
            problems.add(number, f"file_name or {text} is missing: add it")
            continue
        line: Line = {"audio_filepath": path_from(output.parent, folder.absolute() / name), "text": row[text]}
        told = row.get(speaker)
        yield Imported(problems, number, line | ({} if told in (None, "") else {"speaker": told}))
    problems.raise_if_any()


def _one_column(path: Path, rows: list[tuple[int, Line]], text_column: str | None) -> str:
    """The column of the text: the one that is asked for, else the only one with a name that says so."""
    columns = {key: number for number, row in reversed(rows) for key in row}
    if text_column is not None:
        if text_column not in columns:
            raise ManifestError(
                f"--text-column {text_column}: {path} has no such column: {shortened(', '.join(columns))}"
            )
        return text_column
    known = [name for name in TEXT_COLUMNS if name in columns]
    if len(known) > 1:
        where = ", ".join(f"{name} (line {columns[name]})" for name in known)
        raise ManifestError(f"{path}: several columns may be the text: {where}: say which, as --text-column {known[0]}")
    return known[0] if known else TEXT_COLUMNS[0]


def _import_arrays(source: Path, output: Path) -> Found:
    problems = Problems(source)
    for number, line in import_arrays(source, output, problems):
        yield Imported(problems, number, line)
    problems.raise_if_any()
