"""The real command `lora-tui`, with a supervisor whose trainers are FakeTrainers."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from lora_tui import headless
from lora_tui.__main__ import main

SUPERVISOR = Path(__file__).parents[1] / "core" / "queue" / "fake_supervisor.py"
_request_of = headless.request_of


def request_of(args: argparse.Namespace) -> headless.Request:
    return replace(_request_of(args), supervisor=(sys.executable, str(SUPERVISOR)))


if __name__ == "__main__":
    headless.request_of = request_of
    sys.exit(main())
