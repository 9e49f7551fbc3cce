"""OpenAI's Whisper tiny.en with a short DoRA: each form is heard by its own runtime, from a path with spaces."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_kit import TrainingRun, subset

from core.errors import ExitCode
from core.scoring.evidence import State
from core.scoring.verdict import thresholds_of

SHARED = Path(__file__).resolve().parents[4] / "shared"
WHISPER, DIGITS, REAL = SHARED / "whisper-tiny.en", SHARED / "speech" / "digits", SHARED / "real" / "manifest.jsonl"
SHORT = (
    "train.steps=4",
    "train.eval_every=2",
    "train.batch_seconds=10",
    "train.learning_rate=3e-4",
    "train.allow_high_learning_rate=true",
    "adapter.method=dora",
    "adapter.rank=4",
    'adapter.target_modules=["attention"]',
    "adapter.sites=decoder",
    "data.normaliser=whisper_english",
    'gate.runtime="ct2:int8"',
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    if not (WHISPER.is_dir() and DIGITS.is_dir() and REAL.is_file()):
        pytest.skip("needs whisper-tiny.en, speech/digits and real of ../shared")
    folder = tmp_path_factory.mktemp("whisper")
    sets = {
        name: subset(DIGITS / f"{name}_manifest.jsonl", folder / f"{name}.jsonl", 4) for name in ("domain", "train")
    }
    sets["heldout"] = subset(REAL, folder / "heldout.jsonl", 2)
    return TrainingRun(folder, WHISPER, sets, *SHORT).trained()


@pytest.mark.long
def test_each_form_is_heard_by_its_own_runtime(
    trained: TrainingRun, lora_cli: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("faster_whisper", reason="needs the extra ct2")
    from core.runs.judged import judged

    assert trained.config["gate"]["runtime"] == "ct2:int8"
    thresholds = thresholds_of(trained.config["gate"])
    missing = judged(trained.snapshot, thresholds).verdict.criterion("runtime")
    assert (missing.state, "No export of this adapter" in missing.reason) == (State.UNKNOWN, True)
    said = {}
    for name, options in (
        ("hf-float32", ("--to", "hf")),
        ("lora-float32", ("--to", "lora")),
        ("ct2-int8", ("--to", "ct2", "--quantise", "int8")),
    ):
        done = lora_cli("export", trained.paths.root, *options, "-o", tmp_path / f"a path with spaces {name}")
        assert done.code == ExitCode.ACCEPTED, done.err
        said[name] = json.loads(trained.paths.export(name).read_text())
    assert [one["changed"] for one in said["hf-float32"]["sets"].values()] == [0, 0]
    assert all(abs(one["rise_pp"]) <= 0.05 for one in said["lora-float32"]["sets"].values())
    assert said["ct2-int8"]["runtime"]["name"] == "faster-whisper"
    assert said["ct2-int8"]["runtime"]["precision"].startswith("int8")
    served = judged(trained.snapshot, thresholds).verdict.criterion("runtime")
    assert f"of {4 + 2} transcripts are not those that were judged" in served.reason
