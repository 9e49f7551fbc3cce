"""What this machine lacks for a row is told before anything starts."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import pytest

from core.plan.schema import AdapterSettings, DataSettings, ModelSettings, RunSettings, TrainSettings
from core.queue import forecast
from core.queue.gpu.choice import Devices, Gpu

PLAIN = RunSettings(ModelSettings("org/model"), DataSettings(train="/nowhere"), TrainSettings(), AdapterSettings())
EIGHT = replace(PLAIN, train=TrainSettings(base_precision="8bit"))


def machine(monkeypatch: pytest.MonkeyPatch, devices: Devices) -> None:
    monkeypatch.setattr(forecast.NvmlReader, "read", lambda _: devices)


def test_a_base_of_fewer_bits_takes_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, Devices(note="PyTorch 2.13.0+cpu is a build for the CPU", only_cpu=True))
    assert forecast.unfit(EIGHT) == [
        'train.base_precision = "8bit" needs a CUDA GPU, and trainers run on the CPU here '
        "(PyTorch 2.13.0+cpu is a build for the CPU): leave it out"
    ]
    assert forecast.unfit(PLAIN) == []


def test_a_run_on_several_gpus_takes_as_many_whole_ones_or_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    four = replace(PLAIN, train=TrainSettings(devices=4, accumulation=4))
    gpu, part = Gpu("GPU-a", "GPU 0", 0), Gpu("MIG-a", "GPU 1 MIG 0", 1, parent="GPU-b")
    machine(monkeypatch, Devices((gpu, part)))
    assert forecast.unfit(four) == [
        "train.devices = 4 needs as many whole GPUs, and this machine has 1: lower it, or take another machine"
    ]
    assert forecast.unfit(PLAIN) == []
    machine(monkeypatch, Devices((gpu,) * 3, troubled=(gpu,)))
    assert forecast.unfit(four) == [], "the one that does not answer now is waited for"
    machine(monkeypatch, Devices(only_cpu=True))
    assert forecast.unfit(four) == [], "processes share the CPU"


def test_what_a_login_node_lacks_is_not_what_the_cluster_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, Devices(note="no driver", only_cpu=True))
    assert forecast.unfit(EIGHT, "slurm") == []


def test_8_bits_take_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, Devices(note="NVML does not answer, though there is /dev/nvidiactl"))
    here: list[Any] = [None]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: here[0])
    assert "install lora-tui[8bit]" in forecast.unfit(EIGHT)[0]
    here[0] = object()
    assert forecast.unfit(EIGHT) == []
    here[0] = None
    assert forecast.unfit(replace(PLAIN, train=TrainSettings(base_precision="bf16"))) == []
