"""The forecast of memory against what a trainer takes on this device, with a whole and with a reduced base.

    python -m benchmarks.gpu_checks.forecast cuda|cpu MODEL

Runs of two steps and one evaluation, as `benchmarks.memory` makes them. On a GPU the peak is by how much its free
memory shrank, seen by NVML every 20 ms, so that nobody else may use it; on a CPU the process's largest size. Prints one
JSON object: case → forecast and peak in bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.memory import CASES, kernels_peak, measured
from core.queue.gpu.nvml import NvmlReader

NEAR = 0.3
"""By how much of the peak a forecast may miss it. Its constants were fitted on a CPU."""
_EVERY_S = 0.02
_REDUCED = tuple(
    (f"DoRA on every layer, base in {kind}", ("adapter.target_modules=all-linear", f"train.base_precision={kind}"))
    for kind in ("bf16", "8bit")
)


def gpus_peak(child: subprocess.Popen[bytes]) -> int:
    """The most that the first GPU's free memory shrinks by while the process lives."""
    reader = NvmlReader()
    before = least = _free(reader)
    while child.poll() is None:
        least = min(least, _free(reader))
        time.sleep(_EVERY_S)
    return before - least


def _free(reader: NvmlReader) -> int:
    return reader.read().gpus[0].free or 0


def rows(told: Mapping[str, tuple[int, int]], model: str) -> Iterator[tuple[str, str, str, bool]]:
    """Rows of the table."""
    for case, (forecast, peak) in told.items():
        error = (forecast - peak) / peak
        text = f"forecast {forecast / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB, {error:+.0%}"
        yield f"i. memory of {model}, {case}", text, f"within {NEAR:.0%}", abs(error) <= NEAR


def main() -> int:
    """Cases of `benchmarks.memory`; on a GPU also those with a reduced base."""
    on_cpu, model = sys.argv[1] == "cpu", Path(sys.argv[2])
    cases = {name: CASES[name] for name in ("LoRA on attention", "twice the clips")}
    cases |= {} if on_cpu else {name: (8, 10.0, settings) for name, settings in _REDUCED}
    told = {}
    for name, (clips, seconds, settings) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            peak = kernels_peak if on_cpu else gpus_peak
            told[name] = measured(Path(folder), model, clips, seconds, settings, peak=peak, on_cpu=on_cpu)
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
