"""CPU, memory and GPU of this machine, read from /proc and NVML."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from lora_tui.dashboard.machine import Gpu, Resources


class ResourceReader:
    """Reads; the CPU figure is the mean since the last call."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._nvml: _Nvml | None = None
        self._opened = False
        self._cpu: tuple[int, int] | None = None

    def read(self) -> Resources:
        """The machine now. Never raises: it is the least important thing on the screen."""
        if not self._opened:
            self._opened = True
            self._nvml = _Nvml.open()
        used, total = self._memory()
        return Resources(self._cpu_percent(), used, total, self._nvml.gpus() if self._nvml is not None else ())

    def _cpu_percent(self) -> int | None:
        try:
            fields = [int(f) for f in (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        now = sum(fields), fields[3] + fields[4]
        before, self._cpu = self._cpu, now
        if before is None or now[0] <= before[0]:
            return None
        return round(100 * (1 - (now[1] - before[1]) / (now[0] - before[0])))

    def _memory(self) -> tuple[float | None, float | None]:
        try:
            lines = (self._proc / "meminfo").read_text().splitlines()
            kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
            total, free = kib["MemTotal"] / 2**20, kib["MemAvailable"] / 2**20
        except (OSError, ValueError, KeyError):
            return None, None
        # To what is shown: a change that nobody sees is none.
        return round(total - free, 1), round(total, 1)


class _Utilisation(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Nvml:
    """The five calls of NVIDIA's management library that it takes; no package is needed for them."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    @classmethod
    def open(cls) -> _Nvml | None:
        """None without a driver, or where the driver does not answer."""
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
            return cls(library) if library.nvmlInit_v2() == 0 else None
        except (OSError, AttributeError):
            return None

    def gpus(self) -> tuple[Gpu, ...]:
        """The visible GPUs."""
        count = ctypes.c_uint()
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return ()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        wanted = {int(n) for n in visible.split(",") if n.strip().isdigit()} or set(range(count.value))
        return tuple(self._gpu(i) for i in range(count.value) if i in wanted)

    def _gpu(self, index: int) -> Gpu:
        handle, busy, memory = ctypes.c_void_p(), _Utilisation(), _Memory()
        if self._library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
            return Gpu(None, None, None)
        knows_busy = self._library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(busy)) == 0
        knows_memory = self._library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
        return Gpu(
            int(busy.gpu) if knows_busy else None,
            memory.used / 2**30 if knows_memory else None,
            memory.total / 2**30 if knows_memory else None,
        )
