"""Hostile text in every field of plan, manifests, run folder and log: on the bytes of commands, and in every report."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from plan_folder import PlanFolder

from core.manifests.hashing import HashCache
from core.queue.execution import PlanExecution
from core.runs.events import Final, Notice, Phase, Record, encode
from lora_tui.output import FORMATS

ROOT = Path(__file__).parents[3]
LONG = "y" * 10_000
EVIL = "=cmd\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1bP0;1|\x1b\\\u202e\u2066[/][bold red]\x9b31m"
EVIL += "<script>alert(1)</script>&\x00\r\n::error::"
HOSTILE = EVIL + LONG
_SEQUENCE = re.compile(r"\x1b(?!\[[0-9;]*[mK])")
"""Anything but colours and the erasing of a line."""
_HIDDEN = "\x07\x00\x9b\u202e\u2066\x08\x0b"


def spoiled(value: Any, text: str) -> Any:
    """The same JSON with `text` in every string, but those that say which file or schema it is."""
    kept = ("identity", "adapter_hash", "manifest_sha256", "fingerprint", "name", "experiment", "id")
    if isinstance(value, dict):
        return {key: item if key in kept else spoiled(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [spoiled(item, text) for item in value]
    return text if isinstance(value, str) else value


@pytest.fixture
def hostile(folder: PlanFolder, make_run: Callable[..., Any]) -> Any:
    """A plan of two rows, one with a finished run and one whose run failed. Every text in their files is hostile."""
    title = json.dumps(EVIL)  # TOML reads its escapes alike
    rows = "".join(f'[[experiment]]\nid = "{key}"\ntitle = {title}\ntrain.seed = {i}\n' for i, key in enumerate("ab"))
    folder.write(f'{rows}[[history]]\nid = "old"\ntitle = {title}\nnote = {title}\n', 'until = "all"')
    for name in ("train", "domain", "heldout"):
        # With spaces: an evaluation text without any is refused by a gate that counts words.
        line = {"audio_filepath": f"{name}.wav", "text": EVIL + " y" * 5000, "duration": 0.3, "speaker": HOSTILE}
        (folder.root / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    for key, ended in (("a", True), ("b", False)):
        run = make_run(key, execution.folder(execution.assigned[key]).name.rpartition("-")[2], title=EVIL).train(1000)
        if ended:
            run.finish()
        _spoil(run, ended)
    return folder


def _spoil(run: Any, ended: bool) -> None:
    for path in run.paths.evals.rglob("*.json"):
        document = json.loads(path.read_text())
        for number, utterance in enumerate(document["utterances"]):
            utterance |= {"id": f"{number} {HOSTILE}", "reference": f"one {EVIL}", "hypothesis": f"{EVIL} {number}"}
            utterance |= {"speaker": HOSTILE, "fields": {"speaker": HOSTILE}}
        path.write_text(json.dumps(document))
    run.paths.config.write_text(json.dumps(spoiled(json.loads(run.paths.config.read_text()), HOSTILE)))
    events = [Notice("warning", HOSTILE), Phase("evaluating", 1000, HOSTILE)]
    events += [] if ended else [Final("error", HOSTILE)]
    with run.paths.events.open("ab") as file:
        file.write("".join(encode(Record(1, run.clock + 1e3, event)) + "\n" for event in events).encode())
        file.write(b'{"event": "notice", "message": "\xff\xfe\x1b[2J"}\n' + HOSTILE.encode() + b"\n")
    run.paths.log.write_bytes(HOSTILE.encode() + b"\n\xff\xfe" + HOSTILE.encode())


def in_terminal(folder: PlanFolder, *arguments: str) -> str:
    """What the command writes to a pty, standard output and error."""
    master, slave = pty.openpty()
    where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lora_tui", *arguments, *where],
        stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, cwd=folder.plan.parent,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(master)
    assert process.wait(60) in range(7), shown[-2000:]
    return shown.decode("utf-8")  # as a whole: nothing invalid comes through


def harmless(shown: str) -> None:
    found = _SEQUENCE.search(shown)
    assert found is None, ascii(shown[max(0, found.start() - 50) :][:120])
    assert not [ascii(c) for c in _HIDDEN if c in shown]
    assert "Traceback" not in shown
    assert not re.search(r"^::error::$", shown, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments", [("status",), ("status", "--json"), ("plan",), ("--headless", "--no-train", "--gate")]
)
def test_no_command_writes_it_to_the_terminal_as_anything_but_text(hostile: Any, arguments: tuple[str, ...]) -> None:
    plan = str(hostile.plan)
    command = [arguments[0], plan, *arguments[1:]] if not arguments[0].startswith("-") else [plan, *arguments]
    shown = in_terminal(hostile, *command)
    harmless(shown)
    if "--json" in arguments:
        json.loads(shown)
    elif "--gate" not in arguments:  # which prints the whole run matrix
        assert max(map(len, shown.splitlines())) < 3000, "a line of 10 kB is told in short"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_every_report_holds_it_as_text_of_its_format(hostile: Any, tmp_path: Path) -> None:
    paths = {suffix: tmp_path / f"out.{suffix}" for suffix in (ending.removeprefix(".") for ending in FORMATS)}
    exports = [part for path in paths.values() for part in ("--export", str(path))]
    harmless(in_terminal(hostile, str(hostile.plan), "--headless", "--no-train", *exports))
    for suffix, path in paths.items():
        text = path.read_bytes().decode("utf-8")
        assert not [ascii(c) for c in (*_HIDDEN, "\x1b") if c in text], suffix
    page = _Tags()
    page.feed(paths["html"].read_text())
    assert "script" not in page.seen and not [name for name in page.attributes if name.startswith("on")]
    assert ElementTree.fromstring(paths["xml"].read_text()).findall("testsuite")  # noqa: S314 - our own
    rows = list(csv.reader(io.StringIO(paths["csv"].read_text())))
    assert len({len(row) for row in rows}) == 1 and len(rows) >= 3
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "@", "+"))]
    assert "<script" not in paths["md"].read_text()
    json.loads(paths["json"].read_text())
