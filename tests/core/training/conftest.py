"""Fixtures of the tests that compute with torch. One thread, so that results are the same and forks are safe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_kit import QUICK, TrainingRun, opened


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
