"""Kernels and seeds: deterministic in training steps where that is asked for, the same in every process that scores."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from training_kit import QUICK, TrainingRun, in_process_trainer

from core.errors import ModelError
from core.training.determinism import deterministic_kernels, prepare_cuda
from core.training.model import load_model


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

    hook = register_module_forward_pre_hook(look)
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
    # torch refuses to compute with any other
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    prepare_cuda()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_step_draws_the_same_whatever_was_drawn_before(
    tmp_path: Path, tiny_whisper: Path, quick_sets: dict[str, Path]
) -> None:
    """SpecAugment's masks come from NumPy's global generator: a resumed trainer finds it in another state."""
    model = shutil.copytree(tiny_whisper, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config |= {"apply_spec_augment": True, "mask_time_prob": 0.5, "mask_feature_prob": 0.2}
    (model / "config.json").write_text(json.dumps(config))
    losses = []
    for number in range(2):
        run = TrainingRun(tmp_path / str(number), model, quick_sets, *QUICK, 'adapter.target_modules=["q_proj"]')
        trainer = in_process_trainer(run)
        np.random.seed(number)
        trainer._one_step(1)
        trainer.journal.close()
        losses.append(run.snapshot.steps.loss.tolist())
    assert losses[0] == losses[1]


def test_every_process_that_loads_a_model_computes_with_the_same_kernels(
    tiny_moonshine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lora-cli`, too: its transcripts are compared with the trainer's."""
    cudnn = torch.backends.cudnn
    for switch, value in (("deterministic", False), ("benchmark", True), ("allow_tf32", True)):
        monkeypatch.setattr(cudnn, switch, value)
    torch.backends.cuda.matmul.allow_tf32 = True
    load_model(str(tiny_moonshine))
    assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == (True, False, False)
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.heavy
def test_a_run_in_bf16_is_scored_in_fp32(tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]) -> None:
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "train.precision=bf16", "train.steps=2")
    assert run.fork() == 0, run.log
    assert [attempt.precision for attempt in run.snapshot.attempts] == ["bf16"]
    scores = sorted(run.paths.evals.rglob("domain.json"))
    assert [json.loads(path.read_text())["precision"] for path in scores] == ["fp32"] * 3
    facts = json.loads((run.paths.best / "reproduce.json").read_text())
    assert facts["precision"] == "fp32"


@pytest.mark.heavy
def test_the_gpu_is_given_back_before_another_process_scores_on_it(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "train.steps=2")
    told = tmp_path / "told.txt"

    def tell(word: str) -> None:
        with told.open("a") as file:
            file.write(f"{word} ")

    def prepare() -> None:
        from core.training import session

        start = session.subprocess.Popen
        session.torch.cuda.empty_cache = lambda: tell("emptied")  # type: ignore[assignment]
        session.subprocess.Popen = lambda *args, **more: tell("scored") or start(*args, **more)  # type: ignore[misc]

    assert run.fork(prepare) == 0, run.log
    assert told.read_text().split()[-3:] == ["emptied", "scored", "scored"]
