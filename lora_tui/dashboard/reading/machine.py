"""CPU, memory and GPUs of this machine, as psutil and NVML tell them, and how they were lately.

What cannot be told is None, never 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.queue.gpu.choice import Gpu
    from core.queue.gpu.nvml import NvmlReader

# what looks at GPUs is imported when a machine is read: snapshots of none are part of the first frame
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Resources:
    """The machine at one moment."""

    cpu_percent: int | None = None
    memory_used_gib: float | None = None
    memory_total_gib: float | None = None
    gpus: tuple[Gpu, ...] = ()

    cpu_history: tuple[int, ...] = ()
    """Percent, the newest last: as often as it was measured, which is while something trains."""
    memory_history: tuple[int, ...] = ()
    gpu_history: tuple[tuple[int, ...], ...] = ()
    """Of each of `gpus`."""

    def text(self, cells: int = 0) -> str:
        """`GPU 87 % 12.1/80.0 GiB · CPU 43 % · memory 3.1/7.8 GiB`; `cells` of a sparkline before each figure."""
        histories = self.gpu_history or ((),) * len(self.gpus)
        gpus = [
            f"GPU {sparkline(history, cells)}{_percent(gpu.busy_percent)} {_memory(gpu)}"
            for gpu, history in zip(self.gpus, histories, strict=False)
        ] or ["GPU n/a"]
        memory = _of(self.memory_used_gib, self.memory_total_gib)
        cpu = f"CPU {sparkline(self.cpu_history, cells)}{_percent(self.cpu_percent)}"
        return " · ".join([*gpus, cpu, f"memory {sparkline(self.memory_history, cells)}{memory}"])

    def short(self) -> str:
        """`GPU 87 % · CPU 43 % · 3.1/7.8 GiB`."""
        gpus = [f"GPU {_percent(g.busy_percent)}" for g in self.gpus[:1]] or ["GPU n/a"]
        memory = _of(self.memory_used_gib, self.memory_total_gib)
        return " · ".join([*gpus, f"CPU {_percent(self.cpu_percent)}", memory])


_BARS = "▁▂▃▄▅▆▇█"
HISTORY = 300
"""Measurements that are kept: ten minutes of them."""


def sparkline(percents: Sequence[int], cells: int) -> str:
    """The last measurements as bars between 0 and 100 %, each the mean of a few, and a blank; nothing without them."""
    if cells <= 0 or len(percents) < 2:
        return ""
    each = -(-len(percents) // cells)
    parts = [percents[max(0, end - each) : end] for end in range(len(percents), 0, -each)]
    means = [sum(part) / len(part) for part in reversed(parts)]
    return "".join(_BARS[min(max(0, int(mean * len(_BARS) / 100)), len(_BARS) - 1)] for mean in means) + " "


def _memory(gpu: Gpu) -> str:
    if gpu.total is None or gpu.free is None:
        return _of(None, None)
    return _of((gpu.total - gpu.free) / _GIB, gpu.total / _GIB)


def _percent(value: int | None) -> str:
    return "n/a" if value is None else f"{value} %"


def _of(used: float | None, total: float | None) -> str:
    return "n/a" if used is None or total is None else f"{used:.1f}/{total:.1f} GiB"


class ResourceReader:
    """Reads; the CPU figure is the mean since the last call. GPUs are those that trainers may run on."""

    def __init__(self, nvml: NvmlReader | None = None) -> None:
        from core.queue.gpu.nvml import NvmlReader

        self._nvml = nvml or NvmlReader()
        self._counts_cpu = False
        self._cpu: deque[int] = deque(maxlen=HISTORY)
        self._memory: deque[int] = deque(maxlen=HISTORY)
        self._gpus: list[deque[int]] = []

    def read(self) -> Resources:
        """The machine now. Never raises: it is the least important thing on the screen."""
        devices = self._nvml.read()
        used, total = _memory_now()
        cpu, gpus = self._cpu_percent(), (*devices.gpus, *devices.troubled)
        if cpu is not None:
            self._cpu.append(cpu)
        if used is not None and total:
            self._memory.append(round(100 * used / total))
        if len(gpus) != len(self._gpus):
            self._gpus = [deque(maxlen=HISTORY) for _ in gpus]
        for history, gpu in zip(self._gpus, gpus, strict=True):
            if gpu.busy_percent is not None:
                history.append(gpu.busy_percent)
        histories = tuple(map(tuple, self._gpus))
        return Resources(cpu, used, total, gpus, tuple(self._cpu), tuple(self._memory), histories)

    def _cpu_percent(self) -> int | None:
        import psutil  # not before the first frame

        try:
            percent = psutil.cpu_percent()
        except (OSError, ValueError):
            return None
        known, self._counts_cpu = self._counts_cpu, True
        return round(percent) if known else None


def _memory_now() -> tuple[float | None, float | None]:
    """Memory of the machine (used, total) in GiB."""
    import psutil

    try:
        memory = psutil.virtual_memory()
    except (OSError, ValueError, KeyError):
        return None, None
    # To what is shown: a change that nobody sees is none.
    return round((memory.total - memory.available) / _GIB, 1), round(memory.total / _GIB, 1)
