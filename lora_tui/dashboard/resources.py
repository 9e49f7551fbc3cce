"""CPU, memory and GPU of this machine, from /proc and NVML. What cannot be told is None, never 0."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. A MIG slice tells neither utilisation nor, sometimes, memory."""

    busy_percent: int | None
    used_gib: float | None
    total_gib: float | None


@dataclass(frozen=True, slots=True)
class Resources:
    """The machine at one moment."""

    cpu_percent: int | None = None
    memory_used_gib: float | None = None
    memory_total_gib: float | None = None
    gpus: tuple[Gpu, ...] = ()

    def text(self) -> str:
        """`GPU 87 % 12.1/80.0 GiB · CPU 43 % · memory 3.1/7.8 GiB`."""
        gpus = [f"GPU {_percent(g.busy_percent)} {_of(g.used_gib, g.total_gib)}" for g in self.gpus] or ["GPU n/a"]
        memory = _of(self.memory_used_gib, self.memory_total_gib)
        return " · ".join([*gpus, f"CPU {_percent(self.cpu_percent)}", f"memory {memory}"])

    def short(self) -> str:
        """`GPU 87 % · CPU 43 % · 3.1/7.8 GiB`."""
        gpus = [f"GPU {_percent(g.busy_percent)}" for g in self.gpus[:1]] or ["GPU n/a"]
        memory = _of(self.memory_used_gib, self.memory_total_gib)
        return " · ".join([*gpus, f"CPU {_percent(self.cpu_percent)}", memory])


def _percent(value: int | None) -> str:
    return "n/a" if value is None else f"{value} %"


def _of(used: float | None, total: float | None) -> str:
    return "n/a" if used is None or total is None else f"{used:.1f}/{total:.1f} GiB"


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
