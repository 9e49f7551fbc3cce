"""Words that were mistyped, colours where there are any, and how far a child process is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core import console
from core.cli.__main__ import main as cli
from lora_tui.__main__ import main as tui


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["statsu"], "`status`"),
        (["queue", "lst"], "`list`"),
        (["status", "--jsn"], "`--json`"),
        (["--headles"], "`--headless`"),
    ],
)
def test_a_mistyped_command_is_suggested(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tui(words) == 4
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_lora_cli_suggests_too_and_names_all_where_nothing_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    for word, said in (("evalute", "did you mean `evaluate`?"), ("xyzzy", "choose from")):
        with pytest.raises(SystemExit):
            cli([word])
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "terminal", "colour"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({}, True, False),
    ],
)
def test_colours_are_for_terminals_that_have_them(
    environment: dict[str, str], terminal: bool, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert (console.coloured("accepted", "pass") == "\x1b[32maccepted\x1b[0m") is colour
    assert console.coloured("x", "") == "x"


def test_a_child_tells_its_parent_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    monkeypatch.setenv(console.PROGRESS_VARIABLE, str(theirs))
    with console.progress_bar("scoring", lines=True) as show:
        show(3, 300)
        show(12, 300)
    assert console.newest_progress(os.read(ours, 1000)) == (12, 300)
    os.close(ours)
    with console.progress_bar("scoring", lines=True) as show:
        show(13, 300)  # nobody reads any more: nothing is stopped by that
    os.close(theirs)


@pytest.mark.parametrize("told", [None, b"", b"12 300", b"a b\n", b"1 2 3\n", b"-1 2\n", b"1 " + b"9" * 99 + b"\n"])
def test_what_is_no_progress_is_none(told: bytes | None) -> None:
    assert console.newest_progress(told) is None
