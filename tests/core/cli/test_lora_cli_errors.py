"""What a user can get wrong with `lora-cli`: one clear sentence, exit 4, no traceback, nothing raw on the terminal."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from training_kit import RATE, TrainingRun, speechlike, write_set, write_wav

from core.cli import transcribe_command
from core.cli.__main__ import main

Cli = Callable[..., Any]
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def refused(done: Any) -> str:
    """The sentence on stderr of a command that must refuse its input."""
    assert done.code == 4, done.err
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert done.err.count("\n") == 1, "one sentence"
    return str(done.err.removeprefix("error: ").strip())


def shown(text: str) -> bool:
    """Whether a terminal would only show this text, and do nothing."""
    return all(character in "\n\t" or (character.isprintable() and character != "\u202e") for character in text)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "fine.wav", speechlike("one two"))


def test_a_missing_file_is_named_and_no_model_is_loaded_for_it(lora_cli: Cli, tmp_path: Path) -> None:
    missing = tmp_path / "missing.wav"
    assert str(missing) in refused(lora_cli("transcribe", missing, "--model", tmp_path / "no model either"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty|no bytes|0 bytes"),
        (b"this is no audio at all, but some text", "not|format|read"),
        (b"RIFF\x00\x00\x00\x00WAVE", "not|read|format|samples|header"),
    ],
)
def test_a_file_that_is_no_audio_is_named(
    lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path, content: bytes, why: str
) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    message = refused(lora_cli("transcribe", path, "--model", tiny_moonshine))
    assert str(path) in message
    assert any(word in message for word in why.split("|"))


def test_a_wav_without_samples_is_named(lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "zero.wav", np.zeros(0, np.float32))
    message = refused(lora_cli("transcribe", path, "--model", tiny_moonshine))
    assert str(path) in message and "line" not in message


def test_nan_samples_are_named_with_their_place(lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path) -> None:
    samples = speechlike("one two three")
    samples[RATE // 2] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    message = refused(lora_cli("transcribe", tmp_path / "nan.wav", "--model", tiny_moonshine))
    assert message.endswith("nan.wav: NaN or infinite samples at 0.500 s: export it again")


def manifest_of(folder: Path, *lines: object) -> Path:
    path = folder / "m.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


FINE = {"audio_filepath": "fine.wav", "text": "one two"}
BAD_MANIFESTS: dict[str, tuple[list[object], str]] = {
    "not JSONL": (["one two three"], "m.jsonl:1: not JSON"),
    "a list": ([[1, 2]], "m.jsonl:1: not a JSON object"),
    "no audio": ([{"text": "one"}], "m.jsonl:1: 'audio_filepath' is missing (or 'audio')"),
    "no text": ([FINE, {"audio": "fine.wav"}], "m.jsonl:2: 'text' is missing (or 'sentence')"),
    "empty": ([], "the manifest is empty"),
    "blank lines": (["", ""], "the manifest is empty"),
    "a repeated utterance": ([FINE, FINE], "m.jsonl:2: the same audio as line 1"),
    "a missing file": ([FINE | {"audio_filepath": "gone.wav"}], "m.jsonl:1: no audio file"),
    "no words": ([FINE | {"text": " … "}], "no reference word after normalisation"),
}


@pytest.mark.parametrize("case", BAD_MANIFESTS)
def test_a_bad_manifest_is_named_with_its_line(
    case: str, lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path, audio: Path
) -> None:
    lines, why = BAD_MANIFESTS[case]
    assert why in refused(lora_cli("evaluate", manifest_of(tmp_path, *lines), "--model", tiny_moonshine))


def test_several_problems_of_a_manifest_are_told_at_once(lora_cli: Cli, tmp_path: Path, audio: Path) -> None:
    done = lora_cli("evaluate", manifest_of(tmp_path, "x", FINE, FINE, {"text": ""}), "--model", "m")
    assert done.code == 4
    assert [line.split(": ")[0].split("m.jsonl")[-1] for line in done.err.splitlines()] == ["error", ":3", ":4"]
    assert "m.jsonl:1: " in done.err


def test_a_manifest_that_is_not_there_is_named(lora_cli: Cli, tmp_path: Path) -> None:
    assert "none.jsonl" in refused(lora_cli("evaluate", tmp_path / "none.jsonl", "--model", "m"))


def test_bad_audio_in_a_manifest_is_named_with_its_line(
    lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path, audio: Path
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"")
    manifest = manifest_of(tmp_path, FINE, FINE | {"audio_filepath": "bad.wav"})
    message = refused(lora_cli("evaluate", manifest, "--model", tiny_moonshine))
    assert "m.jsonl:2: " in message and message.endswith("replace it or remove its line")


def test_no_model_and_no_adapter_is_said(lora_cli: Cli, audio: Path) -> None:
    assert refused(lora_cli("transcribe", audio)).startswith("--model: missing; give the base model's folder")


def test_a_model_that_is_not_there_is_named(lora_cli: Cli, audio: Path, tmp_path: Path) -> None:
    assert "no such folder" in refused(lora_cli("transcribe", audio, "--model", tmp_path / "none"))


def test_an_adapter_that_is_not_there_is_named(lora_cli: Cli, audio: Path, tmp_path: Path) -> None:
    message = refused(lora_cli("transcribe", audio, "--model", "m", "--adapter", tmp_path / "none"))
    assert message == f"--adapter {tmp_path / 'none'}: no such folder; give one that holds adapter_config.json"


@pytest.fixture
def adapter(finished_run: TrainingRun, tmp_path: Path) -> Path:
    shutil.copytree(finished_run.paths.best, tmp_path / "adapter")
    return tmp_path / "adapter"


def changed(adapter: Path, **facts: object) -> Path:
    path = adapter / "reproduce.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return adapter


def test_an_adapter_of_another_normalisation_is_refused(lora_cli: Cli, audio: Path, adapter: Path) -> None:
    message = refused(lora_cli("transcribe", audio, "--adapter", changed(adapter, fingerprint="0123456789ab-basic1")))
    assert "was trained under normalisation 0123456789ab-basic1, this version computes" in message


def test_an_adapter_on_another_base_model_is_refused(
    lora_cli: Cli, audio: Path, adapter: Path, tiny_moonshine: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_moonshine, other)
    (other / "generation_config.json").write_text("{}")
    message = refused(lora_cli("transcribe", audio, "--adapter", adapter, "--model", other))
    assert f"was trained on base model {tiny_moonshine}" in message
    assert "give that model with --model" in message


@pytest.mark.parametrize("option", ["--batch-seconds", "--tokens-per-second"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_number_that_cannot_be_is_refused(lora_cli: Cli, audio: Path, option: str, value: str) -> None:
    message = refused(lora_cli("transcribe", audio, "--model", "m", f"{option}={value}"))
    assert message == f"{option} {float(value)}: must be a number above 0"


@pytest.mark.parametrize("arguments", [["errors", "run", "--limit=-8"], ["evaluate", "m.jsonl", "--singly=-1"]])
def test_a_negative_count_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 4
    assert capsys.readouterr().err == f"error: {arguments[-1].replace('=', ' ')}: must be 0 or more\n"


@pytest.mark.parametrize("part", ["0/4", "5/4", "2", "a/b", "1/-4", "²/4"])
def test_a_part_of_a_reserve_that_cannot_be_is_refused(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "m.jsonl", f"--part={part}"]) == 4
    assert capsys.readouterr().err == f"error: --part {part}: write K/N, part K of N, such as 1/4\n"


def test_the_base_model_is_decoded_as_an_adapter_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "m.jsonl", "--base"]) == 4
    assert capsys.readouterr().err.startswith("error: --base: goes with --adapter")


@pytest.mark.parametrize("arguments", [[], ["transcribe"], ["evaluate"], ["no-such"], ["transcribe", "f", "--nope"]])
def test_bad_usage_exits_4(lora_cli: Cli, arguments: list[str]) -> None:
    done = lora_cli(*arguments)
    assert done.code == 4
    assert done.out == ""
    assert "error: " in done.err


def test_a_score_that_cannot_be_written_is_said(
    lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path, audio: Path
) -> None:
    (tmp_path / "file").write_text("")
    manifest = manifest_of(tmp_path, FINE)
    done = lora_cli("evaluate", manifest, "--model", tiny_moonshine, "--json", tmp_path / "file" / "score.json")
    assert refused(done).startswith(f"--json {tmp_path / 'file' / 'score.json'}: cannot be written")


def test_hostile_names_and_texts_never_reach_the_terminal_raw(
    lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path
) -> None:
    name = f"{HOSTILE}.wav"
    write_wav(tmp_path / name, np.zeros(RATE, np.float32))
    write_wav(tmp_path / "fine.wav", speechlike("one"))
    line = {"audio_filepath": name, "text": f"{HOSTILE} words"}
    manifest = manifest_of(tmp_path, line, {"audio_filepath": "fine.wav", "text": "one"})
    broken = manifest_of(tmp_path / "..", line | {"audio_filepath": f"{HOSTILE}gone.wav"})
    commands = [
        ("transcribe", tmp_path / name, tmp_path / "fine.wav", "--model", tiny_moonshine),
        ("transcribe", tmp_path / name, "--model", tiny_moonshine, "--json"),
        ("transcribe", tmp_path / f"{HOSTILE}missing.wav", "--model", tiny_moonshine),
        ("transcribe", tmp_path / "fine.wav", "--model", f"{HOSTILE}model"),
        ("transcribe", tmp_path / "fine.wav", "--adapter", f"{HOSTILE}adapter"),
        ("evaluate", manifest, "--model", tiny_moonshine),
        ("evaluate", manifest, "--model", tiny_moonshine, "--json", "-"),
        ("evaluate", broken, "--model", tiny_moonshine),
        (f"{HOSTILE}command",),
        ("transcribe", "f", "--precision", HOSTILE),
    ]
    seen = ""
    for arguments in commands:
        done = lora_cli(*arguments)
        assert shown(done.out + done.err), arguments
        seen += done.out + done.err
    assert "␛]0;owned" in seen


def test_a_score_keeps_hostile_text_as_it_is(lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path) -> None:
    manifest = write_set(tmp_path, "s", [(speechlike("one"), f"{HOSTILE} words")])
    done = lora_cli("evaluate", manifest, "--model", tiny_moonshine, "--json", "-")
    assert json.loads(done.out)["utterances"][0]["reference"] == f"{HOSTILE} words"


@pytest.mark.parametrize("how", ["ctrl+c", "SIGTERM"])
def test_an_interrupt_exits_2_and_leaves_no_scratch_behind(
    how: str, lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.training import evaluation

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def interrupted(*_: Any, **__: Any) -> None:
        assert list(scratch.iterdir())
        if how == "ctrl+c":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(evaluation, "evaluate", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    done = lora_cli("evaluate", manifest_of(tmp_path, FINE), "--model", tiny_moonshine)
    assert done == (2, "", "interrupted\n")
    assert list(scratch.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_library_calls_an_error_of_its_own_exits_2(
    number: int, lora_cli: Cli, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake_import(_: Any) -> None:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt as error:
            raise ImportError("numpy._core.multiarray failed to import") from error

    monkeypatch.setattr(transcribe_command, "transcribe", fake_import)
    assert lora_cli("transcribe", audio) == (2, "", "interrupted\n")


def test_a_background_job_that_ctrl_c_does_not_mean_goes_on(
    lora_cli: Cli, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribe_command, "transcribe", lambda _: os.kill(os.getpid(), signal.SIGINT) or 0)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert lora_cli("transcribe", audio) == (0, "", "")
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_full_disk_is_no_internal_error_with_a_traceback(
    lora_cli: Cli, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")

    monkeypatch.setattr(transcribe_command, "transcribe", full)
    done = lora_cli("transcribe", audio)
    assert done.code == 3
    assert done.err.startswith("error: the disk is full")
    assert "Traceback" not in done.err


def test_an_internal_error_exits_3_with_a_traceback_that_is_safe_to_show(
    lora_cli: Cli, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> None:
        raise ZeroDivisionError(HOSTILE)

    monkeypatch.setattr(transcribe_command, "transcribe", broken)
    done = lora_cli("transcribe", audio)
    assert done.code == 3
    assert "Traceback" in done.err
    assert shown(done.err)


def test_a_reader_that_closes_the_pipe_is_no_error(
    lora_cli: Cli, audio: Path, tiny_moonshine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        done = lora_cli("transcribe", audio, "--model", tiny_moonshine)
        monkeypatch.undo()
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("command", [[], ["transcribe"], ["evaluate"]])
def test_help_names_the_exit_codes(lora_cli: Cli, command: list[str]) -> None:
    done = lora_cli(*command, "--help")
    assert done.code == 0
    for code in ("0 done", "2 interrupted", "3 internal error", "4 bad input or usage"):
        assert code in done.out
