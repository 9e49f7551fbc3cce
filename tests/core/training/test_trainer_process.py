"""The trainer as a process: what it leaves behind, and that no way of dying changes the result."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_kit import (
    QUICK,
    TrainingRun,
    kill_after_events,
    kill_at_replace,
    signal_at,
    small_files,
    speechlike,
    write_wav,
)

from core.runs.adapter_hash import adapter_hash
from core.runs.data_health import read_health
from core.runs.events import CheckpointSaved, Event, Final, IntervalScored, Notice, Phase, Step
from core.runs.paths import RunPaths, step_of
from core.runs.snapshot import RunState
from core.training import evaluation
from core.training.__main__ import _final
from core.training.baseline import baseline_fingerprint
from core.training.checkpoint import whole_checkpoints
from core.training.model import load_model

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


def left_half_done(run: TrainingRun) -> list[str]:
    """Temporary files, and checkpoints without their marker."""
    torn = [str(path) for path in run.folder.root.rglob("*.tmp")]
    whole = set(whole_checkpoints(run.paths))
    folders = run.paths.checkpoints.iterdir() if run.paths.checkpoints.is_dir() else ()
    return torn + [str(entry) for entry in folders if step_of(entry.name) not in whole]


def test_a_run_ends_with_its_best_adapter_scored_by_another_process(finished_run: TrainingRun) -> None:
    paths, final = finished_run.paths, finished_run.final
    result = json.loads(paths.result.read_text())
    assert (final.outcome, final.step, finished_run.snapshot.state) == ("done", 8, RunState.DONE)
    assert (result["outcome"], result["steps_completed"]) == ("done", 8)
    best = result["best_step"]
    assert str(paths.best.readlink()) == f"adapters/step-{best:06d}"
    assert str(paths.last.readlink()) == "adapters/step-000008"
    for name in ("domain", "heldout"):
        tuned = json.loads(paths.tuned(name).read_text())
        own = json.loads(paths.evaluation(best, name).read_text())
        assert tuned["adapter_hash"] == own["adapter_hash"] == result["adapter_hash"] == adapter_hash(paths.best)
        assert tuned["step"] == best
        assert tuned["single"]["differing"] == 0
        assert tuned["single"]["compared"] == len(tuned["utterances"])
        different = {key for key in own if own[key] != tuned[key]}
        assert different == {"single"}


def test_every_interval_has_its_evaluations_and_its_adapter(finished_run: TrainingRun) -> None:
    paths = finished_run.paths
    assert [i.step for i in finished_run.snapshot.intervals] == [0, 2, 4, 6, 8]
    assert sorted(p.name for p in paths.adapters.iterdir()) == [f"step-{step:06d}" for step in (2, 4, 6, 8)]
    for interval in finished_run.snapshot.intervals:
        for name, score in (("domain", interval.domain), ("heldout", interval.heldout)):
            document = json.loads(paths.evaluation(interval.step, name).read_text())
            assert document["counts"]["reference_words"] == score.counts.reference_words
            assert document["loss"] == score.loss
            assert document["step"] == interval.step
            assert (document["adapter_hash"] is None) == (interval.step == 0)


def test_the_data_are_audited_beside_the_training(finished_run: TrainingRun) -> None:
    paths = finished_run.paths
    health, problem = read_health(paths, finished_run.config)
    assert problem is None and health is not None
    assert [(one.name, one.clips) for one in health.sets] == [
        ("train", 16), ("replay", 8), ("domain", 9), ("heldout", 6)
    ]  # fmt: skip
    assert health.sets[2].silent == 1
    assert finished_run.folder.data_health(health.key).read_bytes() == paths.data_health.read_bytes()
    # The made-up digits are joined from common pieces, so clips of these sets are nearly the same recordings.
    said = [event.message for r in finished_run.records if isinstance(event := r.event, Notice)]
    assert bool(health.leaks) == any(message.startswith("leakage: ") for message in said)


def test_a_run_does_not_go_on_under_another_audio_path(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    def another_probe() -> None:
        evaluation._probe = lambda target_rms: "0123456789ab"

    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK)
    assert run.fork(signal_at(signal.SIGTERM, at(CheckpointSaved, step=3))) == 0
    assert run.fork(another_probe) == FAILED
    message = run.final.message
    assert "begun under normalisation" in message and "this process computes" in message
    assert "-basic1-0123456789ab: they differ in the samples" in message and "start again" in message
    assert whole_checkpoints(run.paths), "nothing is lost"


def test_a_baseline_of_another_audio_path_is_not_used(tiny_moonshine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = load_model(str(tiny_moonshine))
    facts: dict[str, Any] = {"model_hash": "m", "manifest_sha256": "d", "target_rms": 0.075, "normaliser": "basic"}
    before = baseline_fingerprint(speech, **facts, batch_seconds=60.0)
    assert baseline_fingerprint(speech, **facts, batch_seconds=60.0) == before
    monkeypatch.setattr(evaluation, "_probe", lambda target_rms: "0123456789ab")
    assert baseline_fingerprint(speech, **facts, batch_seconds=60.0) != before


def test_nothing_resumable_and_nothing_half_done_is_left(finished_run: TrainingRun) -> None:
    assert whole_checkpoints(finished_run.paths) == []
    assert left_half_done(finished_run) == []


def test_clips_that_cannot_be_used_are_counted_and_named(finished_run: TrainingRun) -> None:
    told = {event.message for r in finished_run.records if isinstance(event := r.event, Notice)}
    assert {message for message in told if "left out" in message or message.startswith("data.domain")} == {
        "data.train: 1 of 16 clips left out: silence: train/012.wav",
        "data.train: 1 of 16 clips left out: no text: train/013.wav",
        "data.train: 1 of 16 clips left out: longer than data.max_seconds = 4: train/014.wav",
        "data.train: 1 of 16 clips left out: more than the model's 192 tokens: train/015.wav",
        "data.domain: silence: 1 of 9 clips: domain/006.wav",
        "data.domain: longer than the model hears, cut at pauses: 1 of 9 clips: domain/008.wav",
    }


def test_steps_follow_the_schedule_and_hold_both_kinds_of_speech(finished_run: TrainingRun) -> None:
    steps = [event for r in finished_run.records if isinstance(event := r.event, Step)]
    assert [step.step for step in steps] == list(range(1, 9))
    assert steps[0].learning_rate == pytest.approx(0.02)
    assert steps[-1].learning_rate == pytest.approx(0.02 / 8)
    assert sum(step.audio_s for step in steps) / 8 == pytest.approx(12, rel=0.15)
    assert all(step.tokens > 0 and step.grad_norm > 0 for step in steps)


def test_a_run_folder_can_be_moved(finished_run: TrainingRun, tmp_path: Path) -> None:
    moved = RunPaths(tmp_path / "elsewhere")
    shutil.copytree(finished_run.paths.root, moved.root, symlinks=True)
    assert adapter_hash(moved.best) == adapter_hash(finished_run.paths.best)


def test_starting_a_finished_run_again_does_nothing(finished_run: TrainingRun) -> None:
    before = {p: p.lstat().st_mtime_ns for p in finished_run.paths.root.rglob("*") if p.name != "log.txt"}
    assert finished_run.fork() == 0
    assert {p: p.lstat().st_mtime_ns for p in finished_run.paths.root.rglob("*") if p.name != "log.txt"} == before


def test_the_base_model_is_scored_once_for_all_runs(
    finished_run: TrainingRun, tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(finished_run.folder.root / "baselines", runs / "baselines")
    stored = {p: p.stat() for p in runs.rglob("scores.json")}
    assert len(stored) == 2, "domain and heldout"
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "train.seed=1", runs=runs)
    assert run.paths.name != finished_run.paths.name
    assert run.fork(signal_at(signal.SIGTERM, at(IntervalScored, step=0))) == 0
    now = {p: p.stat() for p in runs.rglob("scores.json")}
    assert {p: (s.st_ino, s.st_mtime_ns) for p, s in now.items()} == {
        p: (s.st_ino, s.st_mtime_ns) for p, s in stored.items()
    }
    assert run.snapshot.intervals[0] == finished_run.snapshot.intervals[0]
    mine, other = (r.paths.evaluation(0, "domain").read_bytes() for r in (run, finished_run))
    assert mine == other


def test_other_decode_settings_have_a_baseline_of_their_own(
    finished_run: TrainingRun, tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(finished_run.folder.root / "baselines", runs / "baselines")
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "train.eval_batch_seconds=11", runs=runs)
    assert run.fork(signal_at(signal.SIGTERM, at(IntervalScored, step=0))) == 0
    assert len(list(runs.rglob("scores.json"))) == 4


def test_killed_again_and_again_it_ends_as_if_undisturbed(quick_run: TrainingRun, finished_run: TrainingRun) -> None:
    deaths: list[Callable[[Event], bool]] = [
        at(Step, step=5),
        at(IntervalScored, step=6),
        at(Phase, detail="lora-cli evaluate on heldout"),
    ]
    for death in deaths:
        assert quick_run.fork(signal_at(signal.SIGKILL, death)) == KILLED
    assert quick_run.fork() == 0, quick_run.log
    same(quick_run, finished_run)
    assert [a.resumed_from for a in quick_run.snapshot.attempts] == [None, 4, 6, 8]
    assert left_half_done(quick_run) == []


def kill_evaluations(count: int) -> Callable[[], None]:
    """For `TrainingRun.fork`: something kills the first `count` processes that evaluate the best adapter."""

    def prepare() -> None:
        from core.training import session

        real, seen = session.subprocess.Popen, iter(range(1_000_000))

        def killed(*args: Any, **more: Any) -> Any:
            child = real(*args, **more)
            if next(seen) < count:
                child.kill()
            return child

        session.subprocess.Popen = killed  # type: ignore[misc]

    return prepare


def test_an_evaluation_that_something_kills_is_made_again(quick_run: TrainingRun, finished_run: TrainingRun) -> None:
    assert quick_run.fork(kill_evaluations(2)) == 0, quick_run.log
    same(quick_run, finished_run)
    assert quick_run.log.count("lora-cli evaluate on data.domain was killed by signal 9") == 2


def test_an_audit_that_something_kills_is_made_again(quick_run: TrainingRun, finished_run: TrainingRun) -> None:
    def prepare() -> None:
        from core.training import health

        real, seen = health.subprocess.Popen, iter(range(1_000_000))

        def killed(*args: Any, **more: Any) -> Any:
            child = real(*args, **more)
            if next(seen) < 2:
                child.kill()
            return child

        health.subprocess = SimpleNamespace(**(vars(health.subprocess) | {"Popen": killed}))  # type: ignore[assignment]

    assert quick_run.fork(prepare) == 0, quick_run.log
    same(quick_run, finished_run)
    assert quick_run.log.count("the audit of the data was killed by signal 9") == 2


def test_an_evaluation_that_is_killed_each_time_ends_the_run(quick_run: TrainingRun, finished_run: TrainingRun) -> None:
    assert quick_run.fork(kill_evaluations(3)) == FAILED
    assert "lora-cli evaluate on data.domain was killed by signal 9 3 times" in quick_run.final.message
    assert quick_run.fork() == 0, quick_run.log
    same(quick_run, finished_run)


@pytest.mark.heavy
@pytest.mark.parametrize("count", range(1, 46, 4))
def test_killed_after_any_event_it_ends_as_if_undisturbed(
    quick_run: TrainingRun, finished_run: TrainingRun, count: int
) -> None:
    assert quick_run.fork(kill_after_events(count)) == KILLED
    assert quick_run.fork() == 0, quick_run.log
    same(quick_run, finished_run)


@pytest.mark.heavy
@pytest.mark.parametrize("count", range(1, 60, 6))
def test_killed_in_the_middle_of_writing_any_file_it_ends_as_if_undisturbed(
    quick_run: TrainingRun, finished_run: TrainingRun, count: int
) -> None:
    assert quick_run.fork(kill_at_replace(count)) == KILLED
    assert quick_run.fork() == 0, quick_run.log
    same(quick_run, finished_run)
    assert whole_checkpoints(quick_run.paths) == []


@pytest.mark.heavy
def test_the_real_command_killed_at_a_random_step_ends_as_if_undisturbed(
    quick_run: TrainingRun, finished_run: TrainingRun
) -> None:
    """`python -m core.training` and its `lora-cli` as the queue starts them, with hash seeds of their own."""
    process = quick_run.start()
    while quick_run.snapshot.steps.last_step < 3:
        assert process.poll() is None, quick_run.log
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert quick_run.start().wait() == 0, quick_run.log
    same(quick_run, finished_run)
    assert len(quick_run.snapshot.attempts) == 2
    for noise in ("Loading weights", "it/s", "Warning", "deprecated", "Traceback", "\r"):
        assert noise not in quick_run.log


@pytest.mark.heavy
def test_sigterm_is_heard_while_libraries_are_still_imported(quick_run: TrainingRun) -> None:
    process = quick_run.start()
    catches_sigterm = 0
    while not catches_sigterm:
        [mask] = [s for s in Path(f"/proc/{process.pid}/status").read_text().splitlines() if s.startswith("SigCgt")]
        catches_sigterm = int(mask.split()[1], 16) & (1 << (signal.SIGTERM - 1))
    process.terminate()
    assert process.wait() == 0
    assert quick_run.final.outcome == "stopped"
    assert quick_run.snapshot.steps.last_step == 0


STOPS = {
    "while it loads": at(Phase, phase="loading", detail="data.domain"),
    "in the baseline": at(Phase, phase="baseline"),
    "at a step": at(Step, step=5),
    "in an evaluation": at(Phase, phase="evaluating", step=4),
    "while lora-cli evaluates": at(Phase, detail="lora-cli evaluate on domain"),
}


@pytest.mark.parametrize("when", ["at a step", "while lora-cli evaluates"])
def test_sigterm_saves_and_ends_as_stopped_and_can_be_resumed(
    quick_run: TrainingRun, finished_run: TrainingRun, when: str
) -> None:
    assert quick_run.fork(signal_at(signal.SIGTERM, STOPS[when])) == 0
    assert (quick_run.final.outcome, quick_run.snapshot.state) == ("stopped", RunState.STOPPED)
    assert not quick_run.paths.result.exists()
    if when == "at a step":
        assert quick_run.final.step == 5
        assert whole_checkpoints(quick_run.paths)[-1] == 5, "nothing done is lost"
    assert quick_run.fork() == 0, quick_run.log
    # the checkpoint of the stop is one more than an undisturbed run has
    ours, theirs = quick_run.result(), finished_run.result()
    assert [name for name in theirs if ours[name] != theirs[name]] == []
    assert quick_run.history()["loss"] == finished_run.history()["loss"]


@pytest.mark.parametrize("when", ["while it loads", "in the baseline", "in an evaluation"])
def test_sigterm_is_heard_in_every_phase(quick_run: TrainingRun, when: str) -> None:
    assert quick_run.fork(signal_at(signal.SIGTERM, STOPS[when])) == 0
    assert quick_run.final.outcome == "stopped"
    assert "stopped" in quick_run.final.message
    assert "Traceback" not in quick_run.log


def test_a_stop_right_after_a_resume_keeps_the_checkpoint(quick_run: TrainingRun) -> None:
    assert quick_run.fork(signal_at(signal.SIGTERM, at(Step, step=3))) == 0
    for _ in range(2):
        assert quick_run.fork(signal_at(signal.SIGTERM, at(Phase, phase="training"))) == 0
        assert whole_checkpoints(quick_run.paths)[-1] == 3


def test_a_model_with_nan_in_it_ends_as_diverged(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_moonshine, model)
    weights = load_file(model / "model.safetensors")
    weights["model.encoder.layers.0.mlp.fc2.weight"][0, 0] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    run = TrainingRun(tmp_path, model, quick_sets, *QUICK)
    assert run.fork() == FAILED
    assert (run.final.outcome, run.snapshot.state) == ("diverged", RunState.DIVERGED)
    assert run.final.message == "step 1: loss nan, gradient norm nan; lower train.learning_rate"
    assert run.snapshot.steps.last_step == 1, "the step that diverged is seen in the curve"
    assert run.snapshot.intervals[0].domain.loss is None
    assert not run.paths.result.exists()


def test_a_run_whose_weights_blow_up_ends_as_diverged(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    blown = ("train.learning_rate=1.0", "adapter.alpha=1e19", 'adapter.method="lora"')
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, *blown)
    assert run.fork() == FAILED
    assert run.final.outcome == "diverged"
    assert run.final.message.startswith(f"step {run.final.step + 1}: ")


def test_a_disk_that_fills_up_at_a_checkpoint_is_said_and_survived(
    quick_run: TrainingRun, finished_run: TrainingRun
) -> None:
    assert quick_run.fork(signal_at(signal.SIGKILL, at(IntervalScored, step=0))) == KILLED
    assert quick_run.fork(small_files(24_000)) == FAILED
    assert quick_run.final.outcome == "disk_full"
    assert "free some space and start again: it goes on from the last checkpoint" in quick_run.final.message
    assert left_half_done(quick_run) == []
    assert quick_run.fork() == 0, quick_run.log
    same(quick_run, finished_run)


def test_a_disk_that_fills_up_while_audio_is_decoded_is_said_and_survived(quick_run: TrainingRun) -> None:
    assert quick_run.fork(small_files(24_000)) == FAILED
    assert quick_run.final.outcome == "disk_full"
    assert left_half_done(quick_run) == []
    assert quick_run.fork(signal_at(signal.SIGTERM, at(CheckpointSaved, step=2))) == 0


def fails(run: TrainingRun) -> str:
    """The message of a run that must end as an error, without a traceback."""
    assert run.fork() == FAILED, run.log
    assert (run.final.outcome, run.snapshot.state) == ("error", RunState.FAILED)
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


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_memory_that_runs_out_where_torch_has_no_class_for_it(error: Exception) -> None:
    assert _final(error, 7).outcome == "out_of_memory"


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
    assert (quick_run.final.outcome, quick_run.snapshot.state) == ("out_of_memory", RunState.OUT_OF_MEMORY)
    assert quick_run.final.message.startswith("err == 0. DefaultCPUAllocator: can't allocate memory")
    assert quick_run.fork() == 0, quick_run.log
    same(quick_run, finished_run)


def test_an_error_of_the_program_itself_is_named_by_its_type() -> None:
    assert _final(ZeroDivisionError("division by zero"), 3) == Final("error", "ZeroDivisionError: division by zero", 3)


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--help"]])
def test_bad_usage_of_the_trainer_exits_4(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "core.training", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (4, "usage: python -m core.training RUN_DIR\n")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"settings": {}}'])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None, capsys: Any) -> None:
    from core.training.__main__ import main

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    try:
        assert main([str(tmp_path)]) == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'run.json'}: cannot be read as a run")
    assert not (tmp_path / "events.jsonl").exists()
