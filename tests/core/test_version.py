"""The version: one release, from pyproject.toml, and the commit of a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from terminal import Terminal

from core import version
from core.cli.__main__ import main as lora_cli
from core.command_line import SHELLS
from core.version import Version, this_version
from lora_tui.__main__ import COMMANDS
from lora_tui.__main__ import main as lora_tui

ROOT = Path(__file__).parents[2]


def reading(told: str | None) -> Callable[[metadata.PathDistribution, str], str | None]:
    """Files of an installed package's metadata, with this one in place of direct_url.json."""
    real = metadata.PathDistribution.read_text
    return lambda package, name: told if name == "direct_url.json" else real(package, name)


def test_both_commands_name_the_release_of_pyproject(capsys: pytest.CaptureFixture[str]) -> None:
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert lora_tui(["--version"]) == 0
    with pytest.raises(SystemExit, match="0"):
        lora_cli(["--version"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["lora-tui", release], ["lora-cli", release]]


def test_a_checkout_names_its_commit_and_a_release_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (ROOT / ".git").exists():
        assert f"(commit {this_version().commit}" in str(this_version())
    monkeypatch.setattr(version, "__file__", str(tmp_path / "core" / "version.py"))
    monkeypatch.setattr(metadata.PathDistribution, "read_text", reading(None))
    assert this_version() == Version(metadata.version("lora-tui"), None, None)


@pytest.mark.parametrize(
    "told, commit",
    [
        ('{"vcs_info": {"commit_id": "0123456789abcdef"}}', "0123456789ab"),
        ('{"dir_info": {"editable": true}}', None),
        ("[", None),
        ('{"vcs_info": {"commit_id": "\\u001b[2J"}}', None),
    ],
)
def test_an_install_from_a_repository_names_the_commit_that_pip_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, commit: str | None
) -> None:
    monkeypatch.setattr(version, "__file__", str(tmp_path / "core" / "version.py"))
    monkeypatch.setattr(metadata.PathDistribution, "read_text", reading(told))
    assert this_version().commit == commit


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_commands_and_options_of_both(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lora_tui(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in (*COMMANDS, "headless", "hold"))
    assert lora_cli(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in ("transcribe", "evaluate", "adapter", "expand"))


SOURCED = {
    "bash": (["--norc", "-i"], "source ./_lora-tui"),
    "zsh": (["-f", "-i"], "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -d ./dump"),
}
"""How a shell is started without the settings of whoever tests, and how it learns of a script."""


def after_tab(shell: str, folder: Path, words: str, wanted: str) -> None:
    """Type the words and Tab in a terminal of that shell, until `wanted` stands there."""
    arguments, source = SOURCED[shell]
    plain = {"TERM": "dumb", "PS1": "> ", "HISTFILE": ""}
    terminal = Terminal(arguments, cwd=folder, env=plain, python=shell)
    try:
        terminal.wait_for(b"> ")  # what is typed before may be lost
        terminal.type(f"{source}; echo rea''dy\n".encode())
        terminal.wait_for(b"ready")
        terminal.bytes = b""
        terminal.type(f"{words}\t".encode())
        terminal.wait_for(wanted.encode())
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("pl", "plan"),
        ("queue ho", "hold"),
        ("plan own", "own-plan.toml"),
        ("own", "own-plan.toml"),
        ("--hea", "--headless"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_options_and_plans(
    shell: str, words: str, wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    assert lora_tui(["completion", shell]) == 0
    (tmp_path / "_lora-tui").write_text(capsys.readouterr().out)
    (tmp_path / "own-plan.toml").touch()
    if shell == "fish":  # which tells what it would offer
        ask = ["fish", "-c", "source ./_lora-tui; complete -C $argv", f"lora-tui {words}"]
        done = subprocess.run(ask, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert wanted in [line.split("\t")[0] for line in done.stdout.splitlines()]
    else:
        after_tab(shell, tmp_path, f"lora-tui {words}", wanted)
