"""A planted leak never passes: the real gate, the real trainer and a trained model, as processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from plan_kit import twelve_steps
from training_kit import subset
from waiting import DEADLINE_S


def gate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lora_tui", "--headless", "plan.toml", "--gate", "--export", "matrix.md", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def plant(folder: Path, digits: Path, base_model: Path) -> None:
    """A heldout clip, cut, at half the level and as Vorbis, is the last training clip."""
    (folder / "plan.toml").write_text(twelve_steps(base_model, more='[adapter]\nmethod = "lora"\n'))
    for name, count in (("train", 20), ("domain", 16), ("heldout", 16)):
        subset(digits / f"{name}_manifest.jsonl", folder / f"{name}.jsonl", count)
    line = json.loads((folder / "heldout.jsonl").read_text().splitlines()[4])
    samples, rate = soundfile.read(line["audio_filepath"], dtype="float32")
    soundfile.write(folder / "planted.ogg", samples[rate // 5 :] * np.float32(0.5), rate)
    with (folder / "train.jsonl").open("a") as manifest:
        manifest.write(json.dumps({"audio_filepath": "planted.ogg", "text": line["text"]}) + "\n")


@pytest.mark.heavy
def test_the_real_gate_never_accepts_a_planted_leak(tmp_path: Path, digits: Path, base_model: Path) -> None:
    plant(tmp_path, digits, base_model)
    done = gate(tmp_path)
    assert done.returncode == 6, done.stderr
    matrix = (tmp_path / "matrix.md").read_text()
    assert "1 heldout clip is in train (the same recording" in matrix
    assert "heldout:5" in matrix and "train:21" in matrix
    [run] = [path.parent for path in (tmp_path / "runs").glob("*/run.json")]
    assert "leakage: 1 heldout clip" in (run / "events.jsonl").read_text()
    # The finished run is judged anew by a plan that accepts it, and by one that lost its audit.
    accepting = ("--no-train", "--set", 'gate.accept_leakage="the prompts are the product\'s own"')
    done = gate(tmp_path, *accepting)
    assert done.returncode == 0, done.stderr
    assert "Leakage accepted by the plan" in (tmp_path / "matrix.md").read_text()
    (run / "data_health.json").unlink()
    assert gate(tmp_path, *accepting).returncode == 6
    check = [sys.executable, "-m", "core.cli", "manifest", "check", "--run", str(run)]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 1
    assert gate(tmp_path, *accepting).returncode == 0
    (tmp_path / "planted.ogg").unlink()
    assert gate(tmp_path, "--no-train").returncode == 6, "judged without the audio, from the folder alone"
