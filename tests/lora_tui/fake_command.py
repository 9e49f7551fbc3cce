"""The real command `lora-tui`, with a supervisor whose trainers are FakeTrainers."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from lora_tui import request
from lora_tui.__main__ import main

SUPERVISOR = Path(__file__).parents[1] / "core" / "queue" / "fake_supervisor.py"
_request_of = request.request_of


def request_of(args: argparse.Namespace) -> request.Request:
    return replace(_request_of(args), supervisor=(sys.executable, str(SUPERVISOR)))


if __name__ == "__main__":
    request.request_of = request_of
    sys.exit(main())
