"""What is told of a run before it starts: what would make it fail here, and how much disk space it will take.

The space is told from its settings, and from what others of its plan took.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from core.manifests.sets import set_paths
from core.plan.candidates import planned_candidates
from core.plan.rows import interval_steps
from core.plan.schema import RunSettings, TrainSettings
from core.queue.gpu.choice import Devices
from core.queue.gpu.nvml import NvmlReader
from core.runs.adapter_size import adapter_size
from core.runs.folder import files
from core.runs.paths import RunPaths
from core.runs.preflight import preflight
from core.scoring.data_health import EVALUATED

# What would make a run fail here, found before it starts: by its files and settings, and by what this machine has


def unfit(settings: RunSettings, executor: str = "local", *, targets_known: bool = True) -> list[str]:
    """`preflight`, and what this machine lacks for these settings where `queue.executor` has it train."""
    here = _lacking(settings.train) if executor == "local" else []
    return [*preflight(settings, targets_known=targets_known), *here]


def on_cpu() -> bool:
    """Whether trainers have no GPU here, as far as the driver tells."""
    devices = NvmlReader().read()
    return not (devices.gpus or devices.troubled)


def _lacking(train: TrainSettings) -> list[str]:
    if train.base_precision == "fp32" and train.devices == 1:
        return []
    devices = NvmlReader().read()
    return [*_few_gpus(train.devices, devices), *_no_fewer_bits(train.base_precision, devices)]


def _few_gpus(wanted: int, devices: Devices) -> list[str]:
    """Where there is no GPU at all, the run's processes share the CPU."""
    there = (*devices.gpus, *devices.troubled)
    whole = sum(gpu.parent is None for gpu in there)
    if not there or wanted <= max(1, whole):
        return []
    return [
        f"train.devices = {wanted} needs as many whole GPUs, and this machine has {whole or 'none'}: lower it, or take "
        "another machine"
    ]


def _no_fewer_bits(base_precision: str, devices: Devices) -> list[str]:
    name = f'train.base_precision = "{base_precision}"'
    if base_precision == "fp32":
        return []
    if devices.only_cpu:
        return [f"{name} needs a CUDA GPU, and trainers run on the CPU here ({devices.note}): leave it out"]
    if base_precision == "8bit" and importlib.util.find_spec("bitsandbytes") is None:
        return [f"{name} needs bitsandbytes, which is not installed: install lora-tui[8bit]"]
    return []


# How much disk space a run will take

_FLOAT = 4
"""Adapters and optimiser moments are kept in fp32."""
_MOMENTS = 2
"""AdamW keeps two for each weight; a checkpoint holds the weight and both."""
_SCORED = 2
"""A score document takes so many times its manifest: reference, hypothesis and counts for each utterance."""
_EVENT_BYTES = 250
"""A step's line in events.jsonl."""
ALWAYS_BYTES = 16 << 20
"""What any run may take, whatever its settings: logs, audits, files of trackers."""
MOST_BEYOND_FORECAST = 16
"""Times a forecast that runs are thought to take, where others took more: something else lies in their folders then."""
MEASURED = 8
"""Run folders that are measured to tell how much space the next one will take."""


def measured_bytes(run: RunPaths) -> int:
    """What a run takes on disk now."""
    return sum(size for _, size in files(run.root))


def forecast_bytes(settings: RunSettings) -> int:
    """Adapters of all intervals and candidates, the checkpoints kept and one being written, score documents, events.

    `settings`: resolved, with absolute paths. Of a model that is not here (a hub id) the adapters count as nothing.
    """
    train = settings.train
    intervals = len(interval_steps(train.steps, train.eval_every))
    made = planned_candidates(train)
    size = adapter_size(settings)
    trained, saved = (0, 0) if size is None else (_FLOAT * size.trained, _FLOAT * size.saved)
    checkpoints = (1 + train.keep_checkpoints) * (saved + _MOMENTS * trained)
    # A part of a manifest counts as all of it: evaluations leave little beside adapters.
    manifests = sum(_size(path) for name, path in set_paths(settings.data).items() if name in EVALUATED)
    scores = _SCORED * manifests * (intervals + len(made) + 2)  # interval 0 and the tuned score, too
    # an average has the sum of the ranks of what it is made of
    adapters = saved * (intervals + sum(len(one.steps) for one in made))
    return adapters + checkpoints + scores + _EVENT_BYTES * train.steps


def _size(path: str | None) -> int:
    try:
        return 0 if path is None else Path(path).stat().st_size
    except OSError:
        return 0
