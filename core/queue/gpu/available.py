"""Where another trainer may be started: on a GPU that nobody else fills, or on the CPU while nothing trains there.

Which GPUs have a trainer, over all runs folders of this user on this machine, is told by kernel locks that trainers
inherit. The lock in the state folder outlives a clean-up of the temporary folder; the one in the temporary folder is
seen by supervisors of other runs folders, which NVML would tell of a trainer only when that has filled memory.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from core.queue.gpu.choice import Choice, Devices, choose_gpu, uuids
from core.queue.journal import Devices as DevicesFound
from core.queue.journal import Journal
from core.runs.paths import RunPaths, RunsFolder
from core.system.locks import KernelLock, is_held

NO_SLOT = "the trainer of another run has the CPU"
GPU_FREED_WITHIN_S = 30.0
"""The driver frees the memory of a dead trainer within seconds; nobody waits for it longer than this."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")
_OWNER_LIMIT = 4096


class AvailableGpus:
    """The GPUs as they are now, and those that trainers of ours left a moment ago."""

    def __init__(self, runs: RunsFolder, log: Journal, devices: Callable[[], Devices]) -> None:
        self._runs = runs
        self._log = log
        self._devices = devices
        self._said: tuple[object, ...] | None = None
        self._leaving: dict[str, tuple[int, float]] = {}
        """UUID of a GPU → (bytes that were free before the trainer that ended there, monotonic time of its end)."""

    def choose(self, trainers: Mapping[str, str | None], free_gib: float | None, count: int = 1) -> Choice:
        """Where another trainer may be started now, or why nowhere.

        `trainers`: run → what its trainer has as CUDA_VISIBLE_DEVICES; `free_gib`: `queue.gpu_free_gb`; `count`: how
        many GPUs it needs.
        """
        devices = self._devices()
        self._record_change(devices)
        if devices.unusable:
            return Choice(waits=devices.unusable, cause=devices.unusable)
        gpus = (*devices.gpus, *devices.troubled)
        if not gpus:
            return Choice(waits=NO_SLOT, cause=NO_SLOT) if trainers else Choice()
        mine = {gpu: run for run, given in trainers.items() for gpu in uuids(given)}
        # A trainer that no decision speaks of, or a child that it left behind, still holds the lock of its GPU.
        holders = {gpu.uuid: holder_of(self._runs, gpu.uuid) for gpu in devices.gpus}
        taken = {uuid: run for uuid, run in holders.items() if run is not None} | mine
        now = time.monotonic()
        leaving = {uuid: free for uuid, (free, ended) in self._leaving.items() if now - ended < GPU_FREED_WITHIN_S}
        return choose_gpu(gpus, taken, free_gib, leaving, count)

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


def lock_gpus(runs: RunsFolder, gpus: Sequence[str], run: RunPaths) -> list[KernelLock] | None:
    """`lock_gpu` of all of these UUIDs, or none of them. None, OSError: likewise."""
    locks: list[KernelLock] = []
    try:
        for gpu in gpus:
            found = lock_gpu(runs, gpu, run)
            if found is None:
                break
            locks += found
        else:
            return locks
    except BaseException:
        _release(locks)
        raise
    _release(locks)
    return None


def lock_gpu(runs: RunsFolder, gpu: str, run: RunPaths) -> list[KernelLock] | None:
    """The locks of the GPU with this UUID, for a trainer of `run` to inherit; None: it has a trainer.

    OSError: the state folder cannot be written. A temporary folder that cannot be trusted or written is done without.
    """
    own = KernelLock.acquire(runs.gpu_lock(gpu))
    if own is None:
        return None
    locks = [own]
    try:
        folder = _shared_folder(create=True)
        if folder is None:
            return locks
        try:
            shared = KernelLock.acquire(_file(folder, gpu))
        except OSError:
            return locks
        if shared is None:
            own.release()
            return None
        locks.append(shared)
        with contextlib.suppress(OSError):  # a full temporary folder: the lock holds without the text
            shared.write_owner(str(run.root))
    except BaseException:
        _release(locks)
        raise
    return locks


def _release(locks: Sequence[KernelLock]) -> None:
    """Nobody else knows of them: the GPU would be taken as long as this process lives."""
    for held in locks:
        held.release()


def holder_of(runs: RunsFolder, gpu: str) -> str | None:
    """For people: the run whose trainer has the GPU; None: no trainer of this user has it."""
    folder = _shared_folder(create=False)
    shared = None if folder is None else _file(folder, gpu)
    if shared is not None and is_held(shared):
        return _owner(shared) or "a run of another runs folder"
    return "a run that this supervisor did not start" if is_held(runs.gpu_lock(gpu)) else None


def _shared_folder(*, create: bool) -> Path | None:
    """The folder of this user's GPU locks; None when there is none that nobody else could have made."""
    folder = Path(tempfile.gettempdir()) / f"lora-tui-{os.getuid()}"
    try:
        if create:
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    return folder if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() else None


def _file(folder: Path, gpu: str) -> Path:
    return folder / f"gpu-{_UNSAFE.sub('_', gpu)}.lock"


def _owner(lock: Path) -> str:
    try:
        with lock.open("rb") as file:
            return file.read(_OWNER_LIMIT).decode(errors="replace")
    except OSError:
        return ""
