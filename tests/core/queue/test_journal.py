"""The queue's journal: records as they stand in the file, and what stands there that is none."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from core.errors import RunFolderError, is_disk_full
from core.queue import journal
from core.queue.journal import Journal, JournalReader, decode, encode, records

PROCESS = {"machine": "m", "boot": "b", "pid_namespace": "pid:[1]", "pid": 7, "start_time": 9}
OF_VERSION_1: tuple[tuple[str, dict[str, Any]], ...] = (
    ("supervisor_started", {"process": PROCESS}),
    ("supervisor_stopping", {}),
    ("supervisor_ended", {"reason": "told to stop"}),
    ("submitted", {"submission": "s", "plan": "/p.toml", "overrides": ["a=1"], "only": []}),
    ("run", {"submission": "s", "row": "a", "run": "a-1"}),
    ("devices", {"gpus": {"GPU-a": "GPU 0"}, "note": ""}),
    (
        "start",
        {"submission": "s", "row": "a", "run": "a-1", "reason": "first", "inputs": {"b:done": True}}
        | {"attempts_before": 0, "process": PROCESS, "gpu": None},
    ),
    (
        "adopt",
        {"submission": "s", "row": "a", "run": "a-1", "reason": "it runs already", "inputs": {}}
        | {"attempts_before": 1, "process": None, "gpu": "GPU-a"},
    ),
    ("job", {"submission": "s", "run": "a-1", "job": "12", "state": "PENDING", "reason": "Priority", "expected": 2.5}),
    (
        "exit",
        {"submission": "s", "run": "a-1", "outcome": "crashed", "asked": True, "message": "", "status": -9},
    ),
    ("skip", {"submission": "s", "row": "b", "status": "skipped", "reason": "its condition", "inputs": {"a:done": 1}}),
    ("wait", {"submission": "s", "reason": "paused", "over": False}),
    ("wish", {"wish": "stop", "submission": "s", "row": None, "run": None}),
    ("halve", {"submission": "s", "row": "a", "run": "a-1", "accumulation": 4}),
    ("stop", {"submission": "s", "row": "a", "run": "a-1", "reason": "b was accepted"}),
    ("pause", {"cause": "disk", "reason": "the disk is full", "bytes": 5}),
    ("resume", {"reason": "there is space"}),
    ("finish", {"submission": "s", "complete": True, "reason": "all done", "not_run": {"b": "skipped"}}),
    ("sink", {"run": "a-1", "sink": "wandb", "message": "no network"}),
)


@pytest.mark.parametrize(("kind", "fields"), OF_VERSION_1, ids=[kind for kind, _ in OF_VERSION_1])
def test_lines_of_the_first_version_are_read_and_still_written(kind: str, fields: dict[str, Any]) -> None:
    line = {"schema": 1, "time": 1.5, "decision": kind, **fields}
    record = decode(json.dumps(line).encode())
    assert record is not None and (record.kind, record.time) == (kind, 1.5)
    written = json.loads(encode(record))
    assert list(written)[:3] == ["schema", "time", "decision"]
    assert written.items() >= line.items()


def test_every_kind_of_record_is_looked_at() -> None:
    assert [kind.__struct_config__.tag for kind in journal.KINDS] == [kind for kind, _ in OF_VERSION_1]


@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b"not json",
        b"\xff",
        b'{"decision": "start"}',
        b'{"decision": "of a later version", "time": 1}',
        b'{"decision": "wish", "time": 1, "wish": "retry", "row": ["a"]}',
        b'{"decision": "halve", "time": 1, "run": "a-1", "accumulation": "two"}',
        b'{"decision": "devices", "time": 1, "gpus": ["GPU-0"]}',
        b'{"decision": "start", "time": 1, "run": "a-1", "gpu": {}}',
        b'{"decision": "run", "time": 1, "row": "a", "run": "../../elsewhere"}',
        b'{"decision": "run", "time": 1, "row": "a", "run": ".."}',
        b'{"decision": "run", "time": 1, "row": "a", "run": "a\\u0000b"}',
        b'{"decision": "run", "time": 1, "row": "a", "run": "a\\ud800"}',
        b'{"decision": "run", "time": -1, "row": "a", "run": "a-1"}',
        b'{"decision": "run", "time": 1e12, "row": "a", "run": "a-1"}',
        b'{"decision": "run", "time": 1' + 400 * b"0" + b', "row": "a", "run": "a-1"}',
        b'{"decision": "run", "time": NaN, "row": "a", "run": "a-1"}',
        b'{"decision": "job", "time": 1, "run": "a-1", "expected": 1e20}',
        b'{"decision": "job", "time": 1, "run": "a-1", "expected": -1}',
        b'{"decision": "job", "time": 1, "run": "a-1", "expected": NaN}',
        b'{"decision": "job", "time": 1, "run": "a-1", "expected": -Infinity}',
        b'{"decision": "start", "time": 1, "inputs": ' + 100_000 * b"[" + 100_000 * b"]" + b"}",
    ],
)
def test_a_line_that_cannot_be_meant_is_passed_over(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(line + b'\n{"decision": "exit", "time": 1}\n')
    assert [record.kind for record in records(path)] == ["exit"]


def test_fields_that_no_program_of_ours_writes_cost_nothing() -> None:
    record = decode(b'{"decision": "exit", "time": 1, "run": "a-1", "message": null, "of a later version": [1]}')
    assert record == journal.Exit(time=1.0, run="a-1")


def test_a_path_that_is_not_utf_8_survives(tmp_path: Path) -> None:
    log = Journal(tmp_path / "decisions.jsonl")
    written = log.append(journal.Submitted(submission="s", plan="/plans/\udcff.toml"))
    assert list(records(log.path)) == [written]


def test_records_are_read_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "decisions.jsonl"
    log, reader = Journal(path), JournalReader(path)
    assert reader.read() == []
    started = log.append(journal.Start(run="a-1", inputs={"2.1:stable": True}))
    with path.open("ab") as file:
        file.write(b'{"torn')
    assert reader.read() == [started]
    ended = Journal(path).append(journal.Exit(run="a-1"))
    assert reader.read() == [ended] and not reader.anew
    path.write_bytes(encode(ended))
    assert reader.read() == [ended] and reader.anew, "the file holds another past by now"
    assert list(records(path, 1 << 16)) == list(records(path)) == [ended]


def test_a_full_disk_leaves_no_half_record(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    log = Journal(path)
    log.append(journal.Start(run="a"))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
    try:
        with pytest.raises(OSError) as caught:
            log.append(journal.Exit(run="a"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_disk_full(caught.value) and path.read_bytes() == before


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    assert list(records(path)) == list(records(path, 1 << 16)) == JournalReader(path).read() == []
    path.mkdir()
    for last_bytes in (None, 1 << 16):
        with pytest.raises(RunFolderError, match="move it away"):
            list(records(path, last_bytes))
