"""FakeNvml: what the queue takes of `pynvml`, over GPUs that a JSON file (FAKE_NVML) tells of.

The file: `{"gpus": [{"uuid", "name", "total", "free", "pids", "busy", "mig": [{…}], "lost", "denied", "error"}],
"error": "…"}`, in bytes. `total` null: the device does not tell. `error` of a GPU: it tells its UUID and nothing else.
Nothing changes by itself: tests write the file anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NVML_DEVICE_MIG_ENABLE = 1


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_NotFound(NVMLError):
    pass


class NVMLError_NoPermission(NVMLError):
    pass


class NVMLError_GpuIsLost(NVMLError):
    pass


def _state() -> dict[str, Any]:
    state: dict[str, Any] = json.loads(Path(os.environ["FAKE_NVML"]).read_text())
    if state.get("error"):
        raise NVMLError(state["error"])
    return state


def nvmlInit() -> None:
    _state()


def nvmlShutdown() -> None:
    pass


def nvmlDeviceGetCount() -> int:
    with Path(os.environ["FAKE_NVML"]).with_suffix(".looks").open("ab") as looks:
        looks.write(b".")
    return len(_state()["gpus"])


def nvmlDeviceGetHandleByIndex(index: int) -> dict[str, Any]:
    gpu: dict[str, Any] = _state()["gpus"][index]
    if gpu.get("lost"):
        raise NVMLError_GpuIsLost("GPU is lost")
    if gpu.get("denied"):
        raise NVMLError_NoPermission("Insufficient Permissions")
    return gpu


def nvmlDeviceGetUUID(handle: dict[str, Any]) -> str:
    return str(handle["uuid"])


def nvmlDeviceGetName(handle: dict[str, Any]) -> bytes:
    return str(handle.get("name", "FakeGpu")).encode()


def nvmlDeviceGetMigMode(handle: dict[str, Any]) -> list[int]:
    if "mig" not in handle:
        raise NVMLError_NotSupported("Not Supported")
    return [1, 1]


def nvmlDeviceGetMaxMigDeviceCount(handle: dict[str, Any]) -> int:
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(handle: dict[str, Any], index: int) -> dict[str, Any]:
    if index >= len(handle["mig"]):
        raise NVMLError_NotFound("Not Found")
    part: dict[str, Any] = handle["mig"][index]
    return part


def nvmlDeviceGetMemoryInfo(handle: dict[str, Any]) -> SimpleNamespace:
    if "error" in handle:
        raise NVMLError(handle["error"])
    if handle.get("total") is None:
        raise NVMLError_NotSupported("Not Supported")
    return SimpleNamespace(total=handle["total"], free=handle["free"], used=handle["total"] - handle["free"])


def nvmlDeviceGetUtilizationRates(handle: dict[str, Any]) -> SimpleNamespace:
    if "busy" not in handle:
        raise NVMLError_NotSupported("Not Supported")
    return SimpleNamespace(gpu=handle["busy"], memory=0)


def nvmlDeviceGetComputeRunningProcesses(handle: dict[str, Any]) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in handle.get("pids", [])]
