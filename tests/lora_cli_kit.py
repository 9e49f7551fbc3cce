"""`lora-cli` in this process: its exit code, what it prints, what it says on stderr."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest


class Done(NamedTuple):
    code: int
    out: str
    err: str


def in_this_process(capsys: pytest.CaptureFixture[str], *always: str) -> Callable[..., Done]:
    """Runs the command with the arguments that it is given, and `always` these."""
    import torch

    from core.cli.__main__ import main

    torch.set_num_threads(1)

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        try:
            code = main([*map(str, arguments), *always])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Done(code, *capsys.readouterr())

    return run
