from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from plan_folder import PlanFolder
from queue_face import Queue
from trained_checkout import Trained, checkout
from waiting import DEADLINE_S

from lora_tui import queue_command

ROOT = Path(__file__).parents[2]
SUPERVISOR = ROOT / "tests" / "core" / "queue" / "fake_supervisor.py"


@pytest.fixture
def folder(tmp_path: Path) -> PlanFolder:
    return PlanFolder(tmp_path)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> PlanFolder:
    """One for all tests of a module, which put back what they change."""
    return PlanFolder(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def queue(folder: PlanFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    monkeypatch.setattr(queue_command, "SUPERVISOR_COMMAND", (sys.executable, str(SUPERVISOR)))
    yield Queue(folder, capsys)
    folder.end_all()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A real run by the real command, half a minute of training. Nobody may change it."""
    from benchmarks.kill_matrix.material import clips

    folder = checkout(tmp_path_factory.mktemp("gpu-machine") / "repository")
    clips(folder / "speech")
    (folder / "experiments.toml").write_text(Trained.plan())
    key = "a secret that only this machine has"
    done = subprocess.run(
        [sys.executable, "-m", "lora_tui", "--headless", "--gate"],
        cwd=folder,
        env=os.environ | {"LORA_TUI_SIGNING_KEY": key},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert list(folder.glob("runs/*/result.json")), done.stderr
    return Trained(folder, key, done.returncode)
