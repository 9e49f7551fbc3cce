"""No way of dying, and no full disk, changes what a run comes to."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from forked_trainer import kill_after_events, kill_at_replace, signal_at, small_files
from safetensors.torch import load_file, save_file
from training_kit import QUICK, TrainingRun
from waiting import wait_for

from core.runs.events import CheckpointSaved, Event, IntervalScored, Phase, Step
from core.runs.paths import step_of
from core.runs.status import Status
from core.training.checkpoint import whole_checkpoints

KILLED = signal.SIGKILL
"""The wait status of a process that was killed."""
FAILED = 1 << 8
"""The wait status of exit code 1."""


def some_long(counts: range) -> list[Any]:
    """Every third of them for CI; the rest is seen by `make test-all`."""
    return [pytest.param(count, marks=[pytest.mark.long] if i % 3 else []) for i, count in enumerate(counts)]


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


@pytest.mark.heavy
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


@pytest.mark.heavy
def test_an_evaluation_that_something_kills_is_made_again(quick_run: TrainingRun, finished_run: TrainingRun) -> None:
    assert quick_run.fork(kill_evaluations(2)) == 0, quick_run.log
    same(quick_run, finished_run)
    assert quick_run.log.count("lora-cli evaluate on data.domain was killed by signal 9") == 2


@pytest.mark.heavy
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


@pytest.mark.heavy
def test_an_evaluation_that_is_killed_each_time_ends_the_run(quick_run: TrainingRun, finished_run: TrainingRun) -> None:
    assert quick_run.fork(kill_evaluations(3)) == FAILED
    assert "lora-cli evaluate on data.domain was killed by signal 9 3 times" in quick_run.final.message
    assert quick_run.fork() == 0, quick_run.log
    same(quick_run, finished_run)


@pytest.mark.heavy
@pytest.mark.parametrize("count", some_long(range(1, 46, 4)))
def test_killed_after_any_event_it_ends_as_if_undisturbed(
    quick_run: TrainingRun, finished_run: TrainingRun, count: int
) -> None:
    assert quick_run.fork(kill_after_events(count)) == KILLED
    assert quick_run.fork() == 0, quick_run.log
    same(quick_run, finished_run)


@pytest.mark.heavy
@pytest.mark.parametrize("count", some_long(range(1, 60, 6)))
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

    def third_step() -> bool:
        assert process.poll() is None, quick_run.log
        return quick_run.snapshot.steps.last_step >= 3

    wait_for(third_step, every_s=0.01)
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


@pytest.mark.parametrize("when", ["at a step", pytest.param("while lora-cli evaluates", marks=pytest.mark.heavy)])
def test_sigterm_saves_and_ends_as_stopped_and_can_be_resumed(
    quick_run: TrainingRun, finished_run: TrainingRun, when: str
) -> None:
    assert quick_run.fork(signal_at(signal.SIGTERM, STOPS[when])) == 0
    assert (quick_run.final.outcome, quick_run.snapshot.state) == ("stopped", Status.STOPPED)
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
    assert (run.final.outcome, run.snapshot.state) == ("diverged", Status.DIVERGED)
    assert run.final.message == "step 1: loss nan, gradient norm nan; lower train.learning_rate"
    assert run.snapshot.steps.last_step == 1, "the step that diverged is seen in the curve"
    assert run.snapshot.intervals[0].domain.loss is None
    assert not run.paths.result.exists()


def test_a_run_whose_weights_blow_up_ends_as_diverged(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    blown = ("train.learning_rate=1.0", "adapter.alpha=1e15", 'adapter.method="lora"')
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, *blown)
    assert run.fork() == FAILED
    assert run.final.outcome == "diverged"
    assert run.final.message.startswith(f"step {run.final.step + 1}: ")


@pytest.mark.heavy
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
