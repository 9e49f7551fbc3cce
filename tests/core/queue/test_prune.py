"""What is deleted of ended runs, and what no more, once somebody has tried them again."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder

from core.queue.prune import prunable, prune
from core.runs.events import SCHEMA_VERSION, AttemptStarted, CheckpointSaved, Event, Final, Record, Step, encode
from core.runs.paths import RunPaths
from core.system.files import append_line


@pytest.fixture
def diverged(folder: PlanFolder) -> RunPaths:
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
    folder: PlanFolder, diverged: RunPaths, dead: dict[str, Any]
) -> None:
    agreed = prunable(diverged)
    assert agreed is not None
    tried_again(diverged, dead, "stopped")
    assert not prune(folder.runs, agreed)
    assert diverged.checkpoint_marker(5).exists() and diverged.checkpoint_marker(6).exists()


def test_no_more_is_deleted_than_was_agreed_to(folder: PlanFolder, diverged: RunPaths, dead: dict[str, Any]) -> None:
    agreed = prunable(diverged)
    assert agreed is not None
    tried_again(diverged, dead, "diverged")
    assert prune(folder.runs, agreed)
    assert not diverged.checkpoint(5).exists() and diverged.checkpoint_marker(6).exists()


def test_what_another_has_deleted_meanwhile_is_not_said_to_be_freed(folder: PlanFolder, diverged: RunPaths) -> None:
    agreed = prunable(diverged)
    assert agreed is not None
    assert prune(folder.runs, agreed) and not prune(folder.runs, agreed)


def test_what_cannot_be_deleted_is_named_and_not_counted_as_freed(folder: PlanFolder, diverged: RunPaths) -> None:
    (diverged.checkpoint(5) / "state.safetensors").write_bytes(b"x" * 1000)
    deep = diverged.checkpoint(6).joinpath(*"d" * 100)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x" * 1000)
    agreed = prunable(diverged)
    assert agreed is not None
    pruned = prune(folder.runs, agreed)
    assert pruned is not None and pruned.freed == 1000 + len("whole\n")
    [left] = pruned.left
    assert left == f"{diverged.checkpoint(6)}: cannot be deleted: folders in it are nested too deep"


@pytest.fixture
def thesis(tmp_path: Path) -> Path:
    """A user's own file, in a folder with the names that a checkpoint has."""
    file = tmp_path / "theirs" / "step-000005" / "state.tmp"
    file.parent.mkdir(parents=True)
    file.write_text("years of work")
    (file.parent / "complete").write_text("whole\n")
    return file


def test_a_checkpoint_that_is_a_link_goes_as_a_link(folder: PlanFolder, diverged: RunPaths, thesis: Path) -> None:
    diverged.checkpoint(6).symlink_to(thesis.parent)
    agreed = prunable(diverged)
    assert agreed is not None and agreed.size < 1000
    assert prune(folder.runs, agreed)
    assert not diverged.checkpoint(6).is_symlink() and not diverged.checkpoint(5).exists()
    assert thesis.exists() and (thesis.parent / "complete").exists()


def test_a_folder_of_checkpoints_that_is_a_link_is_left(folder: PlanFolder, diverged: RunPaths, thesis: Path) -> None:
    shutil.rmtree(diverged.checkpoints)
    diverged.checkpoints.symlink_to(thesis.parents[1])
    (diverged.root / "evals").mkdir(exist_ok=True)
    (diverged.root / "evals" / "step-000001").symlink_to(thesis.parent)
    agreed = prunable(diverged, adapters=True)
    assert agreed is None or not prune(folder.runs, agreed)
    assert thesis.exists() and (thesis.parent / "complete").exists()


def test_a_run_folder_that_is_a_link_is_not_pruned(folder: PlanFolder, diverged: RunPaths, tmp_path: Path) -> None:
    elsewhere = diverged.root.rename(tmp_path / "elsewhere")
    diverged.root.symlink_to(elsewhere)
    assert prunable(diverged) is None
    assert RunPaths(elsewhere).checkpoint_marker(5).exists()


def test_a_link_made_after_the_look_is_not_followed(folder: PlanFolder, diverged: RunPaths, thesis: Path) -> None:
    agreed = prunable(diverged)
    assert agreed is not None
    shutil.rmtree(diverged.checkpoints)
    diverged.checkpoints.symlink_to(thesis.parents[1])
    prune(folder.runs, agreed)
    assert thesis.exists()


@pytest.mark.parametrize("elsewhere", [True, False], ids=["leads elsewhere", "missing"])
def test_adapters_stay_while_a_link_does_not_tell_which(folder: PlanFolder, thesis: Path, elsewhere: bool) -> None:
    folder.write()
    folder.script(a=["done"])
    folder.work()
    run: RunPaths = folder.run("a")
    for step in (700, 800):
        run.adapter(step).mkdir(parents=True)
    run.best.unlink()
    if elsewhere:
        run.best.symlink_to(thesis.parent)
    agreed = prunable(run, adapters=True)
    assert agreed is None or not [path for path in agreed.paths if run.adapters in path.parents]
