"""A process that appends steps to a run through the trainer's own journal, one a second, and notes when: for `traffic`.

    python -m benchmarks.dashboard.writer RUN_DIR FIRST_STEP NOTES

NOTES gets a line for each: the step, the monotonic time before the append, how long it took, how late it was (s).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from core.runs.events import AttemptStarted, Step
from core.runs.paths import RunPaths
from core.system.process import current_process
from core.training.journal import Journal

EVERY_S = 1.0


def main(run: Path, step: int, notes: Path) -> None:
    """Until it is ended."""
    due = time.monotonic()
    with Journal(RunPaths(run).events, 2) as journal, notes.open("w", buffering=1) as file:
        journal.emit(AttemptStarted(1, current_process().to_json(), step - 1, "cpu", "fp32"))
        while True:
            due += EVERY_S
            time.sleep(max(0.0, due - time.monotonic()))
            event = Step(step, 1.0 + 0.1 * (step % 7), 1e-4, 1.0, 500, 74.0, EVERY_S)
            began = time.monotonic()
            journal.emit(event)
            file.write(f"{step} {began} {time.monotonic() - began} {began - due}\n")
            step += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
