"""Sets of other tools become manifests, and manifests become theirs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.cli.__main__ import main
from core.manifests.manifest import read_manifest


def sound(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(int(16_000 * seconds), 0.1, np.float32), 16_000)
    return path


def imported(kind: str, source: Path, out: Path) -> list[tuple[str, str, str | None]]:
    assert main(["manifest", "import", kind, str(source), "-o", str(out)]) == 0
    manifest = read_manifest(out)
    return [(u.audio.resolve().name, u.text, u.speaker) for u in manifest.utterances]


def test_kaldi_folders_with_and_without_segments(tmp_path: Path) -> None:
    folder = tmp_path / "kaldi"
    sound(folder / "a.wav", 3.0)
    (folder / "wav.scp").write_text("rec1 a.wav\n")
    (folder / "text").write_text("rec1 hello there\n")
    assert imported("kaldi", folder, tmp_path / "one.jsonl") == [("a.wav", "hello there", None)]
    (folder / "text").write_text("u1 hello\nu2 there you are\n")
    (folder / "segments").write_text("u1 rec1 0.5 1.25\nu2 rec1 1.5 2.5\n")
    (folder / "utt2spk").write_text("u1 ann\nu2 bob\n")
    assert imported("kaldi", folder, tmp_path / "two.jsonl") == [
        ("a.wav", "hello", "ann"),
        ("a.wav", "there you are", "bob"),
    ]
    first = read_manifest(tmp_path / "two.jsonl").utterances[0]
    assert (first.offset_s, first.duration_s) == (0.5, 0.75)


def test_commands_in_kaldi_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wav.scp").write_text("u1 touch /tmp/x |\n")
    (tmp_path / "text").write_text("u1 hello\n")
    out = tmp_path / "out.jsonl"
    assert main(["manifest", "import", "kaldi", str(tmp_path), "-o", str(out)]) == 4
    assert "is a command" in capsys.readouterr().err
    assert not out.exists()


def test_ljspeech_common_voice_and_nemo(tmp_path: Path) -> None:
    sound(tmp_path / "lj" / "wavs" / "LJ001.wav")
    (tmp_path / "lj" / "metadata.csv").write_text('LJ001|He said "5"|He said "five"\n')
    assert imported("ljspeech", tmp_path / "lj" / "metadata.csv", tmp_path / "lj.jsonl") == [
        ("LJ001.wav", 'He said "five"', None)
    ]
    sound(tmp_path / "cv" / "clips" / "c1.wav")
    (tmp_path / "cv" / "dev.tsv").write_text(
        'client_id\tpath\tsentence\tage\tlocale\nzoe\tc1.wav\tAn "odd one\ttwenties\tpt-BR\n'
    )
    assert imported("commonvoice", tmp_path / "cv" / "dev.tsv", tmp_path / "cv.jsonl") == [
        ("c1.wav", 'An "odd one', "zoe")
    ]
    assert read_manifest(tmp_path / "cv.jsonl").utterances[0].extra == {
        "age": "twenties",
        "locale": "pt-BR",
        "language": "pt",
    }
    assert imported("nemo", tmp_path / "cv.jsonl", tmp_path / "sub" / "again.jsonl")[0][0] == "c1.wav"


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_audio_folders(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "hf"
    sound(folder / "data" / "x.wav")
    content = {
        "metadata.csv": 'file_name,transcription\ndata/x.wav,"well, yes"\n',
        "metadata.jsonl": '{"file_name": "data/x.wav", "transcription": "well, yes"}\n',
    }
    (folder / name).write_text(content[name])
    assert imported("audiofolder", folder, tmp_path / "hf.jsonl") == [("x.wav", "well, yes", None)]


def test_inline_arrays_become_files(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"audio": {"array": [0.0, 0.5, -0.25], "sampling_rate": 8000}, "text": "hi"}) + "\n")
    assert imported("arrays", source, tmp_path / "set.jsonl") == [("000001.wav", "hi", None)]
    samples, rate = soundfile.read(tmp_path / "set_audio" / "000001.wav")
    assert (list(samples), rate) == ([0.0, 0.5, -0.25], 8000)


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"text": "a"}', '{"audio": {"array": ["x"]}, "text": "a"}', '{"array": [NaN], "text": "a"}']
)
def test_bad_arrays_are_named(tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(line + "\n")
    assert main(["manifest", "import", "arrays", str(source), "-o", str(tmp_path / "o.jsonl")]) == 4
    assert "in.jsonl:1: " in capsys.readouterr().err


def test_missing_audio_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dev.tsv").write_text("path\tsentence\nnone.mp3\thello\n")
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    arguments = ["manifest", "import", "commonvoice", str(tmp_path / "dev.tsv"), "-o", str(out)]
    assert main(arguments) == 4
    assert main([*arguments, "--force"]) == 4
    assert "none.mp3" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_export(tmp_path: Path) -> None:
    sound(tmp_path / "audio" / "a.wav", 1.5)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio": "audio/a.wav", "sentence": 'say "a, b"', "speaker": "ann"}) + "\n")
    assert main(["manifest", "export", "nemo", str(manifest), "-o", str(tmp_path / "nemo.jsonl")]) == 0
    line = json.loads((tmp_path / "nemo.jsonl").read_text())
    assert (line["audio_filepath"], line["duration"], line["text"]) == ("audio/a.wav", 1.5, 'say "a, b"')
    assert main(["manifest", "export", "csv", str(manifest), "-o", str(tmp_path / "m.csv")]) == 0
    with (tmp_path / "m.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row == {"path": "audio/a.wav", "text": 'say "a, b"', "offset": "", "duration": "", "speaker": "ann"}
    manifest.write_text(json.dumps({"audio": "audio/a.wav", "sentence": "ja", "language": "de"}) + "\n")
    assert main(["manifest", "export", "csv", str(manifest), "-o", str(tmp_path / "m.csv"), "--force"]) == 0
    with (tmp_path / "m.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["text"], row["language"], "channel" in row) == ("ja", "de", False)


def test_general_speech_for_replay_in_one_command(tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        sound(tmp_path / "cv" / "clips" / f"{number}.wav", 0.2 + number / 100)
        rows.append(f"speaker{number % 3}\t{number}.wav\tsentence number {number}\n")
    (tmp_path / "cv" / "validated.tsv").write_text("client_id\tpath\tsentence\n" + "".join(rows))
    heldout = tmp_path / "heldout.jsonl"
    lines = [
        {"audio": "cv/clips/0.wav", "text": "anything"},
        {"audio": "cv/clips/1.wav", "text": "Sentence number 7!"},
        {"audio": "cv/clips/2.wav", "text": "else", "speaker": "speaker2"},
    ]
    heldout.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "sets" / "replay.jsonl"
    source = str(tmp_path / "cv" / "validated.tsv")
    command = ["manifest", "import", "commonvoice", source, "--exclude", str(heldout), "--seed", "3", "-o", str(out)]
    assert main([*command, "--size", "12"]) == 0
    chosen = {u.audio.resolve().name: u.speaker for u in read_manifest(out).utterances}
    assert len(chosen) == 12
    assert set(chosen.values()) == {"speaker0", "speaker1"}
    assert not {"0.wav", "1.wav", "7.wav"} & set(chosen)
    assert [path.name for path in out.parent.iterdir()] == ["replay.jsonl"]
    assert main([*command, "--size", "30", "--force"]) == 1
    assert main([*command, "--force"]) == 0
    assert len(read_manifest(out)) == 17


def test_imported_samples_are_replaced_whole_or_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = json.dumps({"array": [0.1, 0.2], "sampling_rate": 16000, "text": "hi"}) + "\n"
    source, out = tmp_path / "arrays.jsonl", tmp_path / "set.jsonl"
    source.write_text(good * 2)
    assert imported("arrays", source, out) == [("000001.wav", "hi", None), ("000002.wav", "hi", None)]
    earlier = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file() and path != source}
    out.rename(tmp_path / "away.jsonl")
    assert main(["manifest", "import", "arrays", str(source), "-o", str(out)]) == 4
    assert "set_audio: exists already" in capsys.readouterr().err
    (tmp_path / "away.jsonl").rename(out)
    source.write_text(good + "no object\n")
    assert main(["manifest", "import", "arrays", str(source), "-o", str(out), "--force"]) == 4
    assert {path: path.read_bytes() for path in earlier} == earlier
    source.write_text(good)
    assert main(["manifest", "import", "arrays", str(source), "-o", str(out), "--force"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"arrays.jsonl", "set.jsonl", "set_audio"}
    assert [path.name for path in (tmp_path / "set_audio").iterdir()] == ["000001.wav"]
