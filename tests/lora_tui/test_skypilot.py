"""`lora-tui plan --emit skypilot`: what the task says of the plan, and that SkyPilot's own schema takes it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from model_folder import model_folder

from core.errors import ExitCode, UserError
from core.version import this_version
from lora_tui import plan_command, skypilot


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan whose speech lies beside it, elsewhere, and in the home folder."""
    home, elsewhere, plan = tmp_path / "home", tmp_path / "elsewhere", tmp_path / "project"
    sets = {"train": elsewhere / "speech", "domain": plan / "sets", "heldout": home / "speech"}
    for name, folder in sets.items():
        (folder / "audio" / name).mkdir(parents=True)
        (folder / "audio" / name / "1.wav").write_bytes(name.encode())
        line = {"audio_filepath": f"audio/{name}/1.wav", "text": name, "duration": 2.0}
        (folder / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    model_folder(elsewhere / "model")
    (plan / "experiments.toml").write_text(
        f"""
        [model]
        id = "{elsewhere}/model"
        [data]
        train = "../elsewhere/speech/train.jsonl"
        domain = "sets/domain.jsonl"
        heldout = "~/speech/heldout.jsonl"
        [train]
        replay_share = 0.0
        accumulation = 4
        steps = 1
        epochs = 8
        [[experiment]]
        id = "1"
        [[experiment]]
        id = "2"
        train.devices = 4
        train.base_precision = "8bit"
        [queue]
        sinks = ["mlflow"]
        """
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(plan)
    return plan


def emitted(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    plan_command.add_arguments(parser)
    assert plan_command.run(parser.parse_args(["--emit", "skypilot", *arguments])) is ExitCode.ACCEPTED
    document: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return document


def test_the_plan_finds_there_what_it_names_at_the_paths_that_it_has_here(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, speech = emitted(capsys), project.parent / "elsewhere" / "speech"
    assert task["file_mounts"] == {
        "~/speech/audio/heldout": str(project.parent / "home" / "speech" / "audio" / "heldout"),
        "~/speech/heldout.jsonl": str(project.parent / "home" / "speech" / "heldout.jsonl"),
    } | {
        str(path): str(path)
        for path in (
            project / "experiments.toml",
            project / "sets" / "audio" / "domain",
            project / "sets" / "domain.jsonl",
            project.parent / "elsewhere" / "model",
            speech / "audio" / "train",
            speech / "train.jsonl",
        )
    }
    assert all(Path(here).exists() for here in task["file_mounts"].values())


def test_the_machine_has_the_devices_of_the_row_that_asks_for_most(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = emitted(capsys)
    assert task["num_nodes"] == 1
    assert set(task["resources"]["accelerators"]) == {f"{name}:4" for name in skypilot.GPUS}
    assert (task["resources"]["cpus"], task["resources"]["memory"]) == ("8+", "16+")
    assert task["resources"]["disk_size"] >= 40
    assert emitted(capsys, "--only", "1")["resources"]["accelerators"][0].endswith(":1")


def test_two_commands_install_this_release_and_one_passes_the_verdict(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = emitted(capsys, "--only", "1", "--set", "train.seed=60")
    assert task["name"] == "lora-tui-experiments"
    make, install = task["setup"].splitlines()
    assert make == "python3 -m venv ~/lora-tui"
    assert install == f"~/lora-tui/bin/pip install 'lora-tui[mlflow]=={this_version().release}'"
    assert task["run"] == (
        f"~/lora-tui/bin/lora-tui --headless --gate {project}/experiments.toml --only=1 --set=train.seed=60 "
        "--runs ~/lora-tui-runs\n"
    )


def test_it_is_written_to_a_file_as_it_would_be_printed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = emitted(capsys)
    parser = argparse.ArgumentParser()
    plan_command.add_arguments(parser)
    arguments = ["--emit", "skypilot", "-o", "task.yaml"]
    assert plan_command.run(parser.parse_args(arguments)) is ExitCode.ACCEPTED
    assert capsys.readouterr().out == ""
    text = (project / "task.yaml").read_text()
    assert yaml.safe_load(text) == printed
    assert "setup: |\n  python3 -m venv" in text, "commands are there to be read"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["-o", "task.yaml"], "-o says where --emit writes"),
        (["--emit", "skypilot", "--json"], "leave out --json"),
        (["--emit", "skypilot", "-o", "sets/domain.jsonl/task.yaml"], "cannot be written"),
        (["--emit", "skypilot", "--set", "data.train='nowhere.jsonl'"], "nowhere.jsonl"),
        (["--emit", "skypilot", "--set", "train.devices=3"], "cannot share out"),
    ],
)
@pytest.mark.usefixtures("project")
def test_what_is_wrong_is_said_and_nothing_is_written(arguments: list[str], what: str) -> None:
    parser = argparse.ArgumentParser()
    plan_command.add_arguments(parser)
    with pytest.raises(UserError, match=what):
        plan_command.run(parser.parse_args(arguments))
    assert not Path("task.yaml").exists()


def test_many_folders_of_audio_are_mounted_in_few() -> None:
    folders = [Path(f"/speech/{speaker}/{chapter}") for speaker in range(5) for chapter in range(9)]
    assert skypilot._few(folders) == [Path(f"/speech/{speaker}") for speaker in range(5)]
    assert skypilot._few([Path("/a"), Path("/a/b"), Path("/c/d")]) == [Path("/a"), Path("/c/d")]


def test_skypilots_own_schema_takes_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schemas = pytest.importorskip("sky.utils.schemas", reason="skypilot is not installed, whose schema this is about")
    jsonschema = pytest.importorskip("jsonschema", reason="skypilot is not installed, whose schema this is about")
    task = emitted(capsys)
    jsonschema.validate(task, schemas.get_task_schema())
    jsonschema.validate(task["resources"], schemas.get_resources_schema())
