"""The checks for a GPU, as far as they can be wrong without one."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ctc_kit import tiny_ctc
from safetensors.numpy import load_file, save_file
from training_kit import TrainingRun

from benchmarks.gpu_checks import architectures, forecast
from benchmarks.gpu_checks.scene import Apart, Scene, apart, parity_of
from benchmarks.gpu_checks.table import Table
from benchmarks.kill_matrix.material import ROOT
from benchmarks.kill_matrix.world import Failed
from core.runs.adapter_files import WEIGHTS
from core.runs.paths import RunPaths


@pytest.fixture
def copied(finished_run: TrainingRun, tmp_path: Path) -> RunPaths:
    """A finished run that a test may change."""
    return RunPaths(shutil.copytree(finished_run.paths.root, tmp_path / finished_run.paths.name, symlinks=True))


def test_a_run_lies_apart_from_another_by_its_largest_differences(finished_run: TrainingRun, copied: RunPaths) -> None:
    assert apart(finished_run.paths, copied) == Apart(0.0, 0.0, 0.0)
    steps = finished_run.snapshot.steps
    lines = copied.events.read_text().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if '"event": "step"' in line and '"step": 3,' in line)
    lines[at] = lines[at].replace(f'"loss": {steps.loss[2]}', f'"loss": {steps.loss[2] * 1.5}')
    copied.events.write_text("".join(lines))
    file = copied.adapter(steps.last_step) / WEIGHTS
    tensors = load_file(file)
    name, largest = next(iter(tensors)), max(float(np.abs(tensor).max()) for tensor in tensors.values())
    tensors[name].flat[0] += 0.25 * largest
    save_file(tensors, file)
    found = apart(finished_run.paths, copied)
    assert found.loss == pytest.approx(0.5)
    assert found.weights == pytest.approx(0.25, rel=1e-3)


def test_runs_of_other_lengths_are_not_compared(finished_run: TrainingRun, copied: RunPaths) -> None:
    lines = copied.events.read_text().splitlines(keepends=True)
    copied.events.write_text("".join(line for line in lines if '"step": 8,' not in line))
    with pytest.raises(Failed, match="the same steps and intervals"):
        apart(finished_run.paths, copied)


def test_parity_is_that_of_the_verdict(finished_run: TrainingRun) -> None:
    passed, told = parity_of(finished_run.paths)
    assert passed
    assert told.startswith("steps in fp32 on cpu: On the same device, the same transcripts")


def test_one_failure_fails_the_table_and_what_was_skipped_passes_nothing(tmp_path: Path) -> None:
    table = Table("On a GPU", tmp_path / "out" / "table.md")
    table.add("slots", "needs a GPU", "", None)
    assert not table.passed
    table.add("resume", "a | b\nc", "byte for byte", True)
    assert table.passed
    assert (tmp_path / "out" / "table.md").read_text().splitlines()[-1] == (
        "| resume | a \\| b c | byte for byte | PASS |"
    )
    table.add("parity", "1 differs", "0", False)
    assert not table.passed


def test_what_a_scene_starts_finds_the_checkout_and_the_packages_that_were_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/carried")
    (tmp_path / "material").mkdir()
    scene = Scene.of(tmp_path, "s", {"CUDA_VISIBLE_DEVICES": ""}, ())
    scene.world.close()
    assert scene.world.environment["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/carried"]
    assert scene.world.environment["CUDA_VISIBLE_DEVICES"] == ""


def test_a_face_that_ends_without_a_run_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "material").mkdir()
    scene = Scene.of(tmp_path, "s", {}, ("train.steps=no number",))
    try:
        with pytest.raises(Failed, match=r"the face ended with 4: .*train\.steps"):
            scene.killed(1, 12, random.Random(0))
    finally:
        scene.world.close()


def test_one_case_of_a_family_fails_its_row_and_what_nobody_could_do_is_skipped() -> None:
    told = {
        "whisper: lora in fp32": "",
        "whisper: dora in bf16": "other bits the second time",
        "whisper: base in bf16": "",
        "canary: base in bf16": f"{architectures.SKIPPED}no librosa",
        "whisper: base in 8bit": f"{architectures.SKIPPED}no bitsandbytes",
    }
    steps, halves, eighths = architectures.rows(told)
    assert steps[1:] == ("whisper: dora in bf16: other bits the second time", "the same bits", False)
    assert halves[1] == "2 cases; 1 skipped: no librosa" and halves[3] is True
    assert eighths[3] is None


def test_a_forecast_may_miss_the_peak_by_its_limit() -> None:
    near, far = forecast.rows({"LoRA": (120, 100), "DoRA": (60, 100)}, "base_model")
    assert near[3] and near[1].endswith("+20%") and not far[3]


@pytest.mark.heavy
def test_a_step_of_a_family_is_made_twice_to_the_same_bits(tmp_path: Path) -> None:
    folder = tiny_ctc(tmp_path, "wav2vec2")
    found = architectures.checked(folder, "wav2vec2", None, torch.device("cpu"))
    assert set(found) == {
        f"wav2vec2: {case}" for case in ("lora in fp32", "dora in bf16", "base in bf16", "base in 8bit")
    }
    assert not [wrong for wrong in found.values() if wrong and not wrong.startswith(architectures.SKIPPED)]
