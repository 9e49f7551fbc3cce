"""What would make a run fail here, found before it starts: by its files and settings, and by what this machine has."""

from __future__ import annotations

import importlib.util

from core.plan.schema import RunSettings
from core.queue.gpu.nvml import NvmlReader
from core.runs.preflight import preflight


def unfit(settings: RunSettings, *, targets_known: bool = True) -> list[str]:
    """`preflight`, and what this machine lacks for these settings."""
    return [*preflight(settings, targets_known=targets_known), *_lacking(settings.train.base_precision)]


def on_cpu() -> bool:
    """Whether trainers have no GPU here, as far as the driver tells."""
    devices = NvmlReader().read()
    return not (devices.gpus or devices.troubled)


def _lacking(base_precision: str) -> list[str]:
    if base_precision == "fp32":
        return []
    name = f'train.base_precision = "{base_precision}"'
    devices = NvmlReader().read()
    if devices.only_cpu:
        return [f"{name} needs a CUDA GPU, and trainers run on the CPU here ({devices.note}): leave it out"]
    if base_precision == "8bit" and importlib.util.find_spec("bitsandbytes") is None:
        return [f"{name} needs bitsandbytes, which is not installed: install lora-tui[8bit]"]
    return []
