"""The real supervisor process, with FakeTrainers: `python fake_supervisor.py RUNS --state STATE`."""

from __future__ import annotations

import sys
from pathlib import Path

from core.queue.__main__ import supervise
from core.queue.executor import LocalExecutor
from core.runs.paths import RunsFolder

TRAINER = (sys.executable, str(Path(__file__).with_name("fake_trainer.py")))
GRACE_S = 0.5

if __name__ == "__main__":
    runs = RunsFolder(Path(sys.argv[1]), Path(sys.argv[3]))
    sys.exit(supervise(runs, LocalExecutor(runs, TRAINER, GRACE_S)))
