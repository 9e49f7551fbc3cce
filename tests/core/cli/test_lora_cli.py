from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from training_kit import RATE, TrainingRun, speechlike, write_set, write_wav

from core.audio.samples import cut_at_pauses, read_clip
from core.manifests.manifest import read_manifest
from core.scoring.alignment import count_errors
from core.scoring.text import normaliser
from core.scoring.units import Unit

Cli = Callable[..., Any]


@pytest.fixture(scope="session")
def spoken(digits: Path, base_model: Path) -> list[tuple[Path, str]]:
    """Clips that the base model reads without an error, and what is said in them."""
    from core.training.evaluation import Decoder
    from core.training.model import load_model

    some = read_manifest(digits / "heldout_manifest.jsonl").utterances
    clips = [read_clip(u.audio) for u in some]
    texts, *_ = Decoder(load_model(str(base_model))).run([len(clip) for clip in clips], clips.__getitem__)
    right = [(u.audio, u.text) for u, text in zip(some, texts, strict=True) if text == u.text]
    assert len(right) >= 6
    return right


def test_one_file_gives_its_text_alone(lora_cli: Cli, spoken: list[tuple[Path, str]], base_model: Path) -> None:
    audio, text = spoken[0]
    assert lora_cli("transcribe", audio, "--model", base_model) == (0, f"{text}\n", "")


def test_several_files_give_a_line_each_with_the_name_as_given(
    lora_cli: Cli, spoken: list[tuple[Path, str]], base_model: Path
) -> None:
    done = lora_cli("transcribe", *(audio for audio, _ in spoken[:3]), "--model", base_model)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [f"{audio}\t{text}" for audio, text in spoken[:3]]


def test_json_gives_an_object_a_line(lora_cli: Cli, spoken: list[tuple[Path, str]], base_model: Path) -> None:
    done = lora_cli("transcribe", *(audio for audio, _ in spoken[:2]), "--model", base_model, "--json")
    facts = [json.loads(line) for line in done.out.splitlines()]
    assert [(f["audio_filepath"], f["text"]) for f in facts] == [(str(audio), text) for audio, text in spoken[:2]]
    assert [f["duration"] for f in facts] == [round(len(read_clip(audio)) / RATE, 3) for audio, _ in spoken[:2]]
    assert not any(f["cut_at_pauses"] or f["silent"] for f in facts)


def test_stereo_at_44_1_khz_reads_like_the_original(
    lora_cli: Cli, spoken: list[tuple[Path, str]], base_model: Path, tmp_path: Path
) -> None:
    audio, text = spoken[1]
    samples = soxr.resample(read_clip(audio), RATE, 44_100)
    soundfile.write(tmp_path / "loud.wav", np.stack([samples * 0.2, samples * 0.6], axis=1), 44_100)
    assert lora_cli("transcribe", tmp_path / "loud.wav", "--model", base_model).out == f"{text}\n"


def test_audio_beyond_the_models_limit_is_cut_at_pauses_and_joined(
    lora_cli: Cli, spoken: list[tuple[Path, str]], base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.training.families.moonshine import Moonshine

    limits_of = Moonshine.limits_of
    monkeypatch.setattr(Moonshine, "limits_of", lambda *a: replace(limits_of(*a), max_seconds=5.0))
    pause = np.zeros(RATE // 2, np.float32)
    path = write_wav(
        tmp_path / "long.wav", np.concatenate([p for audio, _ in spoken for p in (read_clip(audio), pause)])
    )
    whole = read_clip(path)
    assert len(whole) > 12 * RATE
    [fact] = [json.loads(lora_cli("transcribe", path, "--model", base_model, "--json").out)]
    assert fact["cut_at_pauses"]
    pieces = cut_at_pauses(whole, 5.0)
    assert len(pieces) > 2
    assert all(np.abs(whole[stop - 80 : stop + 80]).max() < 0.01 for _, stop in pieces[:-1]), "cut in pauses"
    reference = " ".join(text for _, text in spoken)
    # a piece that was lost, or came twice, would cost more
    assert count_errors(reference, fact["text"]).errors <= 0.15 * len(reference.split())


def test_an_adapter_brings_its_base_model_along(
    lora_cli: Cli, digits_run: TrainingRun, spoken: list[tuple[Path, str]], base_model: Path
) -> None:
    adapter = digits_run.paths.best
    named = lora_cli("transcribe", spoken[0][0], "--adapter", adapter, "--model", base_model)
    assert lora_cli("transcribe", spoken[0][0], "--adapter", adapter) == named
    assert named.code == 0


def test_evaluate_prints_the_wer_that_the_trainer_reported(lora_cli: Cli, digits_run: TrainingRun) -> None:
    own = digits_run.snapshot.intervals
    best = json.loads(digits_run.paths.result.read_text())["best_step"]
    [interval] = [i for i in own if i.step == best]
    counts = interval.heldout.counts
    manifest = digits_run.config["settings"]["data"]["heldout"]
    done = lora_cli("evaluate", manifest, "--adapter", digits_run.paths.best)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"WER {counts.wer_percent:.2f} %  ({counts.errors} errors in {counts.reference_words} words)",
        f"substitutions {counts.substitutions}  deletions {counts.deletions}  insertions {counts.insertions}",
        f"loss {interval.heldout.loss:.4f} nats per token",
    ]


def test_evaluate_writes_the_score_that_the_trainer_wrote(
    lora_cli: Cli, finished_run: TrainingRun, tmp_path: Path
) -> None:
    best = json.loads(finished_run.paths.result.read_text())["best_step"]
    own = json.loads(finished_run.paths.evaluation(best, "domain").read_text())
    arguments = ("evaluate", own["manifest"], "--adapter", finished_run.paths.best, "--dataset", "domain")
    done = lora_cli(*arguments, "--json", tmp_path / "new" / "score.json")
    assert done.code == 0
    assert json.loads((tmp_path / "new" / "score.json").read_text()) == own
    assert done.err.splitlines() == [
        "note: silence: 1 of 9 clips: domain/006.wav",
        "note: longer than the model hears, cut at pauses: 1 of 9 clips: domain/008.wav",
    ]
    on_stdout = lora_cli(*arguments, "--json", "-", "--singly", "4")
    document = json.loads(on_stdout.out)
    assert document.pop("single") == {"compared": 4, "differing": 0}
    assert document == {key: value for key, value in own.items() if key != "single"}


def test_the_base_model_is_scored_without_an_adapter(lora_cli: Cli, digits_run: TrainingRun, base_model: Path) -> None:
    interval = digits_run.snapshot.intervals[0]
    facts = json.loads((digits_run.paths.best / "reproduce.json").read_text())
    manifest = digits_run.config["settings"]["data"]["domain"]
    rate = ("--tokens-per-second", facts["tokens_per_second"])
    done = lora_cli("evaluate", manifest, "--model", base_model, *rate)
    assert done.out.startswith(f"WER {interval.domain.counts.wer_percent:.2f} %")


def test_the_text_normaliser_can_be_chosen(lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path) -> None:
    manifest = write_set(tmp_path, "s", [(speechlike("one two"), "One, TWO -")])
    words = {}
    for name in ("basic", "raw"):
        done = lora_cli("evaluate", manifest, "--model", tiny_moonshine, "--normaliser", name, "--json", "-")
        document = json.loads(done.out)
        assert document["normaliser"] == {"name": name, "version": normaliser(name).version}
        words[name] = document["counts"]["reference_words"]
    assert words == {"basic": 2, "raw": 3}


def test_the_unit_can_be_chosen(lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path) -> None:
    manifest = write_set(tmp_path, "s", [(speechlike("one two"), "你好，one TWO")])
    words = {}
    for unit in Unit:
        done = lora_cli("evaluate", manifest, "--model", tiny_moonshine, "--unit", unit, "--json", "-")
        document = json.loads(done.out)
        assert document["unit"] == unit.value
        words[unit.value] = document["counts"]["reference_words"]
    assert words == {"word": 3, "character": 2 + len("one two"), "mixed": 4}
    done = lora_cli("evaluate", manifest, "--model", tiny_moonshine, "--unit", "character", "--every-normaliser")
    assert done.out.startswith("CER ") and " in 9 characters)" in done.out
    assert done.out.splitlines()[2].split()[1:3] == ["CER", "%"]


def test_texts_without_spaces_are_told_the_unit_to_take(lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path) -> None:
    manifest = write_set(tmp_path, "s", [(speechlike("one two"), "今天天气很好我们去公园")])
    done = lora_cli("evaluate", manifest, "--model", tiny_moonshine)
    assert (done.code, "here: --unit character or mixed" in done.err) == (0, True)
    assert lora_cli("evaluate", manifest, "--model", tiny_moonshine, "--unit", "mixed").err == ""


def test_silence_is_transcribed_and_said(lora_cli: Cli, tiny_moonshine: Path, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "quiet.wav", np.zeros(RATE, np.float32))
    done = lora_cli("transcribe", path, "--model", tiny_moonshine)
    assert (done.code, done.err) == (0, f"warning: {path}: silence (RMS below 1e-4), left as it is\n")


def test_the_real_command_says_nothing_but_the_text(
    spoken: list[tuple[Path, str]], digits_run: TrainingRun, lora_cli: Cli
) -> None:
    """As installed: no progress bars, no warnings of libraries, no traceback."""
    command = [Path(sys.executable).with_name("lora-cli"), "transcribe", spoken[0][0]]
    command += ["--adapter", digits_run.paths.best]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout == lora_cli("transcribe", spoken[0][0], "--adapter", digits_run.paths.best).out
