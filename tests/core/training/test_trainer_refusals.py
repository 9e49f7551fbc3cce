"""What a trainer refuses, and the last word that it says then."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_trainer import signal_at
from training_kit import QUICK, TrainingRun, speechlike, write_wav

from core.runs.events import Event, Final, Step
from core.runs.status import Status
from core.training.__main__ import _final

KILLED = signal.SIGKILL
"""The wait status of a process that was killed."""
FAILED = 1 << 8
"""The wait status of exit code 1."""


def at(kind: type[Event], **fields: Any) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, kind) and all(getattr(event, k) == v for k, v in fields.items())


def same(run: TrainingRun, other: TrainingRun) -> None:
    """The two runs have the same adapters, evaluations, links and folded events."""
    ours, theirs = run.result(), other.result()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    mine, its = run.history(), other.history()
    assert [name for name in mine if mine[name] != its[name]] == []


def fails(run: TrainingRun) -> str:
    """The message of a run that must end as an error, without a traceback."""
    assert run.fork() == FAILED, run.log
    assert (run.final.outcome, run.snapshot.state) == ("error", Status.FAILED)
    assert "Traceback" not in run.log
    assert "\n" not in run.final.message
    return run.final.message


def own_sets(sets: dict[str, Path], folder: Path) -> dict[str, Path]:
    shutil.copytree(sets["train"].parent, folder)
    return {name: folder / path.name for name, path in sets.items()}


def test_a_text_that_changed_after_planning_is_refused(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    sets = own_sets(quick_sets, tmp_path / "sets")
    run = TrainingRun(tmp_path, tiny_moonshine, sets, *QUICK)
    sets["heldout"].write_text(sets["heldout"].read_text().replace('"text": "', '"text": "one '))
    message = fails(run)
    assert message.startswith(f"data.heldout: {sets['heldout']} or its audio changed after this run was planned")
    assert "submit the plan again" in message


def test_audio_that_changed_after_planning_is_refused(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    sets = own_sets(quick_sets, tmp_path / "sets")
    run = TrainingRun(tmp_path, tiny_moonshine, sets, *QUICK)
    write_wav(tmp_path / "sets" / "train" / "000.wav", speechlike("nine nine nine nine"))
    assert "data.train: " in fails(run)


def test_a_model_that_changed_after_planning_is_refused(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_moonshine, model)
    run = TrainingRun(tmp_path, model, quick_sets, *QUICK)
    config = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(config | {"suppress_tokens": [7]}))
    assert fails(run).startswith(f"model.id: {model} changed after this run was planned")


def test_a_target_module_that_does_not_exist_is_answered_with_those_that_do(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, 'adapter.target_modules=["query"]')
    message = fails(run)
    assert "no linear layer named query; there are: fc1, fc2, k_proj, o_proj, proj_out, q_proj, v_proj" in message


def test_a_model_folder_without_a_processor_is_named(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_moonshine, model)
    (model / "processor_config.json").unlink()
    assert f"model {model}: no usable processor" in fails(TrainingRun(tmp_path, model, quick_sets, *QUICK))


def test_a_training_set_without_a_usable_clip_is_an_error(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "data.max_seconds=0.15")
    message = fails(run)
    assert "data.train: no clip of" in message
    assert "raise data.max_seconds" in message


def test_too_few_clips_for_the_steps_is_an_error_before_any_evaluation(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "train.batch_seconds=0.5")
    assert "micro-batches leave some without" in fails(run)
    assert run.snapshot.intervals == ()


def test_a_damaged_checkpoint_is_named(quick_run: TrainingRun) -> None:
    assert quick_run.fork(signal_at(signal.SIGTERM, at(Step, step=4))) == 0
    state = quick_run.paths.checkpoint(4) / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    assert f"{state.parent}: damaged" in fails(quick_run)


def test_memory_that_runs_out_is_told_with_what_to_lower() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore lines")
    final = _final(error, 7)
    assert (final.outcome, final.step) == ("out_of_memory", 7)
    assert final.message.startswith("CUDA out of memory. Tried to allocate 2.00 GiB; lower train.batch_seconds")
    assert _final(MemoryError(), 7).outcome == "out_of_memory"
    assert _final(error, 7, "evaluating").message.endswith("; lower train.eval_batch_seconds")


def test_what_cuda_says_of_its_memory_is_kept_and_its_advice_is_not() -> None:
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB of which 15.06 MiB "
        "is free. Process 7 has 79.09 GiB memory in use. Of the allocated memory 77.00 GiB is allocated by PyTorch, "
        "and 1.30 GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try …"
    )
    said = _final(error, 7).message
    assert "which 15.06 MiB is free. Process 7 has 79.09 GiB memory in use; lower train.batch_seconds" in said
    assert "reserved" not in said


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_memory_that_runs_out_where_torch_has_no_class_for_it(error: Exception) -> None:
    assert _final(error, 7).outcome == "out_of_memory"


@pytest.mark.heavy
def test_a_trainer_whose_memory_runs_out_says_so_and_can_be_resumed(
    quick_run: TrainingRun, finished_run: TrainingRun
) -> None:
    def prepare() -> None:
        from core.training.trainer import Trainer

        one_step = Trainer._one_step

        def starved(self: Trainer, step: int) -> None:
            if step == 5:
                torch.empty(1 << 44)
            one_step(self, step)

        Trainer._one_step = starved  # type: ignore[method-assign]

    assert quick_run.fork(prepare) == FAILED
    assert (quick_run.final.outcome, quick_run.snapshot.state) == ("out_of_memory", Status.OUT_OF_MEMORY)
    assert quick_run.final.message.startswith("err == 0. DefaultCPUAllocator: can't allocate memory")
    assert quick_run.fork() == 0, quick_run.log
    same(quick_run, finished_run)


def test_an_error_of_the_program_itself_is_named_by_its_type() -> None:
    assert _final(ZeroDivisionError("division by zero"), 3) == Final("error", "ZeroDivisionError: division by zero", 3)


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--help"]])
def test_bad_usage_of_the_trainer_exits_4(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "core.training", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (4, "usage: python -P -m core.training RUN_DIR\n")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"settings": {}}'])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None, capsys: Any) -> None:
    from core.training.__main__ import main

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    if content is not None:
        (run / "run.json").write_text(content)
    try:
        assert main([str(run)]) == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert capsys.readouterr().err.startswith(f"error: {run / 'run.json'}: cannot be read as a run")
    assert not (run / "events.jsonl").exists()
