"""Where another trainer may be started: on a GPU that nobody else fills, or on the CPU while nothing trains there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from core.queue.gpu import locks as gpu_locks
from core.queue.gpu.choice import Choice, Devices, choose_gpu
from core.queue.journal import Devices as DevicesFound
from core.queue.journal import Journal
from core.runs.paths import RunsFolder

NO_SLOT = "the trainer of another run has the CPU"
GPU_FREED_WITHIN_S = 30.0
"""The driver frees the memory of a dead trainer within seconds; nobody waits for it longer than this."""


class AvailableGpus:
    """The GPUs as they are now, and those that trainers of ours left a moment ago."""

    def __init__(self, runs: RunsFolder, log: Journal, devices: Callable[[], Devices]) -> None:
        self._runs = runs
        self._log = log
        self._devices = devices
        self._said: tuple[object, ...] | None = None
        self._leaving: dict[str, tuple[int, float]] = {}
        """UUID of a GPU → (bytes that were free before the trainer that ended there, monotonic time of its end)."""

    def choose(self, trainers: Mapping[str, str | None], free_gib: float | None) -> Choice:
        """Where another trainer may be started now, or why nowhere.

        `trainers`: run → the UUID of its trainer's GPU; `free_gib`: `queue.gpu_free_gb`.
        """
        devices = self._devices()
        self._record_change(devices)
        if devices.unusable:
            return Choice(waits=devices.unusable, cause=devices.unusable)
        gpus = (*devices.gpus, *devices.troubled)
        if not gpus:
            return Choice(waits=NO_SLOT, cause=NO_SLOT) if trainers else Choice()
        mine = {gpu: run for run, gpu in trainers.items() if gpu is not None}
        # A trainer that no decision speaks of, or a child that it left behind, still holds the lock of its GPU.
        holders = {gpu.uuid: gpu_locks.holder(self._runs, gpu.uuid) for gpu in devices.gpus}
        taken = {uuid: run for uuid, run in holders.items() if run is not None} | mine
        now = time.monotonic()
        leaving = {uuid: free for uuid, (free, ended) in self._leaving.items() if now - ended < GPU_FREED_WITHIN_S}
        return choose_gpu(gpus, taken, free_gib, leaving)

    def left(self, gpu: str, free_before: int) -> None:
        """A trainer on this GPU has ended. `free_before`: bytes that were free there when it was started."""
        self._leaving[gpu] = free_before, time.monotonic()

    def _record_change(self, devices: Devices) -> None:
        """Put into the decisions what trainers may run on, when that has changed."""
        names = {gpu.uuid: gpu.name for gpu in devices.gpus}
        note = devices.unusable or devices.note or choose_gpu(devices.troubled, {}, None).waits
        if (names, note) != self._said:
            self._said = names, note
            self._log.append(DevicesFound(gpus=names, note=note))
