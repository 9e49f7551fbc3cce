"""`lora-cli` in this process: its exit code, what it prints, what it says on stderr."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest


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
            code = main([*map(str, arguments), "--threads", "1"])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Done(code, *capsys.readouterr())

    return run
