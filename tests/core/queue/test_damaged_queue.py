"""What cannot be read of the queue, or of the machine, costs a word, not the verdict."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from queue_scene import Scene

from core.queue.report import report
from core.system import process

CRASHED = "its trainer was killed or died without a word while it was training at step 3"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "FIFO"])
def test_runs_are_judged_where_the_queue_cannot_be_read(scene: Scene, make: Callable[[Path], None]) -> None:
    scene.attempt("crash")
    [row] = report(scene.execution(), {})
    assert (row.status, row.reason) == ("queued", scene.entry().reason)
    scene.folder.runs.queue_db.unlink()
    make(scene.folder.runs.queue_db)
    [row] = report(scene.execution(), {})
    assert (row.status, row.reason) == ("crashed", CRASHED)
    scene.folder.runs.decisions.unlink()
    scene.folder.runs.decisions.mkdir()
    [row] = report(scene.execution(), {})
    assert (row.status, row.reason) == ("crashed", CRASHED)


def test_runs_are_judged_where_there_is_no_proc(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.attempt("crash")
    monkeypatch.setattr(process, "_stat", lambda pid: None)
    with pytest.raises(RuntimeError):
        process.current_process()
    [row] = report(scene.execution(), {})
    assert (row.status, row.reason) == ("queued", f"crashed before ({CRASHED}), is started again")
    scene.start()
    scene.train("crash")
    [row] = report(scene.execution(), {})
    assert row.status == "crashed", "an end that is not written down counts too"


@pytest.mark.parametrize(
    "fields",
    [
        {"decision": "wish", "wish": "retry", "row": ["a"]},
        {"decision": "halve", "run": "a-1", "accumulation": "two"},
        {"decision": "devices", "gpus": ["GPU-0"], "submission": None},
        {"decision": "start", "row": "a", "run": "a-1", "gpu": {}},
        {"decision": "start", "row": "a", "run": "a-1", "attempts_before": "none", "process": {"pid": 1}},
        {"decision": "run", "row": "a", "run": "../../elsewhere"},
        {"decision": "run", "row": "a", "run": "a\0b"},
        {"decision": "run", "row": "a", "run": "a\ud800"},
        {"decision": "run", "row": "a", "run": "a-1", "time": 10**400},
    ],
)
def test_a_line_of_the_decisions_that_cannot_be_meant_is_passed_over(scene: Scene, fields: dict[str, Any]) -> None:
    scene.attempt("crash")
    before = scene.entry()
    line = {"schema": 1, "time": 1.0, "submission": scene.submission.id} | fields
    with scene.folder.runs.decisions.open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.write("[" * 100_000 + "\n")
    assert scene.entry() == before
    [row] = report(scene.execution(), {})
    assert (row.status, row.reason) == ("queued", before.reason)
