"""`lora-cli merge` and `export` in this process, on a run of a tiny model or on an adapter of nobody's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lora_cli_kit import Done, in_this_process
from training_kit import TrainingRun

from core.runs.paths import RunPaths


@pytest.fixture
def lora_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    return in_this_process(capsys)


@pytest.fixture
def run(finished_run: TrainingRun, tmp_path: Path) -> RunPaths:
    """A whole run that may be changed; its sets and model are where they were."""
    where = tmp_path / finished_run.paths.name
    shutil.copytree(finished_run.paths.root, where, symlinks=True)
    return RunPaths(where)
