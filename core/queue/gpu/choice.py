"""Which GPU a trainer gets.

`choose_gpu` and `visible` are pure: what NVML said in, one GPU or the reason to wait out. `AvailableGpus` asks.

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
from dataclasses import dataclass
from pathlib import Path

from core.queue.journal import Devices as DevicesFound
from core.queue.journal import Journal
from core.runs.paths import RunPaths, RunsFolder
from core.system.locks import KernelLock, is_held

GIB = 1 << 30
DEFAULT_FREE_SHARE = 0.8
"""Without `queue.gpu_free_gb`, a GPU is free if so much of its memory is: a desktop may be on it, a job may not."""
_REGAINED = 0.95
"""A GPU that our trainer left is as free as before when so much of what was free then is free again."""
_SHOWN_PIDS = 3


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a MIG device of one, at one moment."""

    uuid: str
    """What CUDA_VISIBLE_DEVICES takes: `GPU-…` or `MIG-…`."""
    name: str
    """As nvidia-smi numbers it: `GPU 1`, `GPU 0 MIG 2`."""
    index: int
    """Of the GPU, also for its MIG devices."""
    product: str = ""
    total: int | None = None
    """Bytes; None where the device does not tell (memory shared with the CPU)."""
    free: int | None = None
    holders: tuple[int, ...] = ()
    """Pids with a compute context on it, as the driver numbers them."""
    parent: str | None = None
    """UUID of the GPU that a MIG device is a part of."""
    trouble: str = ""
    """Why nothing can run on it, in NVML's words. Its UUID is empty then if it never told it."""
    busy_percent: int | None = None
    """Share of the last moment in which it computed; a MIG device does not tell. Nothing is decided by it."""


@dataclass(frozen=True, slots=True)
class Devices:
    """What trainers may run on. Without GPUs it is one trainer at a time, on the CPU or what PyTorch finds."""

    gpus: tuple[Gpu, ...] = ()
    note: str = ""
    """For people: why there are no GPUs to choose from."""
    unusable: str = ""
    """Why no trainer may be started at all; empty: one may."""
    troubled: tuple[Gpu, ...] = ()
    """GPUs that would be among `gpus` if they answered: waited for, not gone."""
    only_cpu: bool = False
    """Whether trainers run on the CPU, for sure."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A place for a trainer, or why there is none."""

    gpu: Gpu | None = None
    """None with an empty `waits`: no GPU is chosen, the trainer's environment stays as it is."""
    waits: str = ""
    cause: str = ""
    """As `waits`, without figures that change all the time: worth telling only when this changes."""


def choose_gpu(
    gpus: Sequence[Gpu], taken: Mapping[str, str], free_gib: float | None, leaving: Mapping[str, int] | None = None
) -> Choice:
    """The GPU with the most free memory among those that nobody fills; else why each of them is not to be had.

    `taken`: UUID → the run whose trainer has it. `free_gib`: `queue.gpu_free_gb`. `leaving`: UUID → bytes that were
    free before a trainer that has just ended: the driver needs a moment to free its memory.
    """
    leaving = leaving or {}
    fitting: list[Gpu] = []
    reasons: list[tuple[str, str]] = []
    for gpu in gpus:
        reason = _why_not(gpu, taken, free_gib, leaving)
        if reason is None:
            fitting.append(gpu)
        else:
            reasons.append(reason)
    if fitting:
        return Choice(max(fitting, key=lambda gpu: gpu.free or 0))  # the first of equals
    return Choice(waits="; ".join(text for text, _ in reasons), cause="; ".join(cause for _, cause in reasons))


def visible(gpus: Sequence[Gpu], wanted: str | None, *, by_bus: bool = False) -> Devices:
    """The GPUs that CUDA_VISIBLE_DEVICES = `wanted` leaves, in its order (None: not set, all of them).

    As CUDA reads it: indices, UUIDs or their beginnings, MIG UUIDs; what comes after an entry that is none does not
    count. `by_bus`: CUDA_DEVICE_ORDER is PCI_BUS_ID. Otherwise CUDA numbers different GPUs in an order of its own.
    """
    if wanted is None:
        return _devices(gpus)
    entries = [entry.strip() for entry in wanted.split(",")]
    if any(e.isdigit() for e in entries) and not by_bus and len({gpu.product for gpu in gpus if gpu.uuid}) > 1:
        return Devices(
            unusable=f"CUDA_VISIBLE_DEVICES={wanted} does not say which GPUs are meant, because they differ in kind: "
            "give UUIDs (nvidia-smi -L), or set CUDA_DEVICE_ORDER=PCI_BUS_ID"
        )
    found: list[Gpu] = []
    for entry in entries:
        gpu = _named(gpus, entry)
        if gpu is None or gpu in found:
            break
        found.append(gpu)
    note = "" if found else f"CUDA_VISIBLE_DEVICES={wanted!r} leaves no GPU: trainers run on the CPU"
    return _devices(found, note)


def _devices(gpus: Sequence[Gpu], note: str = "") -> Devices:
    troubled = tuple(gpu for gpu in gpus if gpu.trouble)
    return Devices(tuple(gpu for gpu in gpus if not gpu.trouble), note, troubled=troubled, only_cpu=bool(note))


def _named(gpus: Sequence[Gpu], entry: str) -> Gpu | None:
    if entry.isdigit():
        # Of a GPU that is divided, CUDA takes the first MIG device.
        return next((gpu for gpu in gpus if gpu.index == int(entry)), None)
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    exact = [gpu for gpu in gpus if gpu.uuid == entry]
    begun = [gpu for gpu in gpus if gpu.uuid.startswith(entry)]
    divided = [gpu for gpu in gpus if gpu.parent is not None and gpu.parent.startswith(entry)]
    if not (begun or divided):
        # It may be the one that does not tell its UUID: to wait for that is better than to go on without.
        return next((gpu for gpu in gpus if not gpu.uuid), None)
    hits = exact or (begun if len(begun) == 1 else divided[:1])
    return hits[0] if hits else None


def _why_not(
    gpu: Gpu, taken: Mapping[str, str], free_gib: float | None, leaving: Mapping[str, int]
) -> tuple[str, str] | None:
    """(reason, the same without figures), or None: it can be had."""
    text = ""
    if gpu.trouble:
        text = f"{gpu.name} cannot be used ({gpu.trouble})"
    elif gpu.uuid in taken:
        text = f"{gpu.name} trains {taken[gpu.uuid]}"
    elif gpu.free is None or gpu.total is None:
        if gpu.holders:
            text = f"{gpu.name} does not tell how much memory is free, and {_holders(gpu)} it"
    elif gpu.free < _REGAINED * leaving.get(gpu.uuid, 0):
        text = f"{gpu.name} is still freeing the memory of the trainer that ended"
    else:
        return _too_full(gpu, gpu.free, gpu.total, free_gib)
    return (text, text) if text else None


def _too_full(gpu: Gpu, free: int, total: int, free_gib: float | None) -> tuple[str, str] | None:
    need = DEFAULT_FREE_SHARE * total if free_gib is None else free_gib * GIB
    if free >= need:
        return None
    if need > total:
        text = f"{gpu.name} has {total / GIB:.1f} GiB in all, and queue.gpu_free_gb asks for {need / GIB:.1f}"
        return text, text
    figures = f"{gpu.name} has {free / GIB:.1f} of {total / GIB:.1f} GiB free, a run needs {need / GIB:.1f}"
    return f"{figures}; {_holders(gpu)} it", f"{gpu.name} has too little memory free; {_holders(gpu)} it"


def _holders(gpu: Gpu) -> str:
    if not gpu.holders:
        return "a process that cannot be seen from here holds"
    pids = ", ".join(map(str, gpu.holders[:_SHOWN_PIDS])) + (", …" if len(gpu.holders) > _SHOWN_PIDS else "")
    return f"another process (pid {pids}) holds" if len(gpu.holders) == 1 else f"other processes (pids {pids}) hold"


# What this machine has now, and who has let go of what

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
        holders = {gpu.uuid: holder_of(self._runs, gpu.uuid) for gpu in devices.gpus}
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
        for held in locks:
            held.release()  # nobody else knows of them: the GPU would be taken as long as this process lives
        raise
    return locks


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
