"""`lora-tui verify --serve`: what came of decoding an export again stands among what was verified."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_run import FakeRun

from lora_tui import verify_command
from lora_tui.__main__ import main

SAID = "ct2:int8, heard again: 1 of 60 transcripts of domain"


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A `lora-cli hear` that found this, in place of the real one."""

    def answers(code: int, **found: list[str] | str) -> None:
        document = {"problems": [], "unchecked": [], "found": ""} | found
        program = f"import sys; print({json.dumps(document)!r}); sys.exit({code})"
        monkeypatch.setattr(verify_command, "HEAR_COMMAND", (sys.executable, "-P", "-c", program))

    return answers


def verified(run: FakeRun, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any, str]:
    code = main(["verify", str(run.paths.root), "--serve", "an export", "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


@pytest.mark.parametrize(
    ("code", "found", "where"),
    [(0, {"found": SAID}, "served"), (1, {"problems": [SAID]}, "problems"), (6, {"unchecked": [SAID]}, "unchecked")],
)
def test_what_was_heard_again_is_part_of_what_is_verified(
    code: int,
    found: dict[str, Any],
    where: str,
    heard: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = FakeRun(tmp_path / "2.1-0123456789").good()
    before, _, _ = (main(["verify", str(run.paths.root)]), *capsys.readouterr())
    heard(code, **found)
    ended, document, _ = verified(run, capsys)
    assert SAID in document[where]
    assert ended == (1 if where == "problems" else before)


def test_what_could_not_be_heard_again_ends_the_command(
    heard: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = FakeRun(tmp_path / "2.1-0123456789").good()
    heard(4)
    ended, _, said = verified(run, capsys)
    assert (ended, "could not be decoded (exit code 4)" in said) == (4, True)
    heard(2)
    assert verified(run, capsys)[0] == 2
