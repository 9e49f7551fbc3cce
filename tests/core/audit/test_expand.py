"""`lora-cli manifest expand`: fair, reproducible sets without anything of the sets that are excluded."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.audit.expand import Request, expand
from core.cli.__main__ import main
from core.manifests.manifest import read_manifest

TWO_WORDS = ["red", "green", "blue", "grey", "black", "white", "brown", "pink", "gold", "cyan"]


def tone(number: int) -> Any:
    return np.sin(np.arange(1600 + number) * (0.01 + number / 5000)).astype(np.float32) * 0.1


def write(folder: Path, name: str, lines: list[dict[str, Any]]) -> Path:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """200 clips of four speakers: half of them ann's, the last 50 short; texts all different."""
    lines = []
    (tmp_path / "audio").mkdir()
    for number in range(200):
        path = tmp_path / "audio" / f"{number}.wav"
        soundfile.write(path, tone(number), 16_000)
        text = f"{TWO_WORDS[number // 20]} {TWO_WORDS[number % 10]} {'a' if number % 20 < 10 else 'the'} {number}"
        lines.append(
            {
                "audio_filepath": f"audio/{number}.wav",
                "text": text,
                "speaker": ("ann", "bob", "ann", "eve")[number % 4],
                "duration": 1.0 + number / 100 if number < 150 else 0.5 + number / 1000,
                "room": "hall" if number % 5 == 0 else "cell",
            }
        )
    return write(tmp_path, "pool", lines)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(*arguments: object) -> int:
    return main(["manifest", "expand", *map(str, arguments)])


def test_strata_keep_their_shares_in_every_part(pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run("--pool", pool, "--size", 100, "--stratify", "speaker,room", "-o", out) == 0
    chosen = lines_of(out)
    assert len({line["audio_filepath"] for line in chosen}) == 100
    for part in (chosen, chosen[:40], chosen[30:70], chosen[-40:]):
        speakers = Counter(line["speaker"] for line in part)
        assert abs(speakers["ann"] / len(part) - 0.5) <= 0.1
        assert abs(sum(line["room"] == "hall" for line in part) / len(part) - 0.2) <= 0.1
    assert len(read_manifest(out)) == 100


def test_short_clips_are_spread_not_last(pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run("--pool", pool, "--size", 200, "--stratify", "duration", "-o", out) == 0
    short = [place for place, line in enumerate(lines_of(out)) if line["duration"] < 1]
    assert len(short) == 50
    assert all(8 <= sum(start <= place < start + 50 for place in short) <= 17 for start in (0, 50, 100, 150))


def test_the_same_request_gives_the_same_file(pool: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for path, seed in zip(files, (1, 1, 2), strict=True):
        assert run("--pool", pool, "--size", 50, "--seed", seed, "-o", path) == 0
    first, again, other = (path.read_bytes() for path in files)
    assert first == again != other


def test_nothing_of_the_excluded_sets(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything = lines_of(pool)
    copy = tmp_path / "copy.wav"
    copy.write_bytes((tmp_path / "audio" / "9.wav").read_bytes())
    train = write(
        tmp_path,
        "train",
        [
            everything[3],
            {"audio_filepath": "copy.wav", "text": "something else", "speaker": "zoe"},
            {"audio_filepath": "nowhere.wav", "text": everything[5]["text"].upper() + "!"},
        ],
    )
    out = tmp_path / "out.jsonl"
    assert run("--pool", pool, "--size", 200, "--exclude", train, "--shared-speakers", "-o", out) == 1
    left_out = {line["audio_filepath"] for line in everything} - {line["audio_filepath"] for line in lines_of(out)}
    assert left_out == {"audio/3.wav", "audio/5.wav", "audio/9.wav"}
    errors = capsys.readouterr().err
    assert "the pool lacks 3 of 200 clips" in errors
    assert "left out 1: a copy of an excluded file" in errors
    assert run("--pool", pool, "--size", 90, "--exclude", train, "-o", out, "--force") == 0
    assert {line["speaker"] for line in lines_of(out)} == {"ann", "bob"}


def test_listening_leaves_out_the_same_recording(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sounds = [np.cumsum(rng.standard_normal(32_000)).astype(np.float32) for _ in range(3)]
    sounds = [s - np.convolve(s, np.ones(400) / 400, "same").astype(np.float32) for s in sounds]
    for number, sound in enumerate(sounds):
        soundfile.write(tmp_path / f"{number}.wav", sound / np.abs(sound).max() * 0.5, 16_000)
    soundfile.write(tmp_path / "quiet.flac", sounds[1][4000:] / np.abs(sounds[1]).max() * 0.2, 16_000)
    pool = write(tmp_path, "p", [{"audio": f"{n}.wav", "text": f"text number {n}"} for n in range(3)])
    train = write(tmp_path, "t", [{"audio": "quiet.flac", "text": "train"}])
    out = tmp_path / "out.jsonl"
    assert run("--pool", pool, "--size", 3, "--exclude", train, "--listen", "-o", out) == 1
    assert {line["audio_filepath"] for line in lines_of(out)} == {"0.wav", "2.wav"}


def test_every_line_that_is_read_is_told(pool: Path) -> None:
    told: list[tuple[int, int]] = []
    expand(Request([pool], size=20, seed=1, keep=None), reading=lambda done, total: told.append((done, total)))
    assert told == [(done, 0) for done in range(1, 201)]


def test_the_earlier_set_stays_inside(pool: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    assert run("--pool", pool, "--size", 40, "--seed", 1, "-o", old) == 0
    assert run("--pool", pool, "--size", 80, "--seed", 2, "--keep", old, "-o", new) == 0
    before, after = ({line["audio_filepath"] for line in lines_of(path)} for path in (old, new))
    assert before < after
    assert len(lines_of(new)) == 80
    speakers = Counter(line["speaker"] for line in lines_of(new))
    assert abs(speakers["ann"] - 40) <= 4


def test_a_pool_with_nothing_left_says_why(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = write(tmp_path, "kept", lines_of(pool)[:10])
    assert run("--pool", pool, "--size", 20, "--keep", kept, "--exclude", pool, "-o", tmp_path / "a.jsonl") == 1
    assert run("--pool", kept, "--size", 20, "--keep", kept, "-o", tmp_path / "b.jsonl") == 1
    assert "left out 10: in the kept set already" in capsys.readouterr().err
    assert run("--pool", pool, "--size", 20, "--exclude", pool, "-o", tmp_path / "c.jsonl") == 4
    said = capsys.readouterr().err
    assert "left out 200: the same file as in an excluded set" in said
    assert "the pool has no usable clip" in said and "--stratify" not in said
    assert not (tmp_path / "c.jsonl").exists()


def test_paths_are_right_from_another_folder(pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "sets" / "new" / "out.jsonl"
    assert run("--pool", pool, "--size", 10, "-o", out) == 0
    assert all(line["audio_filepath"].startswith("../../audio/") for line in lines_of(out))
    assert len(read_manifest(out)) == 10


def test_what_exists_is_not_replaced(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    assert run("--pool", pool, "--size", 5, "-o", out) == 4
    assert out.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert run("--pool", pool, "--size", 5, "--stratify", "colour", "-o", tmp_path / "x.jsonl") == 4
    assert "'colour'" in capsys.readouterr().err
    assert not (tmp_path / "x.jsonl").exists()


def test_every_contiguous_part_is_a_fair_sample(pool: Path, tmp_path: Path) -> None:
    """Sorted by length as it is, the pool's parts differ; those of the result do not, wherever one cuts."""
    out = tmp_path / "out.jsonl"
    assert run("--pool", pool, "--size", 160, "--stratify", "duration,room", "-o", out) == 0

    def worst(lines: list[dict[str, Any]], size: int) -> float:
        short = [line["duration"] < 1 for line in lines]
        overall = sum(short) / len(short)
        return max(abs(sum(short[at : at + size]) / size - overall) for at in range(len(short) - size + 1))

    assert worst(lines_of(pool), 40) > 0.7
    for size in (30, 40, 80):
        assert worst(lines_of(out), size) <= 4 / size


def test_a_training_set_grows_without_any_evaluation_set(pool: Path, tmp_path: Path) -> None:
    everything = lines_of(pool)
    domain = write(tmp_path, "domain", everything[:10])
    heldout = write(tmp_path, "heldout", everything[10:20])
    old = write(tmp_path, "old", everything[20:30])
    out = tmp_path / "train.jsonl"
    arguments = ("--pool", pool, "--size", 180, "--exclude", domain, heldout, "--keep", old, "--shared-speakers")
    assert run(*arguments, "-o", out) == 0
    chosen = {line["audio_filepath"] for line in lines_of(out)}
    assert chosen == {line["audio_filepath"] for line in everything[20:]}


def test_speakers_of_excluded_sets_stay_out(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path, "train", [{"audio": "x.wav", "text": "none of these", "speaker": "ann"}])
    out = tmp_path / "out.jsonl"
    assert run("--pool", pool, "--size", 150, "--exclude", train, "-o", out) == 1
    assert {line["speaker"] for line in lines_of(out)} == {"bob", "eve"}
    errors = capsys.readouterr().err
    assert "left out 100: a speaker of an excluded set (--shared-speakers lets them in)" in errors
    assert "the pool lacks 50 of 150 clips" in errors


def test_overlapping_slices_are_the_same_audio(pool: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(16_000 * 20, np.float32) + 0.1, 16_000)
    slices = [
        {"audio": "long.wav", "text": f"part {at}", "offset": at, "duration": 2.0} for at in (1.0, 4.0, 8.0, 12.0)
    ]
    train = write(tmp_path, "t", [{"audio": "long.wav", "text": "in train", "offset": 5.0, "duration": 4.0}])
    out = tmp_path / "out.jsonl"
    assert run("--pool", write(tmp_path, "p", slices), "--size", 2, "--exclude", train, "-o", out) == 0
    assert {line["offset"] for line in lines_of(out)} == {1.0, 12.0}


def test_a_broken_file_in_the_pool_is_left_out(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"audio": f"audio/{number}.wav", "text": f"number {number}"} for number in range(10)]
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    broken = write(tmp_path, "broken", [*lines, {"audio": "broken.wav", "text": "broken"}])
    out = tmp_path / "out.jsonl"
    assert run("--pool", broken, "--size", 11, "-o", out) == 1
    assert len(lines_of(out)) == 10
    assert "left out 1: audio whose length cannot be read" in capsys.readouterr().err
