"""`lora-cli manifest check` on planted defects: each is found, named with its line, and clean speech stays clean."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from core.cli.__main__ import main

RATE_HZ = 16_000
Samples = NDArray[np.float32]
WORDS = ["gasket", "manifold", "torque", "spindle", "coolant", "bearing", "flange", "rivet", "solder", "chuck"]
WORDS += ["reamer", "mandrel", "lathe", "broach", "tailstock", "vernier", "caliper", "quench", "anneal", "temper"]


def voice(seed: int, seconds: float = 2.0) -> Samples:
    """Something with the ups and downs of speech, different for every seed."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE_HZ)
    time = np.arange(count) / RATE_HZ
    sound = np.zeros(count)
    for start in np.arange(0, seconds, 0.12):
        inside = (time >= start) & (time < start + 0.11)
        pitch = rng.uniform(90, 250)
        for harmonic in range(1, 14):
            level = rng.exponential() / harmonic**0.5
            sound[inside] += level * np.sin(2 * np.pi * pitch * harmonic * time[inside] + rng.uniform(0, 6))
    return (sound / np.abs(sound).max() * 0.3).astype(np.float32)


class Folder:
    """A folder of clips and manifests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: dict[str, list[dict[str, Any]]] = {}

    def clip(self, manifest: str, samples: Samples, text: str, suffix: str = "wav", **fields: Any) -> Path:
        """Add a clip to a manifest."""
        lines = self.lines.setdefault(manifest, [])
        path = self.root / f"{manifest}{len(lines)}.{suffix}"
        soundfile.write(path, samples, fields.pop("rate", RATE_HZ))
        lines.append({"audio_filepath": path.name, "text": text} | fields)
        return path

    def clean(self, manifest: str, seed: int, count: int = 4) -> None:
        """Add clips that nothing is wrong with."""
        rng = np.random.default_rng(seed)
        for number in range(count):
            text = " ".join(rng.choice(WORDS, 4, replace=False))
            self.clip(manifest, voice(1000 * seed + number), text, speaker=f"{manifest}-{number % 2}")

    def write(self, manifest: str) -> str:
        """Write a manifest; its path."""
        path = self.root / f"{manifest}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines[manifest]))
        return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


Check = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the command; its exit code and its JSON."""

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = main(["manifest", "check", *arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def found(document: dict[str, Any], kind: str) -> list[tuple[str, int]]:
    return [(f["where"], f["line"]) for f in document["findings"] if f["kind"] == kind]


def test_clean_sets_have_no_finding_that_matters(folder: Folder, check: Check) -> None:
    folder.clean("train", 1)
    folder.clean("domain", 2)
    code, document = check("--train", folder.write("train"), "--domain", folder.write("domain"))
    assert code == 0
    assert {f["kind"] for f in document["findings"]} <= {"small"}
    assert document["sets"][0]["lines"] == 4
    assert document["sets"][0]["rms_after_db"][1] == pytest.approx(20 * np.log10(0.075), abs=0.1)


def test_damaged_audio_is_named_by_line(folder: Folder, check: Check) -> None:
    folder.clean("m", 1, 2)
    folder.clip("m", voice(7), "missing file").unlink()
    folder.clip("m", voice(8), "not audio").write_bytes(b"not audio at all")
    folder.clip("m", voice(9), "empty file").write_bytes(b"")
    cut = folder.clip("m", voice(10), "cut off flac", suffix="flac")
    cut.write_bytes(cut.read_bytes()[:20_000])
    short = folder.clip("m", voice(11), "cut off wav")
    short.write_bytes(short.read_bytes()[:30_000])
    ogg = folder.clip("m", voice(12, 6.0), "cut off ogg", suffix="ogg")
    ogg.write_bytes(ogg.read_bytes()[:-3000])
    broken = voice(13)
    broken[100] = np.nan
    path = folder.clip("m", voice(13), "not a number")
    soundfile.write(path, broken, RATE_HZ, subtype="FLOAT")
    folder.clip("m", np.zeros(RATE_HZ, np.float32), "silence")
    folder.clip("m", np.clip(voice(14) * 8, -1, 1), "clipped")
    folder.clip("m", np.clip(voice(15) * 8, -1, 1) * 0.3, "clipped then quieter")
    folder.clip("m", voice(16) * 0.3 + 0.2, "offset of the microphone")
    folder.clip("m", voice(17), "outside the file", offset=1.5, duration=3.0)
    code, document = check(folder.write("m"))
    assert code == 1
    assert found(document, "missing") == [("m", 3)]
    assert found(document, "unreadable") == [("m", 4), ("m", 6)]
    assert found(document, "empty") == [("m", 5)]
    assert found(document, "cut_off") == [("m", 7), ("m", 8)]
    assert found(document, "nan") == [("m", 9)]
    assert found(document, "silent") == [("m", 10)]
    assert found(document, "clipped") == [("m", 11), ("m", 12)]
    assert found(document, "dc") == [("m", 13)]
    assert found(document, "slice") == [("m", 14)]


def test_odd_texts_and_paces(folder: Folder, check: Check) -> None:
    folder.clean("m", 1, 2)
    folder.clip("m", voice(3), "")
    folder.clip("m", voice(4), "?!")
    folder.clip("m", voice(5), "hello [noise] there")
    folder.clip("m", voice(6), "the the the the the end")
    folder.clip("m", voice(7), "cafÃ© latte please")
    folder.clip("m", voice(8), "far too much text for a clip that lasts two seconds only as nobody speaks so fast ever")
    folder.clip("m", voice(9, 6.0), "hm")
    folder.clip("m", voice(10), "HELLO SHOUTING")
    folder.clip("m", voice(11), "wrong duration told", duration=9.0)
    _, document = check(folder.write("m"))
    assert found(document, "empty_text") == [("m", 3), ("m", 4)]
    assert found(document, "odd_text") == [("m", 5), ("m", 6), ("m", 7)]
    assert found(document, "too_fast") == [("m", 8)]
    assert found(document, "too_slow") == [("m", 9)]
    assert found(document, "other_case") == [("m", 7), ("m", 10)]
    assert found(document, "duration") == [("m", 11)]


def test_leaks_of_every_kind(folder: Folder, check: Check) -> None:
    folder.clean("train", 1, 6)
    first, _ = soundfile.read(folder.root / "train0.wav", dtype="float32")
    folder.clean("domain", 2, 2)
    folder.clip("domain", first, "same samples", suffix="flac")
    folder.clip("domain", voice(1001), "re-encoded", suffix="ogg")
    folder.clip("domain", voice(1002)[9_000:-3_000] * 0.4, "cut and quieter")
    folder.clip("domain", np.clip(voice(1003) * 2.5, -1, 1), "louder")
    folder.clip("domain", voice(90), folder.lines["train"][4]["text"].upper() + "!")
    words = folder.lines["train"][5]["text"].split()
    folder.clip("domain", voice(91), f"a {words[1]} and the {words[0]} or {words[3]}s of {words[2]}")
    folder.clip("domain", voice(92), "somebody from training speaks", speaker="train-1")
    code, document = check("--train", folder.write("train"), "--domain", folder.write("domain"))
    assert code == 1
    assert found(document, "leaked_audio") == [("domain", 3)]
    assert found(document, "leaked_near_audio") == [("domain", 4), ("domain", 5), ("domain", 6)]
    assert found(document, "leaked_text") == [("domain", 7)]
    assert found(document, "shared_speaker") == [("domain", 9)]


def test_only_leaked_audio_blocks(folder: Folder, check: Check) -> None:
    folder.clean("train", 1)
    folder.clip("domain", voice(90), folder.lines["train"][0]["text"], speaker="train-1")
    code, document = check("--train", folder.write("train"), "--domain", folder.write("domain"))
    assert (code, document["blocking"]) == (0, False)
    assert found(document, "leaked_text") == [("domain", 1)]


def test_copies_without_leakage_are_warnings(folder: Folder, check: Check) -> None:
    folder.clean("heldout", 1)
    folder.clip("heldout", voice(1000), "again")
    code, document = check("--heldout", folder.write("heldout"), "--no-audio")
    assert (code, found(document, "same_audio")) == (0, [])
    code, document = check("--heldout", folder.write("heldout"))
    assert (code, found(document, "same_audio")) == (0, [("heldout", 5)])


def test_one_screen_and_a_full_list(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.clean("train", 1)
    for number in range(30):
        folder.clip("train", voice(200 + number, 0.5), "\x1b[31m ?" if number % 2 else "", speaker="x")
    report = folder.root / "report.tsv"
    assert main(["manifest", "check", folder.write("train"), "--report", str(report)]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 24
    assert "\x1b" not in out
    assert "empty_text: no words in the text: 15 in train" in out
    rows = report.read_text().splitlines()
    assert sum("\tempty_text\t" in row for row in rows) == 15
    assert "\x1b" not in report.read_text()


def test_bad_usage_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifest", "check"]) == 4
    assert main(["manifest", "check", str(tmp_path / "none.jsonl")]) == 4
    errors = capsys.readouterr().err
    assert "no manifest given" in errors
    assert "none.jsonl: cannot be read" in errors


def test_check_and_help_import_no_torch(folder: Folder) -> None:
    folder.clean("m", 1, 2)
    code = (
        "import sys\nfrom core.cli.__main__ import main\n"
        f"main(['manifest', 'check', {folder.write('m')!r}])\n"
        "assert not {'torch', 'transformers', 'peft', 'textual'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_texts_without_spaces_between_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"วันนี้อากาศดีมากเราไปเดินเล่นกัน{number}" for number in range(3)]
    path = tmp_path / "m.jsonl"

    def check(*arguments: str) -> tuple[int, str]:
        code = main(["manifest", "check", *arguments, str(path), "--no-audio"])
        return code, capsys.readouterr().out

    def written(lines: list[str]) -> None:
        for index in range(len(lines)):
            (tmp_path / f"{index}.wav").write_bytes(b"x")
        rows = [json.dumps({"audio": f"{index}.wav", "text": text}) + "\n" for index, text in enumerate(lines)]
        path.write_text("".join(rows))

    written(texts)
    code, out = check("--domain")
    assert code == 0
    assert "WARNING   joined_words" in out
    assert "3 of 3 texts are written without spaces between words" in out
    assert "set gate.unit to character" in out
    code, out = check("--train")
    assert code == 0
    assert "WARNING   joined_text: texts without spaces between words" in out
    written([*texts, *(f"an english sentence {number}" for number in range(40))])
    code, out = check("--domain")
    assert code == 0
    assert (
        "joined_text: texts without spaces between words: a word error rate takes their sentences for words: 3" in out
    )
