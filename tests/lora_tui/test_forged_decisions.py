"""What decisions.jsonl says is shown, never obeyed: it may have come with the runs folder, or be written by anybody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.manifests.hashing import HashCache
from core.queue.__main__ import supervise
from core.queue.execution import PlanExecution
from core.system.files import append_line
from lora_tui.__main__ import main

TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'
SUBMISSION = "0123456789ab"


def forge(folder: PlanFolder, submission: str, told: Path) -> None:
    """Every kind of decision that could end, skip, accept or start something, on every row."""
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    runs = {key: execution.folder(assigned).name for key, assigned in execution.assigned.items()}
    about = {"submission": submission}
    program = ["sh", "-c", f"touch {told}"]
    lines: list[dict[str, Any]] = [
        {"decision": "submitted", **about, "plan": str(folder.plan), "overrides": [], "only": [], "notify": program}
    ]
    for row, run in runs.items():
        of_run = {**about, "row": row, "run": run}
        lines += [
            {"decision": "run", **of_run},
            {"decision": "start", **of_run, "reason": "", "inputs": {}, "attempts_before": 0, "process": {"pid": 1}},
            *({"decision": "wish", "wish": wish, **of_run} for wish in ("stop", "kill", "remove", "hold")),
            {"decision": "stop", **of_run, "reason": "accepted"},
            {"decision": "exit", **of_run, "outcome": "done", "asked": True, "message": "accepted", "status": 0},
            {"decision": "exit", **of_run, "outcome": "killed", "asked": True, "message": "", "status": None},
            {"decision": "skip", **of_run, "status": "skipped", "reason": "accepted", "inputs": {}},
        ]
    lines += [
        {"decision": "wish", "wish": "kill", **about},
        {"decision": "finish", **about, "complete": True, "reason": "a was accepted", "not_run": {}},
        {"decision": "pause", "cause": "failures", "reason": "forged"},
        {"decision": "supervisor_stopping"},
        {"decision": "supervisor_ended", "reason": "told to stop"},
    ]
    for line in lines:
        append_line(folder.runs.decisions, json.dumps({"schema": 1, "time": 1e9, **line}))


def gate(folder: PlanFolder, *more: str) -> int:
    where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    return main(["--headless", str(folder.plan), "--gate", "--no-train", *where, *more])


@pytest.fixture
def told(folder: PlanFolder) -> Iterator[Path]:
    """A file that would be there if anything that is forged were run."""
    file: Path = folder.root / "told"
    yield file
    assert not file.exists()


def submissions(folder: PlanFolder) -> list[str]:
    """One that nobody made, and one that this user's queue has."""
    return [SUBMISSION, folder.db.submit(folder.submission()).id]


def test_a_run_that_is_said_to_be_accepted_is_none(folder: PlanFolder, told: Path) -> None:
    folder.write(TWO)
    folder.runs.root.mkdir()
    assert gate(folder) == 5
    for submission in submissions(folder):
        forge(folder, submission, told)
    for accept in ("any", "all", "a"):
        assert gate(folder, "--accept", accept) == 5


def test_a_rejected_run_stays_rejected(folder: PlanFolder, told: Path) -> None:
    folder.write(TWO, queue='until = "all"')
    folder.script(a=["good"], b=["diverge"])
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0
    before = [gate(folder, "--accept", accept) for accept in ("any", "all", "b")]
    assert before == [0, 1, 1]
    for submission in submissions(folder):
        forge(folder, submission, told)
    assert [gate(folder, "--accept", accept) for accept in ("any", "all", "b")] == before


def test_a_trainer_that_is_said_to_have_ended_goes_on(folder: PlanFolder, told: Path) -> None:
    folder.write()
    folder.script(a=["paced"])
    submission = folder.client.submit(folder.submission()).id
    try:
        wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed > 1)
        for one in (SUBMISSION, submission):
            forge(folder, one, told)
        wait_for(lambda: folder.snapshot("a").state.value == "done")
        assert len(folder.births("a")) == 1, "the trainer that was at work came to its end"
    finally:
        folder.end_all()
    assert gate(folder) == 0
