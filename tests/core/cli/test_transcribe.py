"""`lora-cli transcribe` of long audio, of many files and of bad ones."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from privileges import as_its_owner_only
from training_kit import RATE, speechlike, write_wav

from core import console
from core.audio.samples import read_clip
from core.scoring.alignment import count_errors

webvtt = pytest.importorskip("webvtt")  # of the extra dev

Cli = Callable[..., Any]
CLOSE_S = 0.15


def seconds(clock: str) -> float:
    hours, minutes, rest = clock.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


@pytest.fixture
def clips(digits: Path) -> list[tuple[Path, str]]:
    """Six real recordings, and what is said in them."""
    lines = [json.loads(line) for line in (digits / "heldout_manifest.jsonl").read_text().splitlines()[:6]]
    return [(digits / line["audio_filepath"], line["text"]) for line in lines]


@pytest.fixture
def long(clips: list[tuple[Path, str]], tmp_path: Path) -> tuple[Path, list[tuple[float, float]]]:
    """(the recordings with 1.2 s of quiet noise between them, where each of them lies, s)."""
    rng = np.random.default_rng(0)
    parts: list[Any] = []
    places = []
    at = 0
    for audio, _ in clips:
        clip = read_clip(audio)
        quiet = (2e-4 * rng.standard_normal(int(1.2 * RATE))).astype(np.float32)
        at += len(quiet)
        places.append((at / RATE, (at + len(clip)) / RATE))
        parts += [quiet, clip]
        at += len(clip)
    return write_wav(tmp_path / "long.wav", np.concatenate(parts)), places


def test_each_segment_is_where_its_clip_lies_and_says_what_the_clip_says(
    lora_cli: Cli, base_model: Path, clips: list[tuple[Path, str]], long: tuple[Path, list[tuple[float, float]]]
) -> None:
    audio, places = long
    done = lora_cli("transcribe", audio, "--model", base_model, "--format", "json", "--segment-seconds", "8")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["cut_at_pauses"] and len(found["segments"]) == len(clips)
    for segment, (start, end), (_, text) in zip(found["segments"], places, clips, strict=True):
        assert abs(segment["start"] - start) <= CLOSE_S and abs(segment["end"] - end) <= CLOSE_S
        assert count_errors(text, segment["text"]).errors <= 2
    assert found["text"] == " ".join(segment["text"] for segment in found["segments"])


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_are_read_back_with_these_times(
    kind: str, lora_cli: Cli, base_model: Path, long: tuple[Path, list[tuple[float, float]]], tmp_path: Path
) -> None:
    audio, places = long
    target = tmp_path / f"out.{kind}"
    done = lora_cli("transcribe", audio, "--model", base_model, "--format", kind, "-o", target)
    assert (done.code, done.out, done.err) == (0, "", "")
    cues = webvtt.from_buffer(io.StringIO(target.read_text()), format=kind).captions
    assert len(cues) == len(places)
    for cue, (start, end) in zip(cues, places, strict=True):
        assert abs(seconds(cue.start) - start) <= CLOSE_S and abs(seconds(cue.end) - end) <= CLOSE_S


def test_text_of_what_the_model_cannot_hear_at_once_has_a_line_with_times_for_each_segment(
    lora_cli: Cli,
    base_model: Path,
    long: tuple[Path, list[tuple[float, float]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from core.training.families.moonshine import Moonshine

    limits_of = Moonshine.limits_of
    monkeypatch.setattr(Moonshine, "limits_of", lambda *a: replace(limits_of(*a), max_seconds=6.0))
    lines = lora_cli("transcribe", long[0], "--model", base_model).out.splitlines()
    assert len(lines) > 1 and all(line.startswith("[00:00:") and "] " in line for line in lines)


def test_many_files_are_read_by_one_model_and_written_beside_them(
    lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.training import model

    load, loads = model.load_model, []
    monkeypatch.setattr(model, "load_model", lambda *a, **k: loads.append(a) or load(*a, **k))
    for name in ("a", "b/c", "b/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_wav(tmp_path / f"{name}.wav", speechlike("one two"))
    monkeypatch.chdir(tmp_path)
    done = lora_cli("transcribe", "**/*.wav", "--model", tiny_moonshine, "--beside", "--format", "vtt")
    assert (done.code, done.out, len(loads)) == (0, "", 1)
    assert all((tmp_path / f"{name}.vtt").read_text().startswith("WEBVTT\n") for name in ("a", "b/c", "b/d"))
    printed = lora_cli("transcribe", "**/*.wav", "a.wav", "--model", tiny_moonshine).out
    assert [line.split("\t")[0] for line in printed.splitlines()] == ["a.wav", "b/c.wav", "b/d.wav"]


def test_groups_of_files_come_in_their_order(
    lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.cli import transcribe_command

    names = [write_wav(tmp_path / f"{n}.wav", speechlike("one " * (n + 1))) for n in (3, 0, 2)]
    together = lora_cli("transcribe", *names, "--model", tiny_moonshine, "--json").out
    monkeypatch.setattr(transcribe_command, "GROUP_S", 0.1)
    assert lora_cli("transcribe", *names, "--model", tiny_moonshine, "--json").out == together


def test_stdin_is_a_sound_file(
    lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = write_wav(tmp_path / "a.wav", speechlike("one two")).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sound)))
    [fact] = [json.loads(lora_cli("transcribe", "-", "--model", tiny_moonshine, "--json").out)]
    assert fact["audio_filepath"] == "-" and fact["duration"] > 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no sound")))
    done = lora_cli("transcribe", "-", "--model", tiny_moonshine)
    assert done.code == 4 and done.err.startswith("error: stdin: not readable as audio")


def test_bad_files_are_named_in_a_sentence_each_and_the_others_are_transcribed(
    lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path
) -> None:
    fine = write_wav(tmp_path / "fine.wav", speechlike("one two"))
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("these are words\n" * 99)
    nan = speechlike("one two")
    nan[RATE // 2] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, RATE, subtype="FLOAT")
    names = [
        tmp_path,
        tmp_path / "empty.wav",
        fine,
        tmp_path / "text.wav",
        tmp_path / "nan.wav",
        tmp_path / "gone-*.wav",
    ]
    done = lora_cli("transcribe", *names, "--model", tiny_moonshine)
    assert done.code == 4
    assert [line.split("\t")[0] for line in done.out.splitlines()] == [str(fine)]
    problems = done.err.splitlines()
    assert all(line.startswith("error: ") for line in problems) and len(problems) == 5
    for name, why in (
        (f"{tmp_path}: ", "is a folder"),
        ("empty.wav", "the file is empty"),
        ("text.wav", "not readable as audio"),
        ("nan.wav", "NaN or infinite"),
        ("gone-*.wav", "no file is named so"),
    ):
        assert any(name in line and why in line for line in problems), (name, problems)


def test_a_file_without_permission_is_named(lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path) -> None:
    locked = write_wav(tmp_path / "locked.wav", speechlike("one two"))
    locked.chmod(0)
    with as_its_owner_only():
        done = lora_cli("transcribe", locked, "--model", tiny_moonshine)
    assert done.code == 4 and "locked.wav" in done.err and "ermission" in done.err and done.err.count("\n") == 1


def test_transcripts_that_exist_are_kept_without_force(
    lora_cli: Cli, base_model: Path, clips: list[tuple[Path, str]], tmp_path: Path
) -> None:
    audio = write_wav(tmp_path / "a.wav", read_clip(clips[0][0]))
    corrected = tmp_path / "a.srt"
    corrected.write_text("corrected by hand")
    command = ("transcribe", audio, "--model", base_model, "--format", "srt")
    done = lora_cli(*command, "--beside")
    assert done.code == 4 and "a.srt: exists already" in done.err
    assert corrected.read_text() == "corrected by hand"
    assert lora_cli(*command, "--beside", "--force").code == 0 and "-->" in corrected.read_text()
    assert lora_cli(*command, "-o", "/dev/null").code == 0 and not Path("/dev/null").is_file()
    (tmp_path / "out" / "a.srt").mkdir(parents=True)
    assert "is a folder" in lora_cli(*command, "-o", tmp_path / "out").err
    sound = audio.read_bytes()
    assert lora_cli(*command, "-o", audio, "--force").code == 4 and audio.read_bytes() == sound


@pytest.mark.parametrize(
    "options, why",
    [
        (["--format", "srt"], "subtitles of several files are several files"),
        (["-o", "out", "--beside"], "leave out -o"),
        (["-o", "a.wav"], "is no folder"),
        (["-o", "out"], "would both go"),
        (["--segment-seconds", "0"], "1 or more"),
        (["--segment-seconds", "nan"], "1 or more"),
    ],
)
def test_commands_that_make_no_sense_are_refused_before_a_model_is_loaded(
    options: list[str], why: str, lora_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_wav(Path("a.wav"), speechlike("one"))
    Path("b").mkdir()
    write_wav(Path("b/a.wav"), speechlike("one"))
    done = lora_cli("transcribe", "a.wav", "b/a.wav", "--model", "none", *options)
    assert done.code == 4 and why in done.err and done.out == ""


def test_progress_is_said_without_a_terminal_where_it_takes_long(
    lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = write_wav(tmp_path / "a.wav", speechlike("one two"))
    monkeypatch.setattr(console, "LINES_APART_S", 0.0)
    done = lora_cli("transcribe", audio, "--model", tiny_moonshine)
    assert done.err == f"{audio}: 1 of 1\n" or done.err.endswith("1 of 1\n")
    assert done.out.count("\n") == 1


def test_silence_has_no_subtitles(lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path) -> None:
    audio = write_wav(tmp_path / "a.wav", np.zeros(20 * RATE, np.float32))
    done = lora_cli("transcribe", audio, "--model", tiny_moonshine, "--format", "vtt", "-o", tmp_path / "a.vtt")
    assert done.code == 0 and "silence" in done.err
    assert (tmp_path / "a.vtt").read_text() == "WEBVTT\n"
