"""`train.deterministic`: on in training steps, off where `lora-cli` must decode alike; part of the identity."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import QUICK, TrainingRun, in_process_trainer

from core.errors import ModelError
from core.training.determinism import deterministic_kernels, prepare_cuda


def test_only_training_steps_are_made_deterministic(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "train.deterministic=true")
    plain = TrainingRun(tmp_path / "plain", tiny_moonshine, quick_sets, *QUICK)
    assert run.paths.name != plain.paths.name
    trainer = in_process_trainer(run)
    seen: set[bool] = set()

    def look(*_: Any) -> None:
        seen.add(torch.are_deterministic_algorithms_enabled())

    hook = trainer.speech.network.register_forward_pre_hook(look)
    trainer._one_step(1)
    hook.remove()
    trainer.journal.close()
    assert seen == {True}
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_without_a_deterministic_kernel_is_named() -> None:
    says = r"train.deterministic: .* \(put_cuda_ does not have .*\); set it to false"
    with pytest.raises(ModelError, match=says), deterministic_kernels(True):
        raise RuntimeError("put_cuda_ does not have a deterministic implementation, but you set …; more")
    with pytest.raises(RuntimeError, match="shape"), deterministic_kernels(True):
        raise RuntimeError("shape mismatch")
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_workspace_that_is_set_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    prepare_cuda()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    prepare_cuda()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
