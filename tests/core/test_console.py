"""All that commands say goes out in one place, where it can steer neither a terminal nor a CI runner."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core import console

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]
EVIL = "::stop-commands::x"
ALLOWED = {
    "core/console.py",
    "core/cli/doctor_checks.py",  # it asks the terminal how wide its signs are
    "lora_tui/entry.py",  # before there is a core that could be imported
    "core/training/pretrain.py",  # a recipe of ours, which no command runs
}


@pytest.fixture(autouse=True)
def runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")


@pytest.mark.parametrize(
    "text", [EVIL, f"  {EVIL}", f"\t{EVIL}", f"one\n{EVIL}", "a ##[stop-commands]x", f"one\r{EVIL}"]
)
@pytest.mark.parametrize("say", [console.out, console.err])
def test_a_runner_finds_no_command_of_anothers_text(say: Callable[..., None], text: str, capsys: Capture) -> None:
    say(text, multiline=True)
    said = "".join(capsys.readouterr())
    assert not any(line.lstrip().startswith("::") or "##[" in line for line in said.split("\n")), said


@pytest.mark.parametrize("say", [console.out, console.err])
def test_a_terminal_is_not_steered(say: Callable[..., None], capsys: Capture) -> None:
    say("\x1b[2J\u202egone\nmore", 12)
    assert "".join(capsys.readouterr()) == "␛[2J\\u202eg…\n"


def test_json_means_the_same_and_is_no_command(capsys: Capture) -> None:
    value = {"title": f"##[x]\n{EVIL}\x1b", EVIL: [1.5, None]}
    console.document(value, indent=1)
    said = capsys.readouterr().out
    assert json.loads(said) == value and "##[" not in said and "\x1b" not in said
    assert not any(line.lstrip().startswith("::") for line in said.split("\n"))


def test_a_file_gets_its_data_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "texts.txt").open("w", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdout", file)
        console.out(EVIL)
    assert (tmp_path / "texts.txt").read_text() == f"{EVIL}\n"


def test_elsewhere_a_line_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS")
    console.out(EVIL)
    assert capsys.readouterr().out == f"{EVIL}\n"


def test_nothing_else_writes_to_stdout_or_stderr() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("core", "lora_tui")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in ALLOWED
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _writes(node)
    ]
    assert not found, "core.console writes what commands say"


def _writes(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name):
        return call.func.id == "print"
    if not isinstance(call.func, ast.Attribute):
        return False
    stream = ast.unparse(call.func.value)
    if call.func.attr in ("write", "writelines") and stream.endswith(("stdout", "stderr", "stdout.buffer")):
        return True
    return call.func.attr in ("print_exc", "print_exception") or ast.unparse(call.func) in ("os.write", "pprint.pprint")
