"""What is easily done wrong is done in one place: signals, kernel locks, the end of a child, the journal's fold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import core

ROOT = Path(core.__file__).parents[1]


@pytest.mark.parametrize(
    ("written", "places", "instead"),
    [
        (
            r"signal\.signal\(",
            # the supervisor ignores SIGHUP, and a worker leaves Ctrl-C to its parent
            {"core/system/process.py", "core/corpus/build.py"},
            "StopSignals",
        ),
        (r"fcntl|\bflock\(|\blockf\(", {"core/system/locks.py"}, "KernelLock"),
        (r"\.terminate\(\)|child\.kill\(\)", {"core/system/process.py"}, "end"),
        (r"prctl|PR_SET_PDEATHSIG", {"core/system/process.py"}, "die_with"),
        (r"cpu_count|sched_getaffinity", {"core/system/process.py"}, "usable_cpus"),
        # follow.py words each record as it comes, and asks the state for what they come to
        (r"case journal\.|isinstance\(.*journal\.", {"core/queue/state.py", "lora_tui/follow.py"}, "QueueState"),
        (r"ctypes\.CDLL\(.*nvidia|import pynvml", {"core/queue/gpu/nvml.py"}, "NvmlReader"),
    ],
)
def test_it_is_done_in_one_place(written: str, places: set[str], instead: str) -> None:
    files = [path for room in ("core", "lora_tui") for path in (ROOT / room).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if re.search(written, path.read_text())}
    assert found <= places, f"use {instead}"
    assert found, "nobody does it any more: this rule may go"
