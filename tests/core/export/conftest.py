"""`lora-cli merge` and `export` in this process, on a run of a tiny model or on an adapter of nobody's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from training_kit import TrainingRun

from core.runs.paths import RunPaths


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def lora_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    from core.cli.__main__ import main

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        try:
            code = main([*map(str, arguments)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def run(finished_run: TrainingRun, tmp_path: Path) -> RunPaths:
    """A whole run that may be changed; its sets and model are where they were."""
    where = tmp_path / finished_run.paths.name
    shutil.copytree(finished_run.paths.root, where, symlinks=True)
    return RunPaths(where)
