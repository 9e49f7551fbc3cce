"""Evidence is gathered and judged at one place: no face can come to another verdict than the gate."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_nobody_else_gathers_or_judges() -> None:
    call = re.compile(r"(?<![\w.])(gather|judge)\(")
    sites = {
        path.relative_to(ROOT).as_posix()
        for room in ("core", "lora_tui")
        for path in (ROOT / room).rglob("*.py")
        for line in path.read_text().splitlines()
        if call.search(line) and not line.startswith("def ")
    }
    assert sites == {"core/runs/judged.py"}
