"""Asks NVIDIA's management library (NVML) for the GPUs of this machine: thin, because `choice` decides."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from core.queue.gpu.choice import Devices, Gpu, visible

_DEVICE_FILES = ("nvidia0", "nvhost-gpu", "dxg", "kfd")
"""Files in /dev that say that PyTorch may find a GPU where NVML does not answer: a broken driver, Jetson, WSL, ROCm."""


def torch_version() -> str:
    """Of the PyTorch that trainers import, without importing it; `+cpu` marks a build that knows no GPU."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


class NvmlReader:
    """What trainers may run on now. Asked before each start: somebody else may have come or gone."""

    def __init__(self, torch: Callable[[], str] = torch_version, device_folder: Path = Path("/dev")) -> None:
        self._torch = torch
        self._device_folder = device_folder
        self._open = False
        self._had_gpus = False
        self._seen: dict[int, tuple[Gpu, ...]] = {}
        """Index → the GPU, or its MIG devices, when it last answered."""

    def read(self) -> Devices:
        """Never raises: where NVML does not answer, `note` or `unusable` says so."""
        version = self._torch()
        if version.endswith("+cpu"):
            return Devices(note=f"PyTorch {version} is a build for the CPU", only_cpu=True)
        try:
            import pynvml
        except ImportError:
            return self._without("the package nvidia-ml-py is not installed")
        try:
            if not self._open:
                pynvml.nvmlInit()
                self._open = True
            gpus = tuple(_all_gpus(pynvml, self._seen))
        except pynvml.NVMLError as error:
            self._close(pynvml)
            return self._without(str(error))
        if all(gpu.trouble for gpu in gpus):
            self._close(pynvml)  # a GPU that was reset answers whoever opens NVML anew
            return self._without("; ".join(f"{gpu.name}: {gpu.trouble}" for gpu in gpus) or "it finds no GPU")
        by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        devices = visible(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"), by_bus=by_bus)
        if devices.note and self._had_gpus:
            return Devices(unusable="the GPUs that CUDA_VISIBLE_DEVICES names are gone")
        self._had_gpus |= not devices.note
        return devices

    def _without(self, problem: str) -> Devices:
        if self._had_gpus:
            # GPUs were there a moment ago. A run must not silently go on on the CPU, a hundred times slower.
            return Devices(unusable=f"no GPU answers any more ({problem})")
        file = next((name for name in _DEVICE_FILES if (self._device_folder / name).exists()), None)
        if file is None:
            return Devices(note=f"no GPU: NVML does not answer ({problem})", only_cpu=True)
        return Devices(
            note=f"NVML does not answer ({problem}), though there is {self._device_folder / file}: one trainer at a "
            "time, on whatever PyTorch finds, and nobody looks who else uses it"
        )

    def _close(self, pynvml: Any) -> None:
        if self._open:
            self._open = False
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError:
                return  # it is opened anew next time


def driver_version() -> str | None:
    """Of NVIDIA's driver; None: there is none that answers."""
    try:
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    except Exception:  # a library that is not there fails in many ways
        return None
    return version.decode() if isinstance(version, bytes) else str(version)


def _all_gpus(pynvml: Any, seen: dict[int, tuple[Gpu, ...]]) -> Iterator[Gpu]:
    """Each GPU; of one that is divided, its MIG devices instead. One that does not answer keeps its index.

    NVMLError: which GPUs there are is not to be known.
    """
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            seen[index] = tuple(_at(pynvml, index))
        except pynvml.NVMLError_NoPermission:
            raise  # CUDA does not count a GPU that is kept from us, so indices do not say which are meant
        except pynvml.NVMLError as error:  # lost, to be reset, …: the others work
            last = seen.get(index) or (Gpu("", f"GPU {index}", index),)
            yield from (replace(gpu, trouble=str(error)) for gpu in last)
        else:
            yield from seen[index]


def _at(pynvml: Any, index: int) -> Iterator[Gpu]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    uuid, product = _text(pynvml.nvmlDeviceGetUUID(handle)), _text(pynvml.nvmlDeviceGetName(handle))
    name = f"GPU {index}"
    if not _is_divided(pynvml, handle):
        yield _gpu(pynvml, handle, Gpu(uuid, name, index, product))
        return
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except pynvml.NVMLError_NotFound:
            continue  # fewer were made than there may be
        own = _text(pynvml.nvmlDeviceGetUUID(part))
        yield _gpu(pynvml, part, Gpu(own, f"{name} MIG {number}", index, product, parent=uuid))


def _is_divided(pynvml: Any, handle: Any) -> bool:
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError_NotSupported:
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _gpu(pynvml: Any, handle: Any, gpu: Gpu) -> Gpu:
    total: int | None
    free: int | None
    busy: int | None
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        total, free = int(memory.total), int(memory.free)
    except pynvml.NVMLError_NotSupported:
        total = free = None  # it shares the CPU's memory
    try:
        holders = tuple(sorted({int(p.pid) for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}))
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_NoPermission):
        holders = ()
    try:
        busy = int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except pynvml.NVMLError:  # only shown: it keeps no trainer from the GPU
        busy = None
    return replace(gpu, total=total, free=free, holders=holders, busy_percent=busy)


def _text(value: str | bytes) -> str:
    """Older versions of the package give bytes."""
    return value.decode() if isinstance(value, bytes) else value
