"""The trainer as a process: what a run leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked_trainer import signal_at
from score_kit import edit
from training_kit import QUICK, TrainingRun

from core.manifests.hashing import HashCache
from core.runs.adapter_files import adapter_hash
from core.runs.consistency import changed_files, missing_files
from core.runs.data_health import read_health
from core.runs.events import CheckpointSaved, Event, IntervalScored, Notice, Step
from core.runs.folder import sha256_of
from core.runs.judged import judged
from core.runs.paths import RunPaths, step_of
from core.runs.scores import read_score
from core.runs.signing import Keys
from core.runs.status import Status
from core.runs.verify import verify
from core.scoring.evidence import State, Thresholds
from core.scoring.units import Unit
from core.training import evaluation
from core.training.baseline import baseline_facts, baseline_fingerprint
from core.training.checkpoint import whole_checkpoints
from core.training.model import load_model

KILLED = signal.SIGKILL
"""The wait status of a process that was killed."""
FAILED = 1 << 8
"""The wait status of exit code 1."""


def at(kind: type[Event], **fields: Any) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, kind) and all(getattr(event, k) == v for k, v in fields.items())


def left_half_done(run: TrainingRun) -> list[str]:
    """Temporary files, and checkpoints without their marker."""
    torn = [str(path) for path in run.folder.root.rglob("*.tmp")]
    whole = set(whole_checkpoints(run.paths))
    folders = run.paths.checkpoints.iterdir() if run.paths.checkpoints.is_dir() else ()
    return torn + [str(entry) for entry in folders if step_of(entry.name) not in whole]


def test_a_run_ends_with_its_best_adapter_scored_by_another_process(finished_run: TrainingRun) -> None:
    paths, final = finished_run.paths, finished_run.final
    result = json.loads(paths.result.read_text())
    assert (final.outcome, final.step, finished_run.snapshot.state) == ("done", 8, Status.DONE)
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


@pytest.mark.heavy
def test_a_gate_that_counts_characters_changes_what_is_counted_and_nothing_else(
    finished_run: TrainingRun, tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(finished_run.folder.root / "baselines", runs / "baselines")
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "gate.unit='character'", runs=runs)
    assert run.paths.name == finished_run.paths.name
    assert run.fork() == 0
    assert run.snapshot.unit is Unit.CHARACTER
    own, other = (judged(one.snapshot, Thresholds(unit=Unit.CHARACTER)) for one in (run, finished_run))
    assert own.problems == other.problems == ()
    assert own.evidence.intervals == other.evidence.intervals
    for name in ("domain", "heldout"):
        counted, words = (read_score(one.paths.tuned(name))[0] for one in (run, finished_run))
        assert counted is not None and words is not None
        assert (counted.unit, words.unit) == (Unit.CHARACTER, Unit.WORD)
        assert counted.counts.reference_words > 2 * words.counts.reference_words
        assert [u.hypothesis for u in counted.utterances] == [u.hypothesis for u in words.utterances]
    assert "CER" in own.verdict.criterion("parity").reason or own.verdict.criterion("parity").state is State.PASS


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
    shared = json.loads(finished_run.folder.data_health(health.key).read_text())
    assert shared["audit"] == json.loads(paths.data_health.read_text())
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
    assert "-0123456789ab: they differ in the samples" in message and "start again" in message
    assert whole_checkpoints(run.paths), "nothing is lost"


def test_a_baseline_of_another_audio_path_is_not_used(tiny_moonshine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = load_model(str(tiny_moonshine))

    def fingerprint() -> str:
        given: dict[str, Any] = {"model_hash": "m", "manifest_sha256": "d", "target_rms": 0.075, "normaliser": "basic"}
        return baseline_fingerprint(baseline_facts(speech, **given, batch_seconds=60.0))

    before = fingerprint()
    assert fingerprint() == before
    monkeypatch.setattr(evaluation, "_probe", lambda target_rms: "0123456789ab")
    assert fingerprint() != before


def up_to_the_baseline(run: TrainingRun) -> list[str]:
    """Let the run score the base model and stop; the warnings that it gives."""
    assert run.fork(signal_at(signal.SIGTERM, at(IntervalScored, step=0))) == 0
    notices = [record.event for record in run.records if isinstance(record.event, Notice)]
    return [notice.message for notice in notices if "scored anew" in notice.message]


def stored_baselines(runs: Path) -> dict[Path, Any]:
    """What is stored, but for whose seals are on it."""
    found = {path: json.loads(path.read_text()) for path in sorted(runs.rglob("scores.json"))}
    return {path: (document["facts"], document["transcripts"]) for path, document in found.items()}


def something_else_heard(document: Any) -> None:
    document["transcripts"]["hypotheses"] = ["nine" for _ in document["transcripts"]["hypotheses"]]


def of_another_model(document: Any) -> None:
    document["facts"]["model"] = "ab" * 32


def sealed_by_another(document: Any) -> None:
    """As a folder that came from elsewhere has it: whole, but of another user."""
    document["seals"] = {"0123456789abcdef": next(iter(document["seals"].values()))}


def one_clip_less(document: Any) -> None:
    del document["transcripts"]["hypotheses"][0]


def of_an_earlier_version(document: Any) -> None:
    document.clear()
    document.update(schema=1, counts={"substitutions": 0}, utterances=[])


@pytest.mark.parametrize(
    "change", [something_else_heard, of_another_model, sealed_by_another, one_clip_less, of_an_earlier_version]
)
def test_a_stored_baseline_that_is_not_sealed_here_is_computed_anew(
    finished_run: TrainingRun, tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path], change: Any
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(finished_run.folder.root / "baselines", runs / "baselines")
    honest = stored_baselines(runs)
    for path in honest:
        edit(path, change)
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "train.seed=1", runs=runs)
    assert len(up_to_the_baseline(run)) == 2
    assert stored_baselines(runs) == honest
    for name in ("domain", "heldout"):
        mine, other = (r.paths.evaluation(0, name).read_bytes() for r in (run, finished_run))
        assert mine == other


def test_a_baseline_of_another_manifest_in_its_place_is_computed_anew(
    finished_run: TrainingRun, tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    """Sealed here, whole and unchanged, but of another set."""
    runs = tmp_path / "runs"
    shutil.copytree(finished_run.folder.root / "baselines", runs / "baselines")
    one, other = sorted(runs.rglob("scores.json"))
    shutil.copy(one, other)
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "train.seed=1", runs=runs)
    [said] = up_to_the_baseline(run)
    assert "the baseline of another model, manifest or setting" in said


def test_speakers_that_the_manifest_names_later_arrive(
    finished_run: TrainingRun, tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    """The base model's transcripts are shared; who speaks is what the manifest of this run says."""
    runs = tmp_path / "runs"
    shutil.copytree(finished_run.folder.root / "baselines", runs / "baselines")
    lines = [json.loads(line) for line in quick_sets["heldout"].read_text().splitlines()]
    named = quick_sets["heldout"].with_name("named.jsonl")
    told = [line | {"speaker": f"s{number % 2}", "room": "hall"} for number, line in enumerate(lines)]
    named.write_text("".join(json.dumps(line) + "\n" for line in told))
    sets = quick_sets | {"heldout": named}
    run = TrainingRun(tmp_path, tiny_moonshine, sets, *QUICK, "train.seed=1", runs=runs)
    assert up_to_the_baseline(run) == []
    score, _ = read_score(run.paths.evaluation(0, "heldout"))
    before, _ = read_score(finished_run.paths.evaluation(0, "heldout"))
    assert score is not None and before is not None
    assert [u.speaker for u in score.utterances] == [line["speaker"] for line in told]
    assert {u.speaker for u in before.utterances} == {None}
    assert [u.hypothesis for u in score.utterances] == [u.hypothesis for u in before.utterances]
    assert score.lines_sha256 == run.config["lines"]["heldout"] != before.lines_sha256


def test_a_run_does_not_go_on_with_other_speakers(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    copied = quick_sets["heldout"].with_name("copied.jsonl")
    shutil.copy(quick_sets["heldout"], copied)
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets | {"heldout": copied}, *QUICK)
    copied.write_text(copied.read_text().replace('"duration"', '"speaker": "ann", "duration"'))
    assert run.fork() == FAILED
    assert "data.heldout: speakers or other fields in" in run.final.message


def test_the_result_lists_the_runs_files_and_the_final_event_the_result(
    finished_run: TrainingRun, tmp_path: Path
) -> None:
    paths = finished_run.paths
    result = json.loads(paths.result.read_text())
    assert {"evals/step-000000/domain.json", "evals/tuned/heldout.json", "evals/position.json", "data_health.json"} <= (
        result["files"].keys()
    )
    assert finished_run.final.result == sha256_of(paths.result)
    assert list(changed_files(finished_run.snapshot)) == list(missing_files(finished_run.snapshot)) == []
    copied = RunPaths(tmp_path / paths.name)
    shutil.copytree(paths.root, copied.root, symlinks=True)
    verification = verify(copied, HashCache(Path(os.devnull)), Keys())
    assert verification.problems == ()
    assert [gap.partition(":")[0] for gap in verification.unchecked] == ["signature"]


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
