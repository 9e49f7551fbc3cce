"""Hostile text in every field that comes from outside, tested on the bytes that reach the terminal."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyte
import pytest
from terminal import Terminal

from core.runs.events import Final, Notice, Phase, Record, encode

Make = Callable[..., Any]
COMMAND = ["-m", "lora_tui"]
SIZE = (120, 40)
ENOUGH = "y" * 10_000
EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1bP0;1|\x1b\\\u202e\u2066[/][bold red]\x9b31m[@click=app.quit]x[/@]\x00\r\n"
HOSTILE = EVIL + ENOUGH
_SEQUENCE = re.compile(
    r"\x1b\[([<=>?]?)[0-9;:]*([ -/]*[@-~])"  # CSI: its private mark and its final byte tell what it does
    r"|\x1b([\]PX^_][^\x07\x1b]{0,3})"  # OSC, DCS and their like
    r"|\x1b([^\[\]PX^_])"
)
KEYS = ("\r", "1", "2", "3", "4", "o", "d", "\x1b", "p", "?", "\x1b", "\x10", "\x1b")
"""Every page of the run, pinned runs, help, the command palette."""


def spoil(value: Any, text: str) -> Any:
    """The same JSON with `text` in every string, but those that say which file or schema it is."""
    if isinstance(value, dict):
        kept = ("identity", "adapter_hash", "manifest_sha256", "fingerprint", "name")
        return {key: item if key in kept else spoil(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [spoil(item, text) for item in value]
    return text if isinstance(value, str) else value


def utterances(document: dict[str, Any], text: str) -> dict[str, Any]:
    """Ids have to differ."""
    for number, utterance in enumerate(document["utterances"]):
        utterance |= {"id": f"{number} {text}", "reference": f"one {text} two", "hypothesis": f"{text} one {number}"}
        utterance |= {"speaker": text, "fields": {"speaker": text}}
    return document


def run_with(text: str, make_run: Make, root: Path, *, ended: bool) -> None:
    """A run folder whose every text is `text`."""
    run = make_run("2.1", "0123456789" if ended else "9876543210").train(1000)
    if ended:
        run.finish()
    for path in run.paths.evals.rglob("*.json"):
        path.write_text(json.dumps(utterances(json.loads(path.read_text()), text)))
    config = spoil(json.loads(run.paths.config.read_text()), text)
    run.paths.config.write_text(json.dumps(config))
    late = run.clock + 1_000
    events = [Notice("warning", text), Phase("evaluating", 1000, text)]
    if not ended:
        events.append(Final("error", text))
    lines = [encode(Record(1, late, event)) for event in events]
    with run.paths.events.open("ab") as file:
        file.write(("\n".join(lines) + "\n").encode())
        file.write(b'{"event": "notice", "message": "\xff\xfe\x1b[2J"}\n' + text.encode("utf-8") + b"\n")
    run.paths.log.write_bytes(text.encode() + b"\n\xff\xfe" + text.encode() + b"\n" + text.encode())


def folder_with(text: str, name: str, make_run: Make, root: Path) -> None:
    runs = root / "runs"
    run_with(text, make_run, root, ended=True)
    run_with(text, make_run, root, ended=False)
    odd = runs / f"{name}-0123456780"
    odd.mkdir()
    (odd / "run.json").write_text(json.dumps({"experiment": text, "title": text, "settings": {"model": {"id": text}}}))
    decision = {"decision": "pause", "time": 1.0, "submission": text, "row": text, "reason": text, "plan": text}
    (runs / "decisions.jsonl").write_text(json.dumps(decision) + "\n" + text.replace("\n", " ") + "\n")


def contents(root: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "cache" not in path.parts and path.suffix not in (".sqlite3", ".lock")
    }


def play(folder: Path, arguments: list[str]) -> bytes:
    """Open everything that can be opened; what was written."""
    screen = Terminal([*COMMAND, *arguments], cwd=folder, size=SIZE)
    screen.wait_for(b"failed")
    screen.rest()
    for _ in range(3):
        for key in KEYS:
            screen.type(key.encode())
            screen.rest()
        screen.type(b"j")
        screen.rest()
        assert screen.process.poll() is None, screen.bytes[-3000:].decode("utf-8", "replace")
    for _ in range(20):
        # Out of whatever a slow machine has left open.
        screen.type(b"\x1b")
        screen.rest()
        screen.type(b"q")
        screen.rest()
        if screen.process.poll() is not None:
            break
    assert screen.end() == 0, screen.bytes[-3000:].decode("utf-8", "replace")
    shown: bytes = screen.bytes
    return shown


def kinds(shown: str) -> set[tuple[str, ...]]:
    return {found.groups(default="") for found in _SEQUENCE.finditer(shown)}


@pytest.mark.parametrize("arguments", [[], ["--ascii"]])
def test_no_field_reaches_the_terminal_as_anything_but_text(
    tmp_path: Path, make_run: Make, arguments: list[str]
) -> None:
    folder_with(HOSTILE, "\x1b[2J\x07[bold]\udcff\u202e", make_run, tmp_path)
    before = contents(tmp_path)
    hostile = play(tmp_path, arguments)
    assert contents(tmp_path) == before
    shown = hostile.decode("utf-8")
    # What Textual itself sends: sequences of these kinds, and no other.
    tame = kinds(shown)
    ours = {(mark, final) for mark, final, string, short in tame if not string and not short}
    assert {final for _, final in ours} <= set("mHhlupntqrJK") | {" q", "$p", "c", "s", "t"}, ours
    assert not [kind for kind in tame if kind[2].startswith("]52")], tame
    assert not [kind for kind in tame if kind[2][:1] in tuple("PX^_")], tame
    # A bell of its own is Textual's answer to a key that means nothing.
    for bad in ("\u202e", "\u2066", "\x9b", "\x00", "==\x07", "\x07\x1b[2J[bold]"):
        assert bad not in shown, ascii(bad)
    assert "ZXZpbA==" in shown
    assert "Traceback" not in shown


def test_the_screen_is_whole_after_hostile_text(tmp_path: Path, make_run: Make) -> None:
    """A terminal that was steered would show a torn board: ours has its header, table and footer in place."""
    folder_with(HOSTILE, "\x1b[2J\x07[bold]\u202e", make_run, tmp_path)
    screen = Terminal(COMMAND, cwd=tmp_path, size=SIZE)
    screen.wait_for(b"failed")
    screen.rest()
    seen = pyte.Screen(*SIZE)
    pyte.ByteStream(seen).feed(screen.bytes)
    screen.type(b"q")
    assert screen.end() == 0
    assert "Quit" in seen.display[-1]
    assert "domain WER" in seen.display[1]
    assert len([line for line in seen.display if "failed" in line]) == 1
