from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nvml_file import FakeNvml
from plan_folder import PlanFolder
from queue_scene import Scene

from core.system.locks import KernelLock
from core.system.process import identity_of


@pytest.fixture
def folder(tmp_path: Path) -> PlanFolder:
    return PlanFolder(tmp_path)


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
def scene(folder: PlanFolder, dead: dict[str, Any]) -> Iterator[Scene]:
    """While a supervisor is at work, as far as its lock tells."""
    made = Scene(folder, dead)
    lock = KernelLock.acquire(folder.runs.supervisor_lock)
    assert lock is not None
    yield made
    lock.release()


@pytest.fixture
def unattended(folder: PlanFolder, dead: dict[str, Any]) -> Scene:
    """The same without a supervisor."""
    return Scene(folder, dead)


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml(tmp_path / "fake_nvml.json")
    fake.write()
    monkeypatch.setenv("FAKE_NVML", str(fake.path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake
