"""An importer takes what its format says and refuses all else, with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.cli.__main__ import main
from core.manifests.manifest import Utterance, read_manifest

Capture = pytest.CaptureFixture[str]


def sounds(folder: Path, *names: str, channels: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        samples = np.full((16_000, channels), 0.01 * (index + 1), np.float32)
        samples[:, 1:] *= -3
        soundfile.write(folder / f"{name}.wav", samples, 16_000, subtype="FLOAT")


def refused(kind: str, source: Path, capsys: Capture, *more: str) -> str:
    out = source.parent / "out.jsonl"
    assert main(["manifest", "import", kind, str(source), "-o", str(out), *more]) == 4
    assert not out.exists()
    return capsys.readouterr().err


def imported(kind: str, source: Path, *more: str) -> tuple[Utterance, ...]:
    out = source.parent / "out.jsonl"
    assert main(["manifest", "import", kind, str(source), "-o", str(out), "--force", *more]) == 0
    return read_manifest(out).utterances


LJ_DURATION = "a|the loud stove was under|2.69\nb|the wharf is full|2.67\n"
LJ_SPEAKER = "a.wav|the loud stove was under|anna\nb.wav|the wharf is full|bert\n"
LJ_FIVE = "a|Sentence one|sentence one|LJ003|str\nb|Sentence two|sentence two|LJ001|git\n"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (LJ_DURATION, "metadata.csv:1: the third column ('2.69') is not the second one, normalised"),
        (LJ_SPEAKER, "metadata.csv:1: the third column ('anna') is not the second one, normalised"),
        (LJ_FIVE, "metadata.csv:1: 5 columns, not `id|text` or `id|text|normalised text`"),
        ("a|0|the loud stove\nb|1|the wharf\n", "('the loud stove') is not the second one"),
        ("a\nb\n", "metadata.csv:1: 1 columns, not"),
        ("a|one two|one two\nb|a bar | in it|b\n", "metadata.csv:2: 4 columns, the first line has 3"),
        ("a|one|one\na|two|two\n", "metadata.csv:2: the same clip as line 1"),
        ("a|one|one\n|two|two\n", "metadata.csv:2: the first column is empty"),
        ("a|one|one\nz|two|two\n", "metadata.csv:2: no audio file"),
    ],
)
def test_ljspeech_lists_of_another_shape(tmp_path: Path, table: str, says: str, capsys: Capture) -> None:
    sounds(tmp_path / "wavs", "a", "b")
    (tmp_path / "metadata.csv").write_text(table)
    told = refused("ljspeech", tmp_path / "metadata.csv", capsys)
    assert says in told
    if "not the second" in says or "not `id" in says:
        assert "--text-column" in told


def test_the_text_column_of_a_list_can_be_named(tmp_path: Path, capsys: Capture) -> None:
    sounds(tmp_path / "wavs", "a", "b")
    path = tmp_path / "metadata.csv"
    for table, column, text in ((LJ_DURATION, 2, "the wharf is full"), (LJ_FIVE, 3, "sentence two")):
        path.write_text(table)
        assert imported("ljspeech", path, "--text-column", str(column))[1].text == text
        (tmp_path / "out.jsonl").unlink()
        assert "no column 9" in refused("ljspeech", path, capsys, "--text-column", "9")
    assert "give a number from 2" in refused("ljspeech", path, capsys, "--text-column", "text")
    assert "leave it out" in refused("nemo", path, capsys, "--text-column", "2")


def test_lists_of_ljspeech_itself_are_read(tmp_path: Path) -> None:
    sounds(tmp_path / "wavs", "a", "b", "c")
    (tmp_path / "metadata.csv").write_text(
        "a|In 1465|In fourteen sixty-five\nb|Dr. X said so|\nc|1998|nineteen ninety\n"
    )
    texts = [u.text for u in imported("ljspeech", tmp_path / "metadata.csv")]
    assert texts == ["In fourteen sixty-five", "Dr. X said so", "nineteen ninety"]
    (tmp_path / "metadata.csv").write_text("\ufeffa|one\nb|two\n", encoding="utf-8")
    assert [u.text for u in imported("ljspeech", tmp_path / "metadata.csv")] == ["one", "two"]


def kaldi(folder: Path, **files: str) -> Path:
    sounds(folder / "audio", "a", "b", channels=2)
    given = {"wav_scp": "a audio/a.wav\nb audio/b.wav\n", "text": "a the loud stove\nb\tthe wharf\n"} | files
    for name, text in given.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"text": "a one\na two\nb three\n"}, "text:2: utterance 'a' is on line 1 already: keep one of them"),
        ({"wav_scp": "a audio/a.wav\nb audio/b.wav\nb audio/a.wav\n"}, "wav.scp:3: recording 'b' is on line 2 already"),
        ({"utt2spk": "a s1\nb s2\na s2\n"}, "utt2spk:3: utterance 'a' is on line 1 already"),
        ({"segments": "a a 0 0.5\nb b 0 0.5\na a 0.5 0.9\n"}, "segments:3: utterance 'a' is on line 1 already"),
        ({"text": "a one\nc two\nb three\n"}, "text:2: recording 'c' is not in wav.scp"),
        ({"text": "a one\n"}, "wav.scp:2: 'b' has no line in text"),
        ({"utt2spk": "a s1\nb s2\nc s3\n"}, "utt2spk:3: utterance 'c' has no line in text"),
        ({"utt2spk": "a s1\n"}, "text:2: utterance 'b' has no speaker in utt2spk"),
        ({"utt2spk": "a s1 extra\nb s2\n"}, "utt2spk:1: not an utterance and a speaker"),
        ({"utt2spk": "a\nb s2\n"}, "utt2spk:1: not an utterance and a speaker"),
        ({"segments": "a a 0 0.5\n"}, "text:2: utterance 'b' has no line in segments"),
        ({"segments": "a a 0 0.5\nb b 0 0.5\nc a 0 1\n"}, "segments:3: 'c' has no line in text"),
        ({"segments": "a a 0 0.5\nb x 0 0.5\n"}, "segments:2: recording 'x' is not in wav.scp"),
        ({"segments": "a a 0\nb b 0 0.5\n"}, "segments:1: not `utterance recording start end`"),
        ({"segments": "a a 0 nan\nb b 0 0.5\n"}, "segments:1: not `utterance recording start end`"),
        ({"segments": "a a 0 -2\nb b 0 0.5\n"}, "segments:1: not `utterance recording start end`"),
        ({"segments": "a a 0 1 0 0\nb b 0 0.5\n"}, "segments:1: not `utterance recording start end`"),
        ({"segments": "a a 0 1 A\nb b 0 0.5\n"}, "segments:1: channel 'A' is no number"),
        ({"segments": "a a 0 1 -1\nb b 0 0.5\n"}, "segments:1: channel '-1' is no number"),
        ({"segments": "a a 0 0.5\nb a 0 0.5\n"}, "text:2: the same clip as line 1"),
        ({"wav_scp": "a audio/a.wav\nb sox x |\n"}, "wav.scp:2: 'b' is a command"),
        ({"wav_scp": "a audio/a.wav\nb audio/z.wav\n"}, "no audio file"),
    ],
)
def test_kaldi_folders_that_contradict_themselves(
    tmp_path: Path, files: dict[str, str], says: str, capsys: Capture
) -> None:
    assert says in refused("kaldi", kaldi(tmp_path / "k", **files), capsys)


def test_kaldi_segments_choose_channels_and_may_end_with_the_file(tmp_path: Path) -> None:
    folder = kaldi(
        tmp_path / "k",
        wav_scp="call audio/a.wav\n",
        text="uA the loud stove\nuB the wharf\nuC more\n",
        segments="uA call 0.0 0.6 0\nuB call 0.05 -1 1\nuC call 0 1\n",
    )
    told = [(u.offset_s, u.duration_s, u.channel, u.tells_offset) for u in imported("kaldi", folder)]
    assert told == [(0.0, 0.6, 0, True), (0.05, None, 1, True), (0.0, 1.0, None, True)]


def test_a_blank_that_is_no_space_does_not_part_a_kaldi_line(tmp_path: Path) -> None:
    folder = kaldi(tmp_path / "k", text="a\t\u3000one\u00a0two  three\r\nb x\n")
    assert imported("kaldi", folder)[0].text == "\u3000one\u00a0two  three"


def nemo(folder: Path, *rows: dict[str, Any] | str) -> Path:
    sounds(folder / "audio", "a", "b")
    path = folder / "m.json"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_nemo_lines_mean_what_nemo_takes_them_for(tmp_path: Path) -> None:
    clip = {"audio_filepath": "audio/a.wav", "text": "the loud stove"}
    other = {"audio_filename": "audio/b.wav", "normalized_text": "the loud stove"}
    for row, expected in (
        (clip | {"duration": 0.9, "offset": -1, "speaker_id": "s7", "lang": "en"}, (0.0, 0.9, "s7", False)),
        (clip | {"duration": -1, "offset": None, "speaker": -1}, (0.0, None, None, False)),
        (clip | {"duration": 0.5, "speaker": -1, "speaker_id": 3}, (0.0, 0.5, "3", False)),
        (clip | {"duration": 0.5, "speaker": "ann", "speaker_id": 3}, (0.0, 0.5, "ann", False)),
        (clip | {"duration": 0.5, "speaker_id": "s7", "speaker_name": "x"}, (0.0, 0.5, "s7", False)),
        (clip | {"duration": 0.5, "offset": 0}, (0.0, 0.5, None, True)),
        (other | {"duration": 0, "offset": 0.25}, (0.25, None, None, True)),
    ):
        (utterance,) = imported("nemo", nemo(tmp_path, row))
        assert (utterance.offset_s, utterance.duration_s, utterance.speaker, utterance.tells_offset) == expected
        assert utterance.text == "the loud stove"
        assert utterance.language == row.get("lang")
    slices = imported("nemo", nemo(tmp_path, *(clip | {"offset": 0, "duration": s} for s in (0.25, 0.5))))
    assert [u.duration_s for u in slices] == [0.25, 0.5]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text_filepath": "x.txt"}, "m.json:1: the text is in another file (text_filepath)"),
        ({"text": "a", "channel_selector": 1}, "m.json:1: channel_selector is no field of a line: call it channel"),
        ({"text": 5}, "m.json:1: 'text' must be a string"),
        ('{"audio_filepath": "audio/a.wav", "text": "a", "text": "b"}', "m.json:1: the key 'text' is there twice"),
        ({"text": "a", "speaker": ["x"]}, "m.json:1: 'speaker' must be a string"),
        ({"text": "a", "duration": "2.5"}, "m.json:1: 'duration' must be a number"),
    ],
)
def test_nemo_lines_that_say_something_else(
    tmp_path: Path, row: dict[str, Any] | str, says: str, capsys: Capture
) -> None:
    line = row if isinstance(row, str) else {"audio_filepath": "audio/a.wav", "duration": 1.0} | row
    assert says in refused("nemo", nemo(tmp_path, line), capsys)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            "file_name,text,transcription\na.wav,one,two\n",
            "several columns may be the text: text (line 2), transcription",
        ),
        ("file_name,text,text\na.wav,one,two\n", "metadata.csv:1: the column 'text' is there twice"),
        ('file_name,text\na.wav,"one\nb.wav,two\n', "metadata.csv:3: not a table"),
        ('file_name,text\na.wav,"one" more\nb.wav,two\n', "metadata.csv:2: not a table"),
        ("file_name,text\na.wav,one,two\n", "metadata.csv:2: 3 columns, the first line has 2"),
        ("file_name,text\na.wav\n", "metadata.csv:2: 1 columns, the first line has 2"),
        ("file_name,text\na.wav,\n", "metadata.csv:2: file_name or text is missing"),
        ("file_name;text\na.wav;one\n", "metadata.csv:1: no column file_name"),
        ("file_name,text\na.wav,one\na.wav,two\n", "metadata.csv:3: the same clip as line 2"),
    ],
)
def test_audio_folders_with_columns_in_doubt(tmp_path: Path, table: str, says: str, capsys: Capture) -> None:
    sounds(tmp_path / "hf", "a", "b")
    (tmp_path / "hf" / "metadata.csv").write_text(table)
    assert says in refused("audiofolder", tmp_path / "hf", capsys)


def test_rows_of_an_audio_folder_share_their_columns(tmp_path: Path, capsys: Capture) -> None:
    sounds(tmp_path, "a", "b")
    path = tmp_path / "metadata.jsonl"
    path.write_text('{"file_name": "a.wav", "text": "one"}\n{"file_name": "b.wav", "transcription": "two"}\n')
    assert "text (line 1), transcription (line 2)" in refused("audiofolder", path, capsys)
    assert "metadata.jsonl:2: file_name or text" in refused("audiofolder", path, capsys, "--text-column", "text")
    assert "no such column" in refused("audiofolder", path, capsys, "--text-column", "words")
    path.write_text('{"file_name": "a.wav", "words": "one", "text": "x", "speaker_id": 4}\n')
    (utterance,) = imported("audiofolder", path, "--text-column", "words")
    assert (utterance.text, utterance.speaker) == ("one", "4")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,one\n")
    assert "both metadata.csv and metadata.jsonl" in refused("audiofolder", tmp_path, capsys)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("path\tsentence\tpath\na.wav\tone\tb.wav\n", "dev.tsv:1: the column 'path' is there twice"),
        ("path\tsentence\na.wav\tone\ttwo\n", "dev.tsv:2: 3 columns, the first line has 2"),
        ('path\tsentence\na.wav\t"one\ttwo"\n', "dev.tsv:2: 3 columns, the first line has 2"),
        ("path\tsentence\n\tone\n", "dev.tsv:2: the path is empty"),
        ("path\tsentence\na.wav\tone\na.wav\ttwo\n", "dev.tsv:3: the same clip as line 2"),
        ("path\ttext\na.wav\tone\n", "dev.tsv:1: no column sentence"),
    ],
)
def test_common_voice_tables_in_doubt(tmp_path: Path, table: str, says: str, capsys: Capture) -> None:
    sounds(tmp_path / "clips", "a", "b")
    (tmp_path / "dev.tsv").write_text(table)
    assert says in refused("commonvoice", tmp_path / "dev.tsv", capsys)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"array": [0.1, 0.2], "text": "a"}', "no plausible sampling_rate or sample_rate"),
        ('{"array": [0.1], "sampling_rate": 8000, "sample_rate": 16000, "text": "a"}', "no plausible sampling_rate"),
        ('{"array": [0.1], "samples": [0.2], "sampling_rate": 8000, "text": "a"}', "a list of finite samples"),
        ('{"array": ["0.5"], "sampling_rate": 8000, "text": "a"}', "a list of finite samples"),
        ('{"array": [true, false], "sampling_rate": 8000, "text": "a"}', "a list of finite samples"),
        ('{"array": [[0.1], [0.2]], "sampling_rate": 8000, "text": "a"}', "a list of finite samples"),
        ('{"array": [0.1], "array": [0.2], "sampling_rate": 8000, "text": "a"}', "the key 'array' is there twice"),
    ],
)
def test_arrays_in_doubt(tmp_path: Path, row: str, says: str, capsys: Capture) -> None:
    (tmp_path / "in.jsonl").write_text(row + "\n")
    told = refused("arrays", tmp_path / "in.jsonl", capsys)
    assert "in.jsonl:1: " in told
    assert says in told


def test_git_lfs_pointers_of_tables_are_named(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    for kind in ("commonvoice", "ljspeech", "nemo", "arrays"):
        assert "a git-lfs pointer, not the file itself: run `git lfs pull`" in refused(kind, path, capsys)
