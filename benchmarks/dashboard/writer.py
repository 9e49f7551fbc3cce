"""A process that appends steps to a run as its trainer does, one a second, and notes when: for `traffic`.

    python -m benchmarks.dashboard.writer RUN_DIR FIRST_STEP NOTES

NOTES gets a line for each: the step, the monotonic time before the append, how long it took, how late it was (s).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from core.runs.events import AttemptStarted, Record, Step, encode
from core.runs.files import append_line
from core.runs.paths import RunPaths
from core.runs.process import current_process

EVERY_S = 1.0


def main(run: Path, step: int, notes: Path) -> None:
    """Until it is ended."""
    paths = RunPaths(run)
    started = AttemptStarted(2, current_process().to_json(), step - 1, "cpu", "fp32")
    append_line(paths.events, encode(Record(2, time.time(), started)))
    due = time.monotonic()
    with notes.open("w", buffering=1) as file:
        while True:
            due += EVERY_S
            time.sleep(max(0.0, due - time.monotonic()))
            event = Step(step, 1.0 + 0.1 * (step % 7), 1e-4, 1.0, 500, 74.0, EVERY_S)
            began = time.monotonic()
            append_line(paths.events, encode(Record(2, time.time(), event)))
            file.write(f"{step} {began} {time.monotonic() - began} {began - due}\n")
            step += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
