"""`model.audio_context`: Whisper hears a clip and some seconds after it, and everything that depends on it says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import adapter_facts, made_up_set, speechlike

from core.audio.samples import normalise
from core.cli.__main__ import main as lora_cli
from core.errors import ModelError, UserError
from core.export.exporting import check
from core.export.source import Source
from core.plan.exports import target_of
from core.plan.families import FAMILIES, cannot
from core.plan.identity import run_identity
from core.plan.schema import AdapterSettings, DataSettings, ModelSettings, RunSettings, TrainSettings
from core.training.adapter import attach, load_adapter, save_adapter
from core.training.baseline import baseline_facts
from core.training.families.whisper import Lengths, Whisper
from core.training.model import load_model

TEXTS = ["one", "two three four five", "six", "seven eight nine"]


@pytest.fixture
def speech(tiny_whisper: Path) -> Any:
    """Of random weights, whose window is 30 s."""
    return load_model(str(tiny_whisper))


def heard(texts: list[str] = TEXTS) -> list[Any]:
    return [normalise(speechlike(text)).samples for text in texts]


def said(speech: Whisper, clips: list[Any], texts: list[str]) -> tuple[list[list[int]], float]:
    """Transcripts and summed loss of a batch."""
    with torch.inference_mode():
        encoded = speech.encode(speech.features(clips))
        loss = float(speech.summed_loss(encoded, [speech.targets(text) for text in texts]))
        return speech.decode(encoded, [12] * len(clips)), loss


def test_a_clip_reads_the_same_alone_and_in_any_batch(speech: Whisper) -> None:
    """Clips of one length are heard together, others apart: no clip hears another one's padding."""
    short = speech.hearing(0.5)
    together, loss = said(short, heard(), TEXTS)
    apart = [said(short, [clip], [text]) for clip, text in zip(heard(), TEXTS, strict=True)]
    assert together == [written[0] for written, _ in apart]
    assert loss == pytest.approx(sum(one for _, one in apart), rel=1e-5)


def test_a_batch_whose_clips_of_one_length_have_no_targets_is_scored(speech: Whisper) -> None:
    """With a prompt of one token the decoder has nothing to be asked for them."""
    short = speech.hearing(0.5)
    short.prompt = lambda language=None: (speech.prompt()[0],)  # type: ignore[method-assign]
    clips, targets = heard(), [short.targets("one"), [], short.targets("six"), []]
    with torch.inference_mode():
        encoded = short.encode(short.features(clips))
        assert any(not any(targets[row] for row in rows) for rows, _ in encoded.groups)
        loss = float(short.summed_loss(encoded, targets))
        apart = [
            float(short.summed_loss(short.encode(short.features([clip])), [ids]))
            for clip, ids in zip(clips, targets, strict=True)
        ]
    assert apart[1] == apart[3] == 0
    assert loss == pytest.approx(sum(apart), rel=1e-5)


def test_the_encoder_computes_over_the_clip_and_the_margin_alone(speech: Whisper) -> None:
    """In half seconds, 50 frames of its output each second; never over more than the window."""
    clip = heard(["two three four five six seven"])[0][:20_000]  # 1.25 s
    with torch.inference_mode():
        encoded = speech.hearing(1.0).encode(speech.hearing(1.0).features([clip]))
    assert isinstance(encoded, Lengths)
    assert encoded.groups[0][1].outputs.last_hidden_state.shape[1] == 125
    assert [speech.hearing(1.0).encoder_seconds(s) for s in (0.4, 1.5, 1.6, 29.9)] == [1.5, 2.5, 3.0, 30.0]
    assert speech.encoder_seconds(1.25) == 30.0


def test_with_a_margin_of_the_whole_window_it_is_what_it_is_without(speech: Whisper) -> None:
    """Our way through the encoder's layers is transformers'."""
    plain, loss = said(speech, heard(), TEXTS)
    whole, same = said(speech.hearing(30.0), heard(), TEXTS)
    assert whole == plain
    assert same == pytest.approx(loss, rel=1e-6)


def test_an_adapter_is_trained_and_loaded_with_it(speech: Whisper, tmp_path: Path) -> None:
    """Gradients pass, `reproduce.json` names it, and what loads the adapter hears as it was trained."""
    tuned = attach(speech.hearing(2.0), AdapterSettings(rank=2, target_modules=("q_proj", "v_proj")), seed=0)
    tuned.summed_loss(tuned.encode(tuned.features(heard())), [tuned.targets(text) for text in TEXTS]).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in tuned.network.parameters())
    save_adapter(
        tuned,
        tmp_path,
        replace(adapter_facts(), audio_context=2.0, targets=speech.targets_version, prompt=speech.prompted),
    )
    loaded, _ = load_adapter(speech, tmp_path)
    assert (speech.audio_context, loaded.audio_context) == (None, 2.0)
    assert loaded.decoding.audio_context == 2.0


def test_runs_and_baselines_without_it_are_what_they_were(speech: Whisper) -> None:
    """It is part of identity and baseline where it is given, and nowhere else."""
    settings = RunSettings(ModelSettings("m"), DataSettings(), TrainSettings(), AdapterSettings())
    named = replace(settings, model=replace(settings.model, audio_context=4.0))
    assert run_identity(settings, {}) != run_identity(named, {})
    facts = [
        baseline_facts(
            one, model_hash="a", manifest_sha256="b", target_rms=0.075, normaliser="basic", batch_seconds=1.0
        )
        for one in (speech, speech.hearing(4.0))
    ]
    assert facts[1] == facts[0] | {"audio_context": 4.0}


@pytest.mark.parametrize("facts", FAMILIES, ids=lambda facts: facts.name)
def test_other_families_refuse_it_in_one_sentence(facts: Any) -> None:
    """Before anything is loaded."""
    found = list(cannot(facts, TrainSettings(), audio_context=1.0))
    assert bool(found) == (facts.name != "whisper")
    assert all("leave it out (whisper may)" in one for one in found)


def test_a_loaded_model_of_another_family_refuses_it(tiny_moonshine: Path) -> None:
    """As `lora-cli --audio-context` would ask."""
    with pytest.raises(ModelError, match=r"model\.audio_context: moonshine models cannot"):
        load_model(str(tiny_moonshine)).hearing(1.0)


def test_evaluate_takes_it_and_its_document_says_so(tiny_whisper: Path, tmp_path: Path) -> None:
    """Without an adapter it is what the command line says."""
    manifest = made_up_set(tmp_path, "set", 2, 1)
    command = ["evaluate", str(manifest), "--model", str(tiny_whisper), "--json", str(tmp_path / "score.json")]
    assert lora_cli([*command, "--audio-context", "3"]) == 0
    assert json.loads((tmp_path / "score.json").read_text())["decode"]["audio_context"] == 3.0
    assert lora_cli([*command, "--audio-context", "31"]) == 4


def test_no_export_is_made_of_it(tmp_path: Path) -> None:
    """Its verdict says nothing of a runtime that hears the whole window."""
    source = Source(tmp_path, "ab", replace(adapter_facts(), audio_context=4.0), str(tmp_path))
    target = target_of("hf:float32")
    assert target is not None
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(UserError, match=r"model\.audio_context = 4, and whatever serves an export"):
        check(source, target, tmp_path / "out")
