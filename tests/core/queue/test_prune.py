"""What is deleted of ended runs, and what no more, once somebody has tried them again."""

from __future__ import annotations

import time
from typing import Any

import pytest

from core.queue.prune import prunable, prune
from core.runs.events import SCHEMA_VERSION, AttemptStarted, CheckpointSaved, Event, Final, Record, Step, encode
from core.runs.files import append_line
from core.runs.paths import RunPaths


@pytest.fixture
def diverged(folder: Any) -> RunPaths:
    """A run that has failed for good, with a checkpoint."""
    folder.write()
    folder.script(a=["diverge"])
    folder.work()
    run: RunPaths = folder.run("a")
    checkpoint(run, 5)
    return run


def checkpoint(run: RunPaths, step: int) -> None:
    run.checkpoint(step).mkdir(parents=True)
    run.checkpoint_marker(step).write_text("whole\n")


def tried_again(run: RunPaths, process: dict[str, Any], outcome: str) -> None:
    """As `queue retry` and a trainer that goes on from the checkpoint of step 5 leave it."""
    started = AttemptStarted(SCHEMA_VERSION, process, 5, "cpu", "fp32")
    events: list[Event] = [started, Step(6, 1.0, 1e-4, 1.0, 100, 60.0, 0.001), CheckpointSaved(6)]
    for event in (*events, Final(outcome, "", 6)):
        append_line(run.events, encode(Record(2, time.time(), event)))
    checkpoint(run, 6)


def test_a_run_that_goes_on_since_it_was_looked_at_keeps_its_checkpoints(
    folder: Any, diverged: RunPaths, dead: dict[str, Any]
) -> None:
    agreed = prunable(diverged)
    assert agreed is not None
    tried_again(diverged, dead, "stopped")
    assert not prune(folder.runs, agreed)
    assert diverged.checkpoint_marker(5).exists() and diverged.checkpoint_marker(6).exists()


def test_no_more_is_deleted_than_was_agreed_to(folder: Any, diverged: RunPaths, dead: dict[str, Any]) -> None:
    agreed = prunable(diverged)
    assert agreed is not None
    tried_again(diverged, dead, "diverged")
    assert prune(folder.runs, agreed)
    assert not diverged.checkpoint(5).exists() and diverged.checkpoint_marker(6).exists()


def test_what_another_has_deleted_meanwhile_is_not_said_to_be_freed(folder: Any, diverged: RunPaths) -> None:
    agreed = prunable(diverged)
    assert agreed is not None
    assert prune(folder.runs, agreed) and not prune(folder.runs, agreed)
