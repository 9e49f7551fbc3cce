"""CPU, memory and GPUs of this machine, as psutil and NVML tell them. What cannot be told is None, never 0."""

from __future__ import annotations

from dataclasses import dataclass

from core.queue.gpu.choice import GIB, Gpu
from core.queue.gpu.nvml import NvmlReader


@dataclass(frozen=True, slots=True)
class Resources:
    """The machine at one moment."""

    cpu_percent: int | None = None
    memory_used_gib: float | None = None
    memory_total_gib: float | None = None
    gpus: tuple[Gpu, ...] = ()

    def text(self) -> str:
        """`GPU 87 % 12.1/80.0 GiB · CPU 43 % · memory 3.1/7.8 GiB`."""
        gpus = [f"GPU {_percent(g.busy_percent)} {_memory(g)}" for g in self.gpus] or ["GPU n/a"]
        memory = _of(self.memory_used_gib, self.memory_total_gib)
        return " · ".join([*gpus, f"CPU {_percent(self.cpu_percent)}", f"memory {memory}"])

    def short(self) -> str:
        """`GPU 87 % · CPU 43 % · 3.1/7.8 GiB`."""
        gpus = [f"GPU {_percent(g.busy_percent)}" for g in self.gpus[:1]] or ["GPU n/a"]
        memory = _of(self.memory_used_gib, self.memory_total_gib)
        return " · ".join([*gpus, f"CPU {_percent(self.cpu_percent)}", memory])


def _memory(gpu: Gpu) -> str:
    if gpu.total is None or gpu.free is None:
        return _of(None, None)
    return _of((gpu.total - gpu.free) / GIB, gpu.total / GIB)


def _percent(value: int | None) -> str:
    return "n/a" if value is None else f"{value} %"


def _of(used: float | None, total: float | None) -> str:
    return "n/a" if used is None or total is None else f"{used:.1f}/{total:.1f} GiB"


class ResourceReader:
    """Reads; the CPU figure is the mean since the last call. GPUs are those that trainers may run on."""

    def __init__(self, nvml: NvmlReader | None = None) -> None:
        self._nvml = nvml or NvmlReader()
        self._counts_cpu = False

    def read(self) -> Resources:
        """The machine now. Never raises: it is the least important thing on the screen."""
        devices = self._nvml.read()
        used, total = _memory_now()
        return Resources(self._cpu_percent(), used, total, (*devices.gpus, *devices.troubled))

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
    return round((memory.total - memory.available) / GIB, 1), round(memory.total / GIB, 1)
