"""Which GPUs a trainer gets. Pure: what NVML said in, as many GPUs as it asks for or the reason to wait out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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

    gpus: tuple[Gpu, ...] = ()
    """None with an empty `waits`: no GPU is chosen, the trainer's environment stays as it is."""
    waits: str = ""
    cause: str = ""
    """As `waits`, without figures that change all the time: worth telling only when this changes."""

    @property
    def visible(self) -> str | None:
        """What CUDA_VISIBLE_DEVICES is for the trainer, and what names its GPUs from then on; None: left as it is."""
        return ",".join(gpu.uuid for gpu in self.gpus) or None


def uuids(visible: str | None) -> list[str]:
    """Of the GPUs in what `Choice.visible` made."""
    return visible.split(",") if visible else []


def choose_gpu(
    gpus: Sequence[Gpu],
    taken: Mapping[str, str],
    free_gib: float | None,
    leaving: Mapping[str, int] | None = None,
    devices: int = 1,
) -> Choice:
    """The GPUs with the most free memory among those that nobody fills; else why the others are not to be had.

    `taken`: UUID → the run whose trainer has it. `free_gib`: `queue.gpu_free_gb`. `leaving`: UUID → bytes that were
    free before a trainer that has just ended: the driver needs a moment to free its memory. `devices`: how many.
    """
    if devices > 1:
        whole = [gpu for gpu in gpus if gpu.parent is None]  # CUDA shows a process one part of a GPU, and no more
        if len(whole) < devices:
            there = f"{len(whole) or 'no'} whole GPU{'' if len(whole) == 1 else 's'}"
            text = f"train.devices asks for {devices} GPUs, and this machine has {there}"
            return Choice(waits=text, cause=text)
        gpus = whole
    leaving = leaving or {}
    fitting: list[Gpu] = []
    reasons: list[tuple[str, str]] = []
    for gpu in gpus:
        reason = _why_not(gpu, taken, free_gib, leaving)
        if reason is None:
            fitting.append(gpu)
        else:
            reasons.append(reason)
    if len(fitting) >= devices:
        # of equals those that come first
        return Choice(tuple(sorted(fitting, key=lambda gpu: -(gpu.free or 0))[:devices]))
    few = f"train.devices asks for {devices} GPUs, and {len(fitting) or 'none'} can be had: " if devices > 1 else ""
    text, cause = ("; ".join(one[i] for one in reasons) for i in range(2))
    return Choice(waits=few + text, cause=few + cause)


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
