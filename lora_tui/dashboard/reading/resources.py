"""CPU, memory and GPUs of this machine, as psutil and NVML tell them."""

from __future__ import annotations

from core.queue.gpu.choice import GIB
from core.queue.gpu.nvml import NvmlReader
from lora_tui.dashboard.reading.machine import Resources


class ResourceReader:
    """Reads; the CPU figure is the mean since the last call. GPUs are those that trainers may run on."""

    def __init__(self, nvml: NvmlReader | None = None) -> None:
        self._nvml = nvml or NvmlReader()
        self._counts_cpu = False

    def read(self) -> Resources:
        """The machine now. Never raises: it is the least important thing on the screen."""
        devices = self._nvml.read()
        used, total = _memory()
        return Resources(self._cpu_percent(), used, total, (*devices.gpus, *devices.troubled))

    def _cpu_percent(self) -> int | None:
        import psutil  # not before the first frame

        try:
            percent = psutil.cpu_percent()
        except (OSError, ValueError):
            return None
        known, self._counts_cpu = self._counts_cpu, True
        return round(percent) if known else None


def _memory() -> tuple[float | None, float | None]:
    """(used, total) in GiB."""
    import psutil

    try:
        memory = psutil.virtual_memory()
    except (OSError, ValueError, KeyError):
        return None, None
    # To what is shown: a change that nobody sees is none.
    return round((memory.total - memory.available) / GIB, 1), round(memory.total / GIB, 1)
