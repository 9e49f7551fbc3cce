"""`lora-cli` in this process, on one thread."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lora_cli_kit import Done, in_this_process


@pytest.fixture
def lora_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    return in_this_process(capsys, "--threads", "1")
