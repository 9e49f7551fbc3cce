"""A trainer whose folder is moved, replaced or deleted ends, saves where the folder is, and makes nothing anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from training_kit import TrainingRun

from core.runs.events import CheckpointSaved, Event, IntervalScored, Phase, Step
from core.runs.paths import RunPaths
from core.runs.status import Status
from core.training.checkpoint import whole_checkpoints

MOMENTS: dict[str, tuple[type[Event], dict[str, Any]]] = {
    "base model": (Phase, {"phase": "baseline"}),
    "base scored": (IntervalScored, {"step": 0}),
    "step": (Step, {"step": 3}),
    "checkpoint": (CheckpointSaved, {"step": 2}),
    "evaluation": (Phase, {"phase": "evaluating", "step": 4}),
    "saving": (Phase, {"phase": "saving", "step": 4}),
    "lora-cli": (Phase, {"detail": "lora-cli evaluate on heldout"}),
}


def do_at(action: Callable[[], Any], moment: str) -> Callable[[], None]:
    """For `TrainingRun.fork`: the trainer's process does `action` right after the event."""
    kind, fields = MOMENTS[moment]

    def prepare() -> None:
        from core.training.journal import Journal

        emit, done = Journal.emit, []

        def emit_and_act(self: Journal, event: Event) -> None:
            emit(self, event)
            if not done and isinstance(event, kind) and all(getattr(event, k) == v for k, v in fields.items()):
                done.append(event)
                action()

        Journal.emit = emit_and_act  # type: ignore[method-assign]

    return prepare


def moments(wanted: Iterable[str], quick: str) -> list[Any]:
    """Each costs a training: all but one are heavy."""
    return [pytest.param(one, marks=() if one == quick else pytest.mark.heavy) for one in wanted]


@pytest.mark.parametrize("moment", moments(MOMENTS, "checkpoint"))
def test_it_goes_on_where_it_was_moved_to_as_if_undisturbed(
    quick_run: TrainingRun, finished_run: TrainingRun, moment: str
) -> None:
    root: Path = quick_run.folder.root
    there = root.with_name("there")
    assert quick_run.fork(do_at(lambda: root.rename(there), moment)) == 0
    assert not root.exists(), list(root.rglob("*"))
    old, quick_run.paths = quick_run.paths.root, RunPaths(there / quick_run.paths.name)
    assert quick_run.snapshot.state is Status.STOPPED
    assert f"its folder {old} was moved to {quick_run.paths.root}" in quick_run.final.message
    if moment == "step":
        assert whole_checkpoints(quick_run.paths)[-1] == 3, "it saves what it has, where the folder is"
    assert quick_run.fork() == 0, quick_run.log
    assert quick_run.result() == finished_run.result()


@pytest.mark.parametrize("moment", moments(["base model", "step", "saving"], "step"))
def test_a_deleted_folder_is_not_made_again(quick_run: TrainingRun, moment: str) -> None:
    run = quick_run.paths.root
    assert quick_run.fork(do_at(lambda: shutil.rmtree(run), moment)) == 0
    assert not run.exists()


def test_a_folder_in_its_place_is_left_alone(quick_run: TrainingRun) -> None:
    run, there = quick_run.paths.root, quick_run.paths.root.with_name("t-there")

    def replace() -> None:
        shutil.copytree(run, there)
        run.rename(run.with_name("t-before"))
        there.rename(run)

    assert quick_run.fork(do_at(replace, "step")) == 0
    assert whole_checkpoints(quick_run.paths) == [2], "the copy is as it was copied"
    assert whole_checkpoints(RunPaths(run.with_name("t-before")))[-1] == 3
