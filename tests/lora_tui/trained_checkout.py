"""A checkout of this repository in which a run was trained."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from plan_kit import twelve_steps

ROOT = Path(__file__).parents[2]
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
