"""Reading sets as other tools write them, and writing them for other tools. Lines are manifest lines (dictionaries)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.errors import ManifestError
from core.speech.array_import import import_arrays
from core.speech.audio import slice_frames
from core.speech.manifest import Manifest, Utterance, read_manifest
from core.speech.manifest_lines import Problems, json_objects
from core.speech.manifest_writer import manifest_line, path_from
from core.speech.sound_file import opened, total_frames

Lines = Iterator[dict[str, Any]]


def import_lines(kind: str, source: Path, output: Path) -> Lines:
    """The lines of `source`, in a manifest at `output`. Raises ManifestError with all problems.

    `kind` is one of IMPORTS. Kind `arrays` writes the samples as WAV files (`core.speech.array_import`).
    """
    return IMPORTS[kind](source, output)


def export_rows(kind: str, manifest: Manifest, folder: Path) -> Iterator[str]:
    """The text of a file in `folder` that holds `manifest` as nemo (JSON Lines) or csv, in pieces."""
    if kind == "nemo":
        yield from (json.dumps(_nemo(u, folder), ensure_ascii=False) + "\n" for u in manifest.utterances)
        return
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("path", "text", "offset", "duration", "speaker"))
    for u in manifest.utterances:
        duration = "" if u.duration_s is None else u.duration_s
        writer.writerow((path_from(folder, u.audio), u.text, u.offset_s or "", duration, u.speaker or ""))
    yield buffer.getvalue()


def _nemo(utterance: Utterance, folder: Path) -> dict[str, Any]:
    """NeMo wants a duration in every line."""
    line = manifest_line(utterance, folder)
    if "duration" not in line:
        with opened(utterance.audio) as file:
            rate_hz, total = file.samplerate, total_frames(file)
            start, stop = slice_frames(total, rate_hz, utterance.offset_s, None)
        line["duration"] = round((stop - start) / rate_hz, 3)
    return line


def _import_nemo(source: Path, output: Path) -> Lines:
    """NeMo's manifest is ours, but for a speaker that may be called otherwise and a pad of -1."""
    for utterance in read_manifest(source).utterances:
        yield manifest_line(utterance, output.parent)


def _import_kaldi(source: Path, output: Path) -> Lines:
    """A folder with wav.scp and text, and segments and utt2spk if there are any. Commands (`… |`) are refused."""
    problems = Problems(source)
    recordings = _table(source / "wav.scp")
    texts = _table(source / "text")
    speakers = _table(source / "utt2spk", required=False)
    segments = _table(source / "segments", required=False)
    for number, (name, text) in enumerate(texts.items(), 1):
        line: dict[str, Any] = {"text": text}
        recording = name
        if segments:
            fields = segments.get(name, "").split()
            times = [_number(field) for field in fields[1:3]]
            if len(times) < 2 or None in times or not 0 <= (times[0] or 0.0) < (times[1] or 0.0):
                problems.add(number, f"utterance {name!r} has no good line in segments: give recording, start and end")
                continue
            start, stop = times[0] or 0.0, times[1] or 0.0
            recording = fields[0]
            line |= {"offset": start, "duration": round(stop - start, 6)}
        path = recordings.get(recording)
        if path is None or path.rstrip().endswith("|"):
            what = "is a command" if path else "is not in wav.scp"
            problems.add(number, f"recording {recording!r} {what}: give the path of a sound file")
            continue
        if name in speakers:
            line["speaker"] = speakers[name]
        yield {"audio_filepath": path_from(output.parent, source.absolute() / path), **line}
    problems.raise_if_any()


def _import_ljspeech(source: Path, output: Path) -> Lines:
    """`id|text|normalised text` without a head; audio in wavs/ beside it. The normalised text is taken if given."""
    problems = Problems(source)
    for number, row in _rows(source, "|", csv.QUOTE_NONE):
        if len(row) < 2 or not row[0]:
            problems.add(number, "not `id|text`: one clip a line, its parts between bars")
            continue
        audio = source.parent.absolute() / "wavs" / (row[0] if Path(row[0]).suffix else f"{row[0]}.wav")
        yield {"audio_filepath": path_from(output.parent, audio), "text": row[-1] or row[1]}
    problems.raise_if_any()


def _import_common_voice(source: Path, output: Path) -> Lines:
    """validated.tsv and its like: path and sentence, client_id as the speaker; audio in clips/ beside it."""
    fields = ("accents", "age", "gender", "locale")
    for _, row in _headed(source, "\t", csv.QUOTE_NONE, ("path", "sentence")):
        audio = source.parent.absolute() / "clips" / row["path"]
        line = {"audio_filepath": path_from(output.parent, audio), "text": row["sentence"]}
        if row.get("client_id"):
            line["speaker"] = row["client_id"]
        yield line | {field: row[field] for field in fields if row.get(field)}


def _import_audiofolder(source: Path, output: Path) -> Lines:
    """A Hugging Face audio folder: file_name and a text column in metadata.csv or metadata.jsonl."""
    folder = source if source.is_dir() else source.parent
    path = source
    if source.is_dir():
        found = [folder / name for name in ("metadata.csv", "metadata.jsonl") if (folder / name).is_file()]
        if not found:
            raise ManifestError(f"{source}: no metadata.csv or metadata.jsonl in it: name the file or its folder")
        path = found[0]
    problems = Problems(path)
    rows = (
        _headed(path, ",", csv.QUOTE_MINIMAL, ("file_name",)) if path.suffix == ".csv" else json_objects(path, problems)
    )
    for number, row in rows:
        text = next((row[key] for key in ("text", "transcription", "sentence", "transcript") if row.get(key)), None)
        if not isinstance(row.get("file_name"), str) or not isinstance(text, str):
            problems.add(number, "file_name or text is missing (text, transcription, sentence or transcript): add it")
            continue
        line = {"audio_filepath": path_from(output.parent, folder.absolute() / row["file_name"]), "text": text}
        speaker = row.get("speaker") or row.get("speaker_id")
        yield line | ({"speaker": str(speaker)} if speaker else {})
    problems.raise_if_any()


IMPORTS: dict[str, Callable[[Path, Path], Lines]] = {
    "nemo": _import_nemo,
    "kaldi": _import_kaldi,
    "ljspeech": _import_ljspeech,
    "commonvoice": _import_common_voice,
    "audiofolder": _import_audiofolder,
    "arrays": import_arrays,
}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not valid UTF-8 at byte {error.start + 1}: save the file as UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"{path}: cannot be read ({reason}): correct the path or the permissions") from error


def _table(path: Path, required: bool = True) -> dict[str, str]:
    """A Kaldi file: a name and the rest of the line."""
    if not required and not path.exists():
        return {}
    parts = [line.split(None, 1) for line in _read_text(path).split("\n") if line.strip()]
    return {part[0]: part[1].strip() if len(part) > 1 else "" for part in parts}


def _rows(path: Path, delimiter: str, quoting: Any) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), delimiter=delimiter, quoting=quoting)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise ManifestError(f"{path}:{reader.line_num}: not a table ({error}): export the file again") from error


def _headed(path: Path, delimiter: str, quoting: Any, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = _rows(path, delimiter, quoting)
    _, head = next(rows, (0, []))
    missing = [name for name in needed if name not in head]
    if missing:
        raise ManifestError(f"{path}:1: no column {', '.join(missing)}: the first line must name the columns")
    problems = Problems(path)
    for number, row in rows:
        if len(row) != len(head):
            problems.add(number, f"{len(row)} columns, the first line has {len(head)}: correct it")
            continue
        yield number, dict(zip(head, row, strict=True))
    problems.raise_if_any()
