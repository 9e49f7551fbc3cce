"""Paths with a `~` that leads nowhere, and a working folder that is gone, end in a sentence and exit code 4."""

from __future__ import annotations

import ast
import json
import os
import pwd
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.cli.__main__ import main as lora_cli
from core.manifests.hashing import HashCache, manifest_file_hashes
from core.manifests.manifest import read_manifest
from core.runs.signing import keys_from
from core.system.seals import machine_key
from core.user_paths import PathError, user_path
from lora_tui.__main__ import main as lora_tui
from lora_tui.reports.github_actions import path_in_repository

ROOT = Path(__file__).parent.parent
NOBODY = "~nobody-of-that-name/x"


def test_only_one_module_looks_for_home_folders() -> None:
    names = {"expanduser", "home", "getpwuid", "getpwnam", "getuser", "getlogin"}
    found = []
    for path in [*(ROOT / "core").rglob("*.py"), *(ROOT / "lora_tui").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_bytes())):
            name = node.func if isinstance(node, ast.Call) else None
            if isinstance(name, ast.Attribute) and name.attr in names:
                found.append(path.relative_to(ROOT).as_posix())
    assert set(found) == {"core/user_paths.py"}


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder, whom the machine does not know."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


PLAN = """
[model]
id = "{model}"
[data]
train = "{train}"
domain = "d.jsonl"
heldout = "h.jsonl"
[[experiment]]
id = "a"
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", f"--runs={NOBODY}"],
        ["plan", NOBODY],
        ["--headless", NOBODY],
        ["--headless", f"--state={NOBODY}"],
        ["verify", NOBODY],
        ["init", "--yes", "--model", NOBODY, "--train", "t", "--domain", "d", "--heldout", "h"],
        ["--replay", NOBODY],
    ],
)
def test_a_user_whom_nobody_knows(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lora_tui(arguments) == 4
    told = capsys.readouterr().err
    assert f"{NOBODY}: there is no home folder of 'nobody-of-that-name' here: write the whole path" in told
    assert not list(tmp_path.glob("*crash*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["manifest", "check", NOBODY],
        ["manifest", "import", "kaldi", NOBODY, "-o", "x"],
        ["normalise", "a.wav", "~nobody-of-that-name/o.wav"],
        ["transcribe", NOBODY],
        ["evaluate", NOBODY],
        ["errors", NOBODY],
    ],
)
def test_a_user_whom_nobody_knows_in_lora_cli(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lora_cli(arguments) == 4
    assert "there is no home folder of 'nobody-of-that-name' here: write the whole path" in capsys.readouterr().err


def test_a_plan_names_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.toml").write_text(PLAN.format(model=NOBODY, train="~other-nobody/t.jsonl"))
    assert lora_tui(["plan", "plan.toml"]) == 4
    told = "".join(capsys.readouterr())
    assert f"model.id: {NOBODY}: there is no home folder of" in told
    assert "data.train: ~other-nobody/t.jsonl: there is no home folder of 'other-nobody' here" in told


@pytest.mark.usefixtures("homeless")
def test_without_a_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lora_tui(["status", "--runs=~/runs"]) == 4
    assert "~/runs: there is no home folder here (HOME is not set): write the whole path" in capsys.readouterr().err
    assert machine_key() is None
    with pytest.raises(PathError, match="LORA_TUI_SIGNING_SSH_KEY: ~/key: there is no home folder here"):
        keys_from({"LORA_TUI_SIGNING_SSH_KEY": "~/key"})
    assert user_path("a/~/b") == Path("a/~/b")


def test_a_manifest_may_name_home_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("home/a.wav", "~b.wav"):
        soundfile.write(tmp_path / name, np.full(1600, 0.1, np.float32), 16_000)
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps({"audio": name, "text": "a"}) + "\n" for name in ("~/a.wav", "~b.wav")))
    assert [u.audio for u in read_manifest(path).utterances] == [tmp_path / "home" / "a.wav", tmp_path / "~b.wav"]
    cache = HashCache(tmp_path / "hashes.json")
    assert manifest_file_hashes(path, cache) == manifest_file_hashes(path, cache)
    path.write_text(json.dumps({"audio": NOBODY, "text": "a"}) + "\n")
    with pytest.raises(Exception, match=r"m\.jsonl:1: ~nobody-of-that-name/x: there is no home folder of"):
        read_manifest(path)


def test_a_working_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    for command, arguments in ((lora_tui, ["status"]), (lora_cli, ["manifest", "check", "m.jsonl"])):
        assert command(arguments) == 4
        assert "the working folder cannot be used" in capsys.readouterr().err


def test_annotations_name_a_file_as_github_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "work"
    (repository / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(repository)
    monkeypatch.chdir(repository / "sub")
    for path, repo, told in (
        (Path("../plan.toml"), repository, "plan.toml"),
        (Path("plan.toml"), repository, "sub/plan.toml"),
        (repository / "sub/../sub/./plan.toml", repository, "sub/plan.toml"),
        (tmp_path / "link/plan.toml", repository, "plan.toml"),
        (repository / "plan.toml", tmp_path / "link", "plan.toml"),
        (Path("../../plan.toml"), repository, str(tmp_path / "plan.toml")),
        (Path("plan.toml"), Path(f"{repository}{os.sep}sub{os.sep}.."), "sub/plan.toml"),
    ):
        assert path_in_repository(path, repo) == told


@pytest.mark.parametrize(("written", "said"), [("a\0b", "no file name can have"), ("x" * 5000, "longer than a path")])
def test_a_path_that_can_be_none_is_named(written: str, said: str) -> None:
    with pytest.raises(PathError, match=f"data.train: .*{said}"):
        user_path(written, "data.train")
