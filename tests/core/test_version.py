"""The version: one release, from pyproject.toml, and the commit of a checkout."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

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


def test_bash_completes_commands_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    assert lora_tui(["completion", "bash"]) == 0
    ask = """
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_shtab_lora_tui "$1" "${COMP_WORDS[$COMP_CWORD]}" "${COMP_WORDS[$COMP_CWORD-1]}" 2>/dev/null
printf "%s\\n" "${COMPREPLY[@]}"
"""
    (tmp_path / "ask.sh").write_text(capsys.readouterr().out + ask)
    (tmp_path / "own-plan.toml").touch()
    for words, found in ((["pl"], "plan"), (["queue", "ho"], "hold"), (["plan", "own"], "own-plan.toml")):
        command = ["bash", "ask.sh", "lora-tui", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.split() == [found], done.stderr
