"""The real supervisor process, with FakeTrainers: `python fake_supervisor.py RUNS --state STATE`.

Jobs are FakeTrainers, too.
With FAKE_NVML in the environment it asks FakeNvml for GPUs, as if PyTorch were a build with CUDA.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from core.queue.__main__ import supervise
from core.queue.executor import LocalExecutor
from core.queue.gpu.nvml import NvmlReader
from core.queue.slurm.executor import SlurmCluster
from core.runs.paths import RunsFolder

TRAINER = (sys.executable, str(Path(__file__).with_name("fake_trainer.py")))
GRACE_S = 0.5

if __name__ == "__main__":
    runs = RunsFolder(Path(sys.argv[1]), Path(sys.argv[3]))
    devices = None
    if "FAKE_NVML" in os.environ:
        sys.path.insert(0, str(Path(__file__).with_name("fake_nvml")))
        devices = NvmlReader(torch=lambda: "2.13.0").read
    sys.exit(supervise(runs, LocalExecutor(runs, TRAINER, GRACE_S), devices, SlurmCluster(runs, TRAINER)))
