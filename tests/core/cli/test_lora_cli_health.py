"""`lora-cli manifest check --run`: real audio, planted leaks, one audit for all runs on the same data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from training_kit import TrainingRun, made_up_set, write_set

from core.audio.sound_file import Samples
from core.audit import health as health_audit
from core.cli.__main__ import main
from core.manifests.hashing import HashCache
from core.runs.signing import Keys
from core.runs.verify import verify
from core.system.files import write_json
from core.system.seals import with_checksum

RATE = 16_000


def voice(seed: int, seconds: float = 2.5) -> Samples:
    """A stream of changing harmonics: two seeds have nothing in common."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    sound = np.zeros(len(time))
    for start in np.arange(0, seconds, 0.12):
        inside = (time >= start) & (time < start + 0.11)
        pitch = rng.uniform(90, 250)
        for harmonic in range(1, 14):
            phase = 2 * np.pi * pitch * harmonic * time[inside] + rng.uniform(0, 6)
            sound[inside] += rng.exponential() / harmonic**0.5 * np.sin(phase)
    return (sound / np.abs(sound).max() * 0.3).astype(np.float32)


def sets(folder: Path) -> dict[str, Path]:
    texts = ("one two", "three four", "five six", "seven eight")
    return {
        name: write_set(folder, name, [(voice(100 * seed + i), f"{text} {name}") for i, text in enumerate(texts)])
        for seed, name in enumerate(("train", "replay", "domain", "heldout"))
    }


def plant(folder: Path, manifests: dict[str, Path], name: str, samples: Samples, suffix: str, text: str) -> None:
    path = folder / name / f"planted.{suffix}"
    soundfile.write(path, samples, RATE)
    with manifests[name].open("a") as manifest:
        manifest.write(json.dumps({"audio_filepath": f"{name}/{path.name}", "text": text}) + "\n")


def run_on(root: Path, model: Path, manifests: dict[str, Path], *settings: str) -> TrainingRun:
    return TrainingRun(root, model, manifests, *settings)


def health(run: TrainingRun) -> dict[str, Any]:
    return dict(json.loads(run.paths.data_health.read_text()))


def check(run: TrainingRun, *options: str) -> int:
    return main(["manifest", "check", "--run", str(run.paths.root), *options])


def test_clean_data_have_no_leak(tmp_path: Path, tiny_moonshine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_on(tmp_path / "w", tiny_moonshine, sets(tmp_path))
    assert check(run) == 0
    assert "no recording of an evaluation set is in training" in capsys.readouterr().out
    document = health(run)
    assert document["hashes"] == {k: v for k, v in run.config["hashes"].items() if k != "model"}
    assert [one["name"] for one in document["sets"]] == ["train", "replay", "domain", "heldout"]
    assert all(one["clips"] == 4 and one["seconds"] == 10.0 for one in document["sets"])
    assert document["sets"][0]["words"] == 12
    assert document["shared"] == []


@pytest.mark.parametrize(
    ("how", "kind", "suffix"),
    [
        (lambda s: s, "audio", "wav"),
        (lambda s: s * np.float32(0.4), "near_audio", "ogg"),
        (lambda s: s[int(0.4 * RATE) :] * np.float32(2.0), "near_audio", "flac"),
    ],
)
@pytest.mark.parametrize("trained", ["train", "replay"])
def test_a_planted_recording_is_a_leak(
    how: Callable[[Samples], Samples], kind: str, suffix: str, trained: str, tmp_path: Path, tiny_moonshine: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    manifests = sets(tmp_path)
    third, _ = soundfile.read(tmp_path / "heldout" / "002.wav", dtype="float32")
    plant(tmp_path, manifests, trained, how(third), suffix, "other words here")
    run = run_on(tmp_path / "w", tiny_moonshine, manifests)
    assert check(run) == 1
    (leak,) = health(run)["shared"]
    assert (leak["kind"], leak["dataset"], leak["other"], leak["count"]) == (kind, "heldout", trained, 1)
    assert leak["examples"][0].startswith(f"heldout:3 ↔ {trained}:5")
    assert f"1 heldout clip is in {trained}" in capsys.readouterr().out


def test_clips_that_are_there_again_are_copies(
    tmp_path: Path, tiny_moonshine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifests = sets(tmp_path)
    plant(tmp_path, manifests, "domain", voice(201), "wav", "three four domain")
    plant(tmp_path, manifests, "heldout", voice(200) * np.float32(0.4), "ogg", "well one two domain")
    run = run_on(tmp_path / "w", tiny_moonshine, manifests)
    assert check(run) == 1
    assert health(run)["together"] == [{"dataset": "domain", "groups": [[1, 4]]}]
    assert health(run)["copies"] == [
        {"dataset": "domain", "other": "domain", "count": 1},
        {"dataset": "domain", "other": "heldout", "count": 1},
        {"dataset": "heldout", "other": "domain", "count": 1},
    ]
    said = capsys.readouterr().out
    assert "copies: 1 of 5 domain clips (20.0 %) is a copy of others in domain" in said
    assert "2 domain clips have audio in common, in 1 group (the largest of 2)" in said and "too many clips" in said


def test_texts_speakers_and_evaluation_sets_among_themselves_are_shown(tmp_path: Path, tiny_moonshine: Path) -> None:
    manifests = sets(tmp_path)
    plant(tmp_path, manifests, "domain", voice(300), "ogg", "seven eight train")
    for name in ("train", "domain"):
        lines = [json.loads(line) | {"speaker": "anna"} for line in manifests[name].read_text().splitlines()]
        manifests[name].write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = run_on(tmp_path / "w", tiny_moonshine, manifests)
    assert check(run) == 0
    found = {(one["kind"], one["dataset"], one["other"], one["count"]) for one in health(run)["shared"]}
    assert ("text", "domain", "train", 1) in found
    assert ("speaker", "domain", "train", 1) in found
    assert ("near_audio", "heldout", "domain", 1) in found


def test_equal_data_are_audited_once_and_others_again(
    tmp_path: Path, tiny_moonshine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests, runs = sets(tmp_path), tmp_path / "runs"
    audits: list[str] = []
    document = health_audit.health_document
    monkeypatch.setattr(health_audit, "health_document", lambda *a, **m: (audits.append(a[3]), document(*a, **m))[1])
    first = TrainingRun(tmp_path / "1", tiny_moonshine, manifests, runs=runs)
    other = TrainingRun(tmp_path / "2", tiny_moonshine, manifests, "train.seed=1", runs=runs)
    for run in (first, first, other):
        assert check(run) == 0
    assert len(audits) == 1
    assert first.paths.data_health.read_bytes() == other.paths.data_health.read_bytes()
    shared = first.folder.data_health(audits[0])
    assert json.loads(shared.read_text())["audit"] == health(first)
    without = TrainingRun(tmp_path / "3", tiny_moonshine, manifests, "train.replay_share=0", runs=runs)
    assert check(without) == 0
    assert len(audits) == 2 and "replay" not in health(without)["hashes"]
    other.paths.data_health.write_text("{}")
    edited = json.loads(shared.read_text())
    edited["audit"]["sets"][0]["clips"] += 1
    shared.write_text(json.dumps(edited))
    assert check(other) == 0
    assert len(audits) == 3, "what cannot be believed is made again"
    assert other.paths.data_health.read_bytes() == first.paths.data_health.read_bytes(), "to the same bytes"


def test_levels_are_those_of_the_run(tmp_path: Path, tiny_moonshine: Path) -> None:
    manifests, runs = sets(tmp_path), tmp_path / "runs"
    quiet = TrainingRun(tmp_path / "1", tiny_moonshine, manifests, runs=runs)
    loud = TrainingRun(tmp_path / "2", tiny_moonshine, manifests, "data.target_rms=0.4", runs=runs)
    assert check(quiet) == check(loud) == 0
    assert (health(quiet)["target_rms"], health(loud)["target_rms"]) == (0.075, 0.4)
    assert {one["clamped_share"] for one in health(quiet)["sets"]} == {0.0}
    assert all(one["clamped_share"] > 0.01 for one in health(loud)["sets"])


def test_equal_data_give_equal_bytes_in_every_process(tmp_path: Path, tiny_moonshine: Path) -> None:
    manifests = sets(tmp_path)
    names = ("anna", "bert", "carla", "dora")
    for manifest in manifests.values():
        lines = [json.loads(line) for line in manifest.read_text().splitlines()]
        named = [line | {"speaker": name} for line, name in zip(lines, names, strict=True)]
        manifest.write_text("".join(json.dumps(line) + "\n" for line in named))
    found = set()
    for seed in ("1", "2", "3"):
        run = TrainingRun(tmp_path / seed, tiny_moonshine, manifests)
        command = [sys.executable, "-m", "core.cli", "manifest", "check", "--run", str(run.paths.root)]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
        found.add(run.paths.data_health.read_bytes())
    assert len(found) == 1


def test_verify_makes_the_audit_again(tmp_path: Path, tiny_moonshine: Path) -> None:
    manifests = sets(tmp_path)
    third, _ = soundfile.read(tmp_path / "heldout" / "002.wav", dtype="float32")
    plant(tmp_path, manifests, "train", third * np.float32(0.5), "ogg", "other words here")
    run = TrainingRun(tmp_path / "w", tiny_moonshine, manifests)
    assert check(run) == 1

    def problems() -> list[str]:
        found = verify(run.paths, HashCache(tmp_path / "hashes.json"), Keys())
        return [problem for problem in found.problems if "data_health" in problem]

    assert problems() == []
    document = health(run)
    content = {key: value for key, value in document.items() if key != "checksum"} | {"shared": []}
    write_json(run.paths.data_health, with_checksum(content))  # an edit that bears out its own checksum
    assert problems() == [f"{run.paths.data_health}: not what the audit of the run's sets gives"]


def test_what_cannot_be_audited_is_said(
    tmp_path: Path, tiny_moonshine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifests = sets(tmp_path)
    run = run_on(tmp_path / "w", tiny_moonshine, manifests)
    made_up_set(tmp_path, "heldout", 3, 9)
    assert check(run) == 4
    assert "data.heldout" in (error := capsys.readouterr().err) and "changed after this run was planned" in error
    assert not run.paths.data_health.exists()
    assert check(run, "--no-audio") == 4
    assert "leave out everything else" in capsys.readouterr().err
    write_json(run.paths.config, {"hashes": {"train": "t"}})
    assert check(run) == 4
    assert "cannot be read as a run" in capsys.readouterr().err
