"""Fixtures of the tests that compute with torch. One thread, so that results are the same and forks are safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_kit import QUICK, TrainingRun, in_process_trainer, opened

from core.training.batching import MicroBatch, TrainingPlan


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function: manifest path → (manifest, clips), decoded once."""
    folder = tmp_path_factory.mktemp("decoded")
    known: dict[Path, Any] = {}

    def get(path: Path) -> Any:
        if path not in known:
            known[path] = opened(path, folder)
        return known[path]

    return get


@pytest.fixture
def quick_run(tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]) -> TrainingRun:
    """A run of its own with the settings of `finished_run`, not started."""
    return TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK)


@pytest.fixture
def two_devices(tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]) -> TrainingRun:
    """A run of its own with the settings of `finished_on_two`, not started."""
    return TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "train.devices=2")


@pytest.fixture
def make(tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]) -> Any:
    """A trainer with some settings changed, and with micro-batches of its own if they are given."""

    def trainer(*settings: str, steps: Sequence[Sequence[MicroBatch]] = ()) -> Any:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        made = in_process_trainer(TrainingRun(folder, tiny_moonshine, quick_sets, *QUICK, *settings))
        if steps:
            plan = TrainingPlan(tuple(map(tuple, steps)), "made up", 1.0, 1.0)
            made.materials = replace(made.materials, plan=plan)
        return made

    return trainer
