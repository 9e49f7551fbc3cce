from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core.queue.gpu.choice import GIB
from core.system.locks import KernelLock
from core.system.process import identity_of


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plan_folder, queue_scene = _module("plan_folder"), _module("queue_scene")


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    return plan_folder.PlanFolder(tmp_path)


@pytest.fixture
def dead() -> dict[str, Any]:
    """The identity of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identity_of(process.pid)
    assert identity is not None
    process.kill()
    process.wait()
    process.communicate()
    return dict(identity.to_json())


@pytest.fixture
def scene(folder: Any, dead: dict[str, Any]) -> Iterator[Any]:
    """While a supervisor is at work, as far as its lock tells."""
    made = queue_scene.Scene(folder, dead)
    lock = KernelLock.acquire(folder.runs.supervisor_lock)
    assert lock is not None
    yield made
    lock.release()


@pytest.fixture
def unattended(folder: Any, dead: dict[str, Any]) -> Any:
    """The same without a supervisor."""
    return queue_scene.Scene(folder, dead)


class FakeNvml:
    """The file that FakeNvml reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gpus: list[dict[str, Any]] = []
        self.error = ""

    def add(self, uuid: str, free_gib: float = 79, **more: Any) -> None:
        self.gpus.append({"uuid": uuid, "total": 80 * GIB, "free": int(free_gib * GIB), **more})
        self.write()

    def change(self, uuid: str, **more: Any) -> None:
        [gpu] = [gpu for gpu in self.gpus if gpu["uuid"] == uuid]
        gpu.update(more)
        self.write()

    def looks(self) -> int:
        """How often GPUs were asked for."""
        try:
            return self.path.with_suffix(".looks").stat().st_size
        except FileNotFoundError:
            return 0

    def write(self) -> None:
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps({"gpus": self.gpus, "error": self.error}))
        temporary.replace(self.path)


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml(tmp_path / "fake_nvml.json")
    fake.write()
    monkeypatch.setenv("FAKE_NVML", str(fake.path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake
