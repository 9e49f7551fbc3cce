from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np
import pytest
from model_folder import model_folder
from safetensors.numpy import save_file

from core.errors import ExitCode, UserError
from core.plan.rows import expand
from lora_tui import init_command, plan_command
from lora_tui.request import load_plan

FLAGS = (
    "--model",
    "org/model",
    "--train",
    "train.jsonl",
    "--domain",
    "domain.jsonl",
    "--heldout",
    "heldout.jsonl",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("train", "domain", "heldout", "replay"):
        (tmp_path / f"{name}.wav").write_bytes(name.encode())
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"audio": f"{name}.wav", "sentence": name}) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str) -> ExitCode:
    parser = argparse.ArgumentParser()
    init_command.add_arguments(parser)
    return init_command.run(parser.parse_args(arguments))


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_flags_answer_everything(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--yes", *FLAGS) is ExitCode.ACCEPTED
    plan = load_plan(project / "experiments.toml")
    assert plan.warnings == ()
    assert plan.defaults.model.id == "org/model"
    assert plan.defaults.data.train == "train.jsonl"
    assert plan.defaults.data.replay is None
    shown = capsys.readouterr()
    assert shown.out == "", "talk goes to stderr"
    assert "experiments.toml is written" in shown.err


def test_questions_are_asked_again_until_the_answer_is_usable(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "bad.jsonl").write_text("{\n")
    manifests = ("missing.jsonl", "bad.jsonl", "train.jsonl", "train.jsonl", "domain.jsonl", "heldout.jsonl")
    answer(monkeypatch, "", "org/model", *manifests, "replay.jsonl")
    assert command("--output", "own.toml") is ExitCode.ACCEPTED
    plan = load_plan(project / "own.toml")
    assert plan.defaults.data.domain == "domain.jsonl"
    assert plan.defaults.data.replay == "replay.jsonl"
    talk = capsys.readouterr().err
    assert "missing.jsonl: cannot be read" in talk
    assert "bad.jsonl:1: not JSON" in talk
    assert "is the train manifest already" in talk
    assert "1 utterances" in talk


def test_flags_are_not_asked_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "")
    assert command(*FLAGS) is ExitCode.ACCEPTED


def test_paths_become_relative_to_the_plan(project: Path) -> None:
    (project / "plans").mkdir()
    (project / "model").mkdir()
    (project / "model" / "config.json").write_text('{"model_type": "moonshine"}')
    absolute = str(project / "heldout.jsonl")
    flags = ("--model", "model", "--train", "train.jsonl", "--domain", "domain.jsonl", "--heldout", absolute)
    command("--yes", *flags, "--output", "plans/own.toml")
    plan = load_plan(project / "plans" / "own.toml")
    assert plan.defaults.model.id == "../model"
    assert plan.defaults.data.train == "../train.jsonl"
    assert plan.defaults.data.heldout == absolute


def test_an_existing_plan_is_kept_unless_forced(project: Path) -> None:
    (project / "experiments.toml").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        command("--yes", *FLAGS)
    assert (project / "experiments.toml").read_text() == "mine"
    assert command("--yes", "--force", *FLAGS) is ExitCode.ACCEPTED
    plan = load_plan(project / "experiments.toml")
    assert plan.defaults.model.id == "org/model"
    assert plan.defaults.adapter.target_modules == ("attention",), "whatever family it turns out to be of"
    assert ("attention", "mlp") in {row.settings.adapter.target_modules for row in expand(plan)}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (FLAGS[2:], "--model is missing: with --yes nothing is asked"),
        (("--model", "nowhere", *FLAGS[2:]), "nowhere: no such model folder"),
        (("--model", "./a/b", *FLAGS[2:]), "no such model folder"),
        (("--model", "here/model", *FLAGS[2:]), "no such model folder: here has no model"),
        (("--model", "here", *FLAGS[2:]), "no config.json"),
        ((*FLAGS[:2], "--train", "nowhere.jsonl", *FLAGS[4:]), "nowhere.jsonl: cannot be read"),
        ((*FLAGS, "--replay", "train.jsonl"), "is the train manifest already: replay must be other speech"),
        ((*FLAGS, "--replay", " "), "--replay: is empty"),
        ((*FLAGS, "--output", "no/folder/plan.toml"), "no such folder for the plan"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(
    project: Path, flags: tuple[str, ...], message: str
) -> None:
    (project / "here").mkdir()
    before = sorted(project.rglob("*"))
    with pytest.raises(UserError, match=message):
        command("--yes", *flags)
    assert sorted(project.rglob("*")) == before


def test_the_end_of_the_input_is_an_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "org/model")
    with pytest.raises(UserError, match="the input ended before all was answered: give --train"):
        command()
    assert not (project / "experiments.toml").exists()


def test_hostile_answers_do_not_reach_the_terminal(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, "\x1b[2Jx", "org/model")
    with pytest.raises(UserError):
        command()
    assert "\x1b" not in capsys.readouterr().err


def test_a_real_model_and_real_manifests(tmp_path: Path, digits: Path, base_model: Path) -> None:
    flags = [f"--{key}={digits / f'{key}_manifest.jsonl'}" for key in ("train", "domain", "heldout", "replay")]
    assert command("--yes", f"--model={base_model}", *flags, f"--output={tmp_path / 'p.toml'}") == 0
    plan = load_plan(tmp_path / "p.toml")
    assert plan.defaults.adapter.target_modules == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert [experiment.id for experiment in plan.experiments] == ["2.1", "2.1-lora", "2.2", "3.1"]


def test_the_normaliser_is_asked_for_and_may_be_left_open(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, "", "numbers", "digits")
    assert command(*FLAGS, "--output", "chosen.toml") is ExitCode.ACCEPTED
    assert "numbers: no such text normaliser: use one of basic, " in capsys.readouterr().err
    chosen = load_plan(project / "chosen.toml")
    assert chosen.defaults.data.normaliser == "digits" and chosen.gate.normaliser_chosen
    command("--yes", *FLAGS, "--output", "open.toml")
    left_open = load_plan(project / "open.toml")
    assert left_open.defaults.data.normaliser == "basic" and not left_open.gate.normaliser_chosen


def test_texts_without_spaces_are_counted_in_characters(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("--yes", *FLAGS, "--output", "words.toml")
    assert load_plan(project / "words.toml").gate.unit == "word"
    line = {"audio": "domain.wav", "sentence": "今天天气很好我们去公园散步吧"}
    (project / "domain.jsonl").write_text(json.dumps(line) + "\n")
    assert command("--yes", *FLAGS) is ExitCode.ACCEPTED
    assert load_plan(project / "experiments.toml").gate.unit == "character"
    assert "errors are counted in characters (gate.unit)" in capsys.readouterr().err


@pytest.mark.parametrize(("clips", "steps", "epochs"), [(110, 1000, 10.0), (12, 240, 20.0)])
def test_what_init_writes_for_few_clips_has_no_problem(
    project: Path, clips: int, steps: int, epochs: float, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for number in range(clips):
        name = f"clip-{number}.wav"
        (project / name).write_bytes(f"{number}".encode())
        lines.append(json.dumps({"audio_filepath": name, "text": "some words", "duration": 1.0 + number % 3}))
    (project / "train.jsonl").write_text("\n".join(lines) + "\n")
    assert command("--yes", *FLAGS) is ExitCode.ACCEPTED
    plan = load_plan(project / "experiments.toml")
    assert (plan.defaults.train.steps, plan.defaults.train.epochs) == (steps, epochs)
    parser = argparse.ArgumentParser()
    plan_command.add_arguments(parser)
    capsys.readouterr()
    assert plan_command.run(parser.parse_args([str(project / "experiments.toml")])) is ExitCode.ACCEPTED
    assert "leave some without one" not in capsys.readouterr().err


def test_a_plan_for_a_model_folder_says_why_its_values_fit(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "model").mkdir()
    (project / "model" / "config.json").write_text('{"model_type": "whisper"}')
    flags = ("--yes", "--force", "--model", "model", *FLAGS[2:])
    assert command(*flags) is ExitCode.ACCEPTED
    text = (project / "experiments.toml").read_text()
    assert (
        "# Each clip costs the encoder 30 s, whatever its length: this is 16 clips.\neval_batch_seconds = 480.0" in text
    )
    assert load_plan(project / "experiments.toml").defaults.data.normaliser == "whisper_english"
    assert "must be told what is spoken" not in capsys.readouterr().err
    (project / "model" / "generation_config.json").write_text('{"lang_to_id": {"<|de|>": 1, "<|en|>": 2}}')
    assert command(*flags) is ExitCode.ACCEPTED
    assert load_plan(project / "experiments.toml").defaults.data.normaliser == "basic"
    assert "must be told what is spoken: set language in [model] of experiments.toml" in capsys.readouterr().err


def test_layers_are_called_as_transformers_calls_them(project: Path) -> None:
    """The files of Cohere-ASR have other names for them."""
    model_folder(
        project / "model",
        "cohere_asr",
        {f"encoder.layers.0.self_attn.linear_{part}.weight": np.zeros((2, 2), np.float32) for part in "qkv"},
    )
    assert command("--yes", "--force", "--model", "model", *FLAGS[2:]) is ExitCode.ACCEPTED
    plan = load_plan(project / "experiments.toml")
    assert plan.defaults.adapter.target_modules == ("q_proj", "k_proj", "v_proj")


def test_which_language_is_spoken_unless_it_is_chosen_is_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model_folder(project / "model", "wav2vec2", {"lm_head.weight": np.zeros((3, 2), np.float32)})
    (folder / "vocab.json").write_text('{"deu": {"<pad>": 0, "ö": 1}, "eng": {"<pad>": 0, "o": 1}}')
    (folder / "tokenizer_config.json").write_text('{"target_lang": "eng", "pad_token": "<pad>"}')
    assert command("--yes", "--force", "--model", "model", *FLAGS[2:]) is ExitCode.ACCEPTED
    assert "This model speaks eng unless it is told another language: set language in" in capsys.readouterr().err


def test_a_model_that_is_adapted_at_one_site_is_given_words_for_its_layers(project: Path) -> None:
    (project / "model").mkdir()
    (project / "model" / "config.json").write_text('{"model_type": "voxtral"}')
    # of the audio encoder alone, which the decoder does not have
    layers = {f"audio_tower.layers.0.{name}.weight": np.zeros((2, 2)) for name in ("self_attn.out_proj", "fc1")}
    save_file(layers, project / "model" / "model.safetensors")
    assert command("--yes", "--force", "--model", "model", *FLAGS[2:]) is ExitCode.ACCEPTED
    plan = load_plan(project / "experiments.toml")
    assert plan.defaults.adapter.target_modules == ("attention",)
    assert "out_proj" not in (project / "experiments.toml").read_text()
