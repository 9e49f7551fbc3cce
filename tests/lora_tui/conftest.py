from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from plan_kit import twelve_steps
from waiting import DEADLINE_S

from lora_tui import queue_command
from lora_tui.__main__ import main

ROOT = Path(__file__).parents[2]
SUPERVISOR = ROOT / "tests" / "core" / "queue" / "fake_supervisor.py"
_path = Path(__file__).parents[1] / "core" / "queue" / "plan_folder.py"
_spec = importlib.util.spec_from_file_location("plan_folder_for_faces", _path)
assert _spec is not None and _spec.loader is not None
plan_folder = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plan_folder)


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    return plan_folder.PlanFolder(tmp_path)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One for all tests of a module, which put back what they change."""
    return plan_folder.PlanFolder(tmp_path_factory.mktemp("shared"))


class Queue:
    """`lora-tui queue …` in this process, over a supervisor process of its own."""

    def __init__(self, folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def __call__(self, action: str, *arguments: str) -> int:
        runs = ["--runs", str(self.folder.runs.root), "--state", str(self.folder.runs.state)]
        return main(["queue", action, *arguments, *runs])

    def json(self, action: str, *arguments: str) -> Any:
        self._capsys.readouterr()
        assert self(action, *arguments, "--json") == 0
        return json.loads(self._capsys.readouterr().out)

    def states(self) -> dict[str, str]:
        return {row["row"]: row["state"] for row in self.json("list")["rows"]}

    def error(self) -> str:
        return self._capsys.readouterr().err


@pytest.fixture
def queue(folder: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    monkeypatch.setattr(queue_command, "SUPERVISOR_COMMAND", (sys.executable, str(SUPERVISOR)))
    yield Queue(folder, capsys)
    folder.end_all()


SLICES = """\
[[gate.slice]]
by = "duration"
edges = [2.5]
heldout_regression = {slice}
min_utterances = 2
"""


@dataclass(frozen=True)
class Trained:
    """A checkout in which a run was trained, as on a GPU machine that signs what it trains."""

    folder: Path
    key: str
    code: int
    """Exit code of the gate that trained it."""

    @property
    def run(self) -> Path:
        [config] = self.folder.glob("runs/*/run.json")
        return config.parent

    @staticmethod
    def plan(gain: float = -100, slice_pp: float = 100) -> str:
        """The same run under these thresholds of domain gain and of heldout regression in slices."""
        return twelve_steps("data/base_model", speech="speech/", gain=gain, more=SLICES.format(slice=slice_pp))


def checkout(folder: Path) -> Path:
    """A fresh clone of this repository. Skips where there is none (an unpacked archive)."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git repository to clone")
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return folder


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
