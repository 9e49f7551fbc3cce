"""`lora-tui demo`: a folder with everything to begin with, which replaces nothing of the user's."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from lora_tui import demo_command
from lora_tui.__main__ import main
from lora_tui.demo_command import copy_files, shipped_files

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is shipped, with a recipe of a few clips."""
    pytest.importorskip("espeakng_loader")
    source = tmp_path / "shipped"
    copy_files(ROOT, source)
    recipe = source / "data" / "recipe.toml"
    recipe.write_text(re.sub(r"^count = .*", "count = 4", recipe.read_text(), flags=re.MULTILINE))
    monkeypatch.setattr(demo_command, "shipped_files", lambda: source)
    monkeypatch.setattr(demo_command, "usable_cpus", lambda: 1)
    monkeypatch.chdir(tmp_path)
    return source


def test_the_checkout_is_where_its_own_files_are() -> None:
    assert shipped_files() == ROOT


def test_plan_model_and_speech_are_there_and_the_plan_has_no_problem(
    shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "with space"]) == 0
    assert "Next: cd 'with space' && lora-tui --start" in capsys.readouterr().err
    folder = Path("with space")
    assert (folder / "experiments.toml").read_bytes() == (ROOT / "experiments.toml").read_bytes()
    assert len(list((folder / "data" / "audio" / "domain").glob("*.flac"))) == 4
    assert main(["demo", "with space"]) == 0
    assert "clips are made" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["experiments.toml", "data/base_model/config.json"])
def test_a_file_of_the_users_is_left_alone(shipped: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = Path("lora-tui-demo") / name
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert main(["demo"]) == 4
    assert f"{own}: differs from the demo's" in capsys.readouterr().err
    assert own.read_text() == "mine" and [p for p in Path("lora-tui-demo").rglob("*") if p.is_file()] == [own]


def test_a_file_in_place_of_the_folder_is_named(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").touch()
    assert main(["demo", "taken"]) == 4
    assert "taken: is no folder" in capsys.readouterr().err


def test_without_the_synthesiser_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 4
    assert "lora-tui[corpus]" in capsys.readouterr().err and not list(tmp_path.iterdir())
