from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.errors import RunFolderError
from core.runs.paths import RunPaths
from core.training.checkpoint import (
    META,
    STATE,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    sweep_up,
    whole_checkpoints,
)


class Small:
    """Two parameters and their optimiser."""

    def __init__(self, paths: RunPaths, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.paths = paths
        self.parameters = {"a": nn.Parameter(torch.randn(3, 4)), "b": nn.Parameter(torch.randn(5))}
        self.optimiser = torch.optim.AdamW(list(self.parameters.values()), lr=0.1)

    def train(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            for parameter in self.parameters.values():
                parameter.grad = torch.full_like(parameter, 1.0 / step) * parameter.detach().sign()
            self.optimiser.step()

    def save(self, step: int, plan_hash: str = "plan") -> None:
        save_checkpoint(self.paths, step, self.parameters, self.optimiser, plan_hash)

    def load(self, step: int, plan_hash: str = "plan") -> None:
        load_checkpoint(self.paths, step, self.parameters, self.optimiser, plan_hash)


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(RunPaths(tmp_path))


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(small: Small) -> None:
    small.train(1, 3)
    small.save(3)
    small.train(4, 8)
    resumed = Small(small.paths, seed=1)
    resumed.load(3)
    resumed.train(4, 8)
    for name, parameter in small.parameters.items():
        assert torch.equal(parameter, resumed.parameters[name])


def test_a_checkpoint_without_its_marker_is_not_resumed_from(small: Small) -> None:
    small.train(1, 1)
    for step in (2, 4):
        small.save(step)
    small.paths.checkpoint_marker(4).unlink()
    assert whole_checkpoints(small.paths) == [2]
    # made again, it is whole
    small.save(4)
    assert whole_checkpoints(small.paths) == [2, 4]


def test_nothing_to_resume_from_in_a_new_folder(small: Small) -> None:
    assert whole_checkpoints(small.paths) == []
    prune_checkpoints(small.paths, 2)


def test_pruning_keeps_the_newest_whole_ones_and_sweeps_up_torn_ones(small: Small) -> None:
    for step in (2, 4, 6, 8):
        small.save(step)
    small.paths.checkpoint_marker(8).unlink()
    prune_checkpoints(small.paths, 2)
    assert sorted(entry.name for entry in small.paths.checkpoints.iterdir()) == ["step-000004", "step-000006"]
    prune_checkpoints(small.paths, 0)
    assert whole_checkpoints(small.paths) == []


def test_a_checkpoint_whose_deletion_was_cut_short_does_not_look_whole(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.save(2)
    real = os.unlink

    def unlink(path: Any, **more: Any) -> None:
        if path == STATE:
            raise OSError(errno.EIO, "the disk went away")
        real(path, **more)

    monkeypatch.setattr(os, "unlink", unlink)
    prune_checkpoints(small.paths, 0)
    assert whole_checkpoints(small.paths) == [] and (small.paths.checkpoint(2) / STATE).exists()


@pytest.fixture
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own files, in folders with the names that checkpoints have."""
    top = tmp_path_factory.mktemp("theirs")
    (top / "step-000009").mkdir()
    for name in ("complete", "thesis.tex", "notes.tmp"):
        (top / "step-000009" / name).write_text("years of work")
    return top


def test_pruning_and_sweeping_stay_in_the_run_folder(small: Small, theirs: Path) -> None:
    small.save(2)
    small.paths.checkpoint(9).symlink_to(theirs / "step-000009")
    small.paths.evals.symlink_to(theirs)
    assert whole_checkpoints(small.paths) == [2], "a link is no checkpoint"
    sweep_up(small.paths)
    prune_checkpoints(small.paths, 0)
    assert not small.paths.checkpoint(9).is_symlink()
    assert len(list((theirs / "step-000009").iterdir())) == 3


def test_checkpoints_are_not_written_or_deleted_behind_a_link(small: Small, theirs: Path) -> None:
    small.paths.checkpoints.symlink_to(theirs)
    prune_checkpoints(small.paths, 0)
    with pytest.raises(RunFolderError, match="checkpoints: a link"):
        small.save(9)
    assert len(list((theirs / "step-000009").iterdir())) == 3


def test_a_whole_checkpoint_of_the_step_is_never_taken_apart(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    small.train(1, 1)
    small.save(1)
    before = (small.paths.checkpoint(1) / STATE).stat()

    def killed(*_: Any, **__: Any) -> None:
        raise AssertionError("a kill here would leave a marker without state")

    monkeypatch.setattr(shutil, "rmtree", killed)
    small.save(1)
    assert (small.paths.checkpoint(1) / STATE).stat().st_ino == before.st_ino


def test_a_damaged_checkpoint_is_named_with_what_to_do(small: Small) -> None:
    small.save(2)
    state = small.paths.checkpoint(2) / STATE
    state.write_bytes(state.read_bytes()[:-7])
    with pytest.raises(RunFolderError, match=r"step-000002: damaged .*delete it: the run then goes on"):
        small.load(2)


def test_a_checkpoint_of_another_batch_plan_is_refused(small: Small) -> None:
    small.save(2, "0123456789abcdef")
    assert json.loads((small.paths.checkpoint(2) / META).read_text())["batch_plan"] == "0123456789abcdef"
    with pytest.raises(RunFolderError, match="batch plan 0123456789abcdef, and these libraries plan fedcba"):
        small.load(2, "fedcba")
