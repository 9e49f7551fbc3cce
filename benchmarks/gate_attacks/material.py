"""What is attacked: two real runs of one plan, `a`, which the gate accepts, and `r`, which it rejects.

What `a` ships was chosen on selection sets, passed on its part of a reserve, and was exported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kill_matrix.material import ROOT, clips

CLIPS = {"train": 80, "replay": 40, "domain": 90, "heldout": 90}
RESERVE = 3
"""Each third clip of domain and heldout is put aside."""
SETS = (*CLIPS, "reserve_domain", "reserve_heldout")
# The thresholds suit sets of 60 clips and 60 steps: what is attacked is the evidence, not the thresholds.
PLAN = """\
[model]
id = "{model}"
[data]
train = "train.jsonl"
replay = "replay.jsonl"
domain = "domain.jsonl"
heldout = "heldout.jsonl"
selection_share = 0.2
reserve_domain = "reserve_domain.jsonl"
reserve_heldout = "reserve_heldout.jsonl"
reserve_parts = 2
[train]
interpolate = [0.5]
steps = 60
eval_every = 15
batch_seconds = 20
replay_share = 0.3
learning_rate = 0.003
allow_high_learning_rate = true
eval_batch_seconds = 60
threads = 1
[adapter]
rank = 4
target_modules = ["q_proj", "v_proj", "fc1", "fc2"]
[gate]
stability_min_steps = 0
stability_range = 20.0
domain_gain = 1.0
heldout_regression = 40.0
runtime = "hf:float32"
[[gate.slice]]
by = "duration"
edges = [2.5]
heldout_regression = 90.0
min_utterances = 2
[queue]
until = "all"
[[experiment]]
id = "a"
title = "learns"
[[experiment]]
id = "r"
title = "learns nothing"
train.learning_rate = 1e-7
"""


class Layout:
    """What lies where in a folder with a plan, its manifests and its runs."""

    folder: Path

    @property
    def plan(self) -> Path:
        """The plan of both runs."""
        return self.folder / "plan.toml"

    @property
    def runs(self) -> Path:
        """The runs folder."""
        return self.folder / "runs"

    @property
    def state(self) -> Path:
        """The state folder that goes with it."""
        return self.folder / "state"

    @property
    def home(self) -> Path:
        """`$XDG_STATE_HOME` of the user who trained."""
        return self.folder / "home"


@dataclass(frozen=True)
class Material(Layout):
    """All of it as training left it. Nothing in it is changed."""

    folder: Path

    def run(self, experiment: str) -> Path:
        """The folder of the run of `a` or `r`."""
        [found] = [path.parent for path in self.runs.glob(f"{experiment}-*/result.json")]
        return found


def environment(home: Path) -> dict[str, str]:
    """Of a command that keeps its own state in `home` and knows no key and no CI runner."""
    hidden = ("LORA_TUI_", "GITHUB_", "CI")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return kept | {"XDG_STATE_HOME": str(home)}


def make(folder: Path) -> Material:
    """The material in `folder`, trained in two minutes unless it is there. RuntimeError for runs that came out else."""
    material = Material(folder)
    if len(list(material.runs.glob("*/result.json"))) < 2:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        clips(folder, CLIPS)
        for name in CLIPS:
            _with_absolute_audio(folder / f"{name}.jsonl")
        for name in ("domain", "heldout"):
            _put_aside(folder / f"{name}.jsonl", folder / f"reserve_{name}.jsonl")
        shutil.copytree(ROOT / "data" / "base_model", folder / "model")
        material.plan.write_text(PLAN.format(model=folder / "model"))
        train = ["--headless", str(material.plan), "--runs", str(material.runs), "--state", str(material.state)]
        subprocess.run(
            [sys.executable, "-m", "lora_tui", *train],
            env=environment(material.home),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        subprocess.run(
            [sys.executable, "-m", "core.cli", "merge", str(material.run("a")), "-o", str(folder / "merged")],
            env=environment(material.home),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    _check(material)
    return material


def _with_absolute_audio(manifest: Path) -> None:
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines:
        line["audio_filepath"] = str(manifest.parent / line["audio_filepath"])
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _put_aside(manifest: Path, reserve: Path) -> None:
    lines = manifest.read_text().splitlines(keepends=True)
    reserve.write_text("".join(lines[::RESERVE]))
    manifest.write_text("".join(line for number, line in enumerate(lines) if number % RESERVE))


def _check(material: Material) -> None:
    found = gate_document(material)
    outcomes = {row["experiment"]: row["outcome"] for row in found["rows"]}
    if outcomes != {"a": "accepted", "r": "rejected"}:
        raise RuntimeError(f"{material.folder}: the runs came out as {outcomes}: nothing to attack")


def gate_document(material: Material) -> dict[str, Any]:
    """What the gate says of the material as it is: the truth."""
    judge = ["--headless", str(material.plan), "--gate", "--no-train", "--json"]
    folders = ["--runs", str(material.runs), "--state", str(material.state)]
    done = subprocess.run(
        [sys.executable, "-m", "lora_tui", *judge, *folders],
        env=environment(material.home),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return dict(json.loads(done.stdout))
