"""OpenAI's own Whisper tiny.en, where it lies beside the project: scored as transformers' pipeline scores it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training_kit import TrainingRun, subset

from core.audio.samples import SAMPLE_RATE_HZ, normalise, read_clip
from core.errors import ExitCode
from core.manifests.manifest import read_manifest, write_manifest
from core.runs.scores import Score, read_score
from core.scoring.alignment import count_errors
from core.scoring.text import normaliser
from core.scoring.units import total

SHARED = Path(__file__).parents[4] / "shared"
WHISPER = SHARED / "whisper-tiny.en"
SETS = {
    # every clip of two readers, and as much of the connected digits as a minute or two allow; how numbers are spelt
    "real": (SHARED / "real" / "manifest.jsonl", 1, "whisper_english"),
    "heldout": (SHARED / "speech" / "digits" / "heldout_manifest.jsonl", 20, "digits"),
}
EVALUATED = ("domain", "heldout")

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not WHISPER.is_dir(), reason="needs OpenAI's Whisper tiny.en in ../shared/whisper-tiny.en"),
]


def part_of(manifest: Path, every: int, folder: Path) -> Path:
    """A manifest of each `every`-th utterance, so that all speakers are among them."""
    lines = [json.loads(line) for line in manifest.read_text().splitlines()][::every]
    for line in lines:
        line["audio_filepath"] = str(manifest.parent / line["audio_filepath"])
    write_manifest(folder / manifest.name, lines)
    return folder / manifest.name


def scored(manifest: Path, *options: str) -> Score:
    output = manifest.with_suffix(".score.json")
    command = [sys.executable, "-m", "core.cli", "evaluate", str(manifest), "--model", str(WHISPER)]
    subprocess.run([*command, "--json", str(output), *options], check=True)
    score, problem = read_score(output)
    assert score is not None, problem
    return score


def by_pipeline(manifest: Path, beams: int) -> list[str]:
    """What transformers' pipeline makes of each clip: alone, at the loudness of `lora-cli`.

    Unless told, it takes 5 beams.
    """
    import torch
    from transformers import pipeline

    recogniser: Any = pipeline("automatic-speech-recognition", model=str(WHISPER), dtype=torch.float32, device="cpu")
    clips = (
        normalise(read_clip(u.audio, u.offset_s, u.duration_s)).samples for u in read_manifest(manifest).utterances
    )
    options: dict[str, Any] = {"batch_size": 1, "generate_kwargs": {"num_beams": beams}}
    return [str(recogniser({"raw": clip, "sampling_rate": SAMPLE_RATE_HZ}, **options)["text"]) for clip in clips]


@pytest.mark.parametrize(
    ("name", "beams"),
    [("real", 1), *(pytest.param(*case, marks=pytest.mark.long) for case in (("real", 5), ("heldout", 1)))],
)
def test_the_word_error_rate_is_that_of_the_pipeline(name: str, beams: int, tmp_path: Path) -> None:
    manifest, every, spelling = SETS[name]
    if not manifest.is_file():
        pytest.skip(f"needs {manifest.relative_to(SHARED.parent)}")
    part = part_of(manifest, every, tmp_path)
    text = normaliser(spelling)
    score = scored(part, "--normaliser", spelling, "--beams", str(beams))
    pairs = zip(score.utterances, by_pipeline(part, beams), strict=True)
    theirs = total(count_errors(text.apply(u.reference), text.apply(hypothesis)) for u, hypothesis in pairs)
    assert score.counts.plain.wer_percent == pytest.approx(theirs.wer_percent, abs=0.1)


SHORT = (
    "train.steps=4",
    "train.eval_every=2",
    "train.batch_seconds=10",
    "train.learning_rate=1e-3",
    "train.allow_high_learning_rate=true",
    "train.threads=2",
    "adapter.rank=8",
    'adapter.target_modules=["attention"]',
    "adapter.sites=decoder",
    "data.normaliser=whisper_english",
    "gate.stability_min_steps=0",
)


@pytest.mark.long
def test_a_short_dora_run_ends_with_a_verdict(tmp_path: Path) -> None:
    """Too short to be accepted; its score from disk is the trainer's, and its adapter changes what is written."""
    digits = SHARED / "speech" / "digits"
    if not digits.is_dir():
        pytest.skip("needs the connected digits in ../shared/speech/digits")
    sets = {name: subset(digits / f"{name}_manifest.jsonl", tmp_path / f"{name}.jsonl", 6) for name in EVALUATED}
    sets["train"] = subset(digits / "train_manifest.jsonl", tmp_path / "train.jsonl", 12)
    run = TrainingRun(tmp_path, WHISPER, sets, *SHORT)
    command = [sys.executable, "-m", "lora_tui", "--headless", "--gate", "--export", "matrix.json", str(run.plan)]
    for setting in SHORT:
        command += ["--set", setting]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ExitCode(done.returncode) in (ExitCode.REJECTED, ExitCode.ACCEPTED, ExitCode.UNDECIDED), done.stderr
    assert re.search(r"PASS +Parity", done.stdout + done.stderr), done.stdout + done.stderr
    losses = [interval.domain.loss for interval in run.snapshot.intervals]
    assert losses[-1] is not None and losses[0] is not None and losses[-1] < losses[0]
