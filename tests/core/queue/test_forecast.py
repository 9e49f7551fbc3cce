"""The disk space that a run will take, against the embedded model."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.plan.schema import AdapterSettings, DataSettings, ModelSettings, RunSettings, TrainSettings
from core.queue.forecast import forecast_bytes, measured_bytes
from core.runs.adapter_size import adapter_size
from core.runs.model_files import model_shapes
from core.runs.paths import RunPaths

MODEL = Path(__file__).resolve().parents[3] / "data" / "base_model"


def settings(tmp_path: Path, **adapter: object) -> RunSettings:
    for name in ("domain", "heldout"):
        (tmp_path / name).write_bytes(b"x" * 1000)
    data = DataSettings(domain=str(tmp_path / "domain"), heldout=str(tmp_path / "heldout"))
    wanted = AdapterSettings(target_modules=("q_proj",), rank=4, **adapter)  # type: ignore[arg-type]
    return RunSettings(ModelSettings(str(MODEL)), data, TrainSettings(steps=100, eval_every=50), wanted)


def weights(run: RunSettings) -> int:
    size = adapter_size(run)
    assert size is not None
    return size.trained


def test_weights_are_those_of_the_target_layers(tmp_path: Path) -> None:
    shapes = [shape for name, shape in model_shapes(MODEL).linear.items() if name.endswith(".q_proj")]
    assert shapes
    low_rank = sum(4 * (shape.outputs + shape.inputs) for shape in shapes)
    assert weights(settings(tmp_path, method="lora")) == low_rank
    assert weights(settings(tmp_path)) == low_rank + sum(shape.outputs for shape in shapes)


def test_what_pissa_began_with_is_saved_too(tmp_path: Path) -> None:
    lora, pissa = settings(tmp_path, method="lora"), settings(tmp_path, method="pissa")
    adapter = 4 * weights(lora)
    assert forecast_bytes(pissa) - forecast_bytes(lora) == 2 * adapter + 3 * adapter


def test_intervals_checkpoints_and_scores_count(tmp_path: Path) -> None:
    run = settings(tmp_path)
    adapter = 4 * weights(run)
    # Two intervals, three checkpoints of weights and two moments, four score documents of each set, 100 steps.
    assert forecast_bytes(run) == 2 * adapter + 3 * 3 * adapter + 2 * 2000 * 4 + 250 * 100
    more = replace(run, train=replace(run.train, eval_every=10, keep_checkpoints=1))
    assert forecast_bytes(more) == 10 * adapter + 2 * 3 * adapter + 2 * 2000 * 12 + 250 * 100


def test_candidates_count_with_all_that_they_are_made_of(tmp_path: Path) -> None:
    run = settings(tmp_path)
    made = replace(run, train=replace(run.train, interpolate=(0.3, 0.6), average=2))
    # Of two intervals: their average, and two parts of the way to each of it and the last one.
    assert forecast_bytes(made) - forecast_bytes(run) == 4 * weights(run) * (2 + 2 * 1 + 2 * 2) + 2 * 2000 * 5


def test_a_model_that_is_not_here_takes_what_can_be_told(tmp_path: Path) -> None:
    run = replace(settings(tmp_path), model=ModelSettings("organisation/name"))
    assert adapter_size(run) is None and forecast_bytes(run) == 2 * 2000 * 4 + 250 * 100


def test_what_is_gone_while_a_run_is_measured_counts_as_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunPaths(tmp_path / "a-0123456789")
    files = (run.events, run.root / ".result.json.tmp", run.checkpoint(5) / "state.pt", run.evaluation(5, "domain"))
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 1000)
    assert measured_bytes(run) == 4000
    real = os.open

    def opened(path: Any, *arguments: Any, **more: Any) -> int:
        """The trainer deletes a checkpoint in this very moment."""
        if path == run.checkpoint(5).name:
            monkeypatch.setattr(os, "open", real)
            shutil.rmtree(run.checkpoints)
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, "open", opened)
    assert measured_bytes(run) == 3000
    shutil.rmtree(run.root)
    assert measured_bytes(run) == 0
