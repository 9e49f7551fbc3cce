"""Beam search: what transformers' `generate(num_beams=…)` gives, and the same alone and in a batch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import FAMILIES, QUICK, TrainingRun, speechlike

from core.audio.samples import normalise
from core.errors import ModelError
from core.runs.adapter_files import read_facts
from core.runs.consistency import wrong_facts
from core.runs.paths import step_name
from core.runs.scores import read_score
from core.training.baseline import baseline_facts
from core.training.families.seq2seq import Seq2Seq
from core.training.model import load_model

WHISPER = Path(__file__).parents[4] / "shared" / "whisper-tiny.en"
TEXTS = ("one", "two three four", "five six seven eight nine")


def ours(model: Any, clips: list[Any], caps: list[int]) -> list[list[int]]:
    with torch.inference_mode():
        return list(model.decode(model.encode(model.features(clips)), caps))


def theirs(model: Seq2Seq, clip: Any, cap: int) -> list[int]:
    """The tokens of plain transformers, without prompt and end."""
    from transformers import GenerationMixin

    prompt, generation = model.vocabulary.prefix, model.network.generation_config
    # not Whisper's own generate(), which wraps this one into windows, timestamps and temperatures
    tokens = GenerationMixin.generate(
        model.network,
        **model.features([clip]),
        decoder_input_ids=torch.tensor([prompt]),
        num_beams=model.beams,
        do_sample=False,
        max_new_tokens=cap,
        suppress_tokens=generation.suppress_tokens,
        begin_suppress_tokens=generation.begin_suppress_tokens,
    )[0].tolist()[len(prompt) :]
    while tokens and tokens[-1] in model.vocabulary.eos:
        tokens.pop()
    return list(tokens)


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    return load_model(str(request.getfixturevalue(request.param))).with_beams(3)


def test_a_random_model_finds_what_transformers_finds(model: Any) -> None:
    """Its hypotheses are near each other, so that every rule of the search matters; most run to the cap."""
    for text, cap in zip(TEXTS, (4, 9, 12), strict=True):
        clip = normalise(speechlike(text)).samples
        assert ours(model, [clip], [cap]) == [theirs(model, clip, cap)]


def test_a_batch_finds_what_each_clip_finds_alone(model: Any) -> None:
    clips, caps = [normalise(speechlike(text)).samples for text in TEXTS], [4, 9, 12]
    alone = [ours(model, [clip], [cap])[0] for clip, cap in zip(clips, caps, strict=True)]
    assert ours(model, clips, caps) == alone
    assert [len(tokens) <= cap for tokens, cap in zip(alone, caps, strict=True)] == [True] * 3


def test_a_trained_model_finds_what_transformers_finds(digits: Path, base_model: Path, decoded: Any) -> None:
    model: Any = load_model(str(base_model))
    beams = model.with_beams(5)
    _, clips = decoded(digits / "domain_manifest.jsonl")
    chosen = [normalise(clips[index]).samples for index in range(15)]
    caps = [model.limits.tokens(len(clip)) for clip in chosen]
    found = ours(beams, chosen, caps)
    assert found == [theirs(beams, clip, cap) for clip, cap in zip(chosen, caps, strict=True)]
    assert found != ours(model, chosen, caps), "and not what greedy decoding finds"


@pytest.mark.heavy
def test_whisper_finds_what_transformers_finds(digits: Path, decoded: Any) -> None:
    if not WHISPER.is_dir():
        pytest.skip("needs OpenAI's Whisper tiny.en in ../shared/whisper-tiny.en")
    model: Any = load_model(str(WHISPER)).with_beams(5)
    _, clips = decoded(digits / "heldout_manifest.jsonl")
    chosen = [normalise(clips[index]).samples for index in range(4)]
    caps = [model.limits.tokens(len(clip)) for clip in chosen]
    assert ours(model, chosen, caps) == [theirs(model, clip, cap) for clip, cap in zip(chosen, caps, strict=True)]


def test_one_beam_is_greedy_and_more_are_another_baseline(tiny_moonshine: Path) -> None:
    model = load_model(str(tiny_moonshine))

    def facts(beams: int) -> dict[str, Any]:
        return baseline_facts(
            model.with_beams(beams),
            model_hash="m",
            manifest_sha256="s",
            target_rms=0.075,
            normaliser="basic",
            batch_seconds=120.0,
        )

    assert "beams" not in facts(1), "baselines of before there were beams are greedy ones"
    assert facts(5) == facts(1) | {"beams": 5}


@pytest.mark.heavy
def test_a_run_is_scored_by_the_beams_of_its_gate(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    """The base model, every interval and the process that scores the adapter from disk; all files say so."""
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "gate.beams=2").trained()
    paths = run.paths
    documents = [
        paths.evaluation(0, "domain"),
        paths.evaluation(8, "domain"),
        paths.tuned("domain"),
        paths.tuned("heldout"),
    ]
    scores = [read_score(path)[0] for path in documents]
    assert [(one.decode.method, one.decode.beams) for one in scores if one is not None] == [("beam", 2)] * 4
    facts = read_facts(paths.best)
    assert facts is not None and facts.beams == 2
    snapshot = run.snapshot
    assert snapshot.result is not None
    best = step_name(snapshot.result["best_step"])
    assert not list(wrong_facts(snapshot, best))
    config = json.loads(paths.config.read_text())
    config["settings"]["train"]["beams"] = 1
    paths.config.write_text(json.dumps(config))
    said = list(wrong_facts(run.snapshot, best))
    assert any("decoded with beams = 2, but gate.beams of the run was 1" in what for what in said)


def test_families_without_it_refuse_by_name(model: Any) -> None:
    unable = replace(model, facts=replace(model.facts, name="some_ctc", beams=False), beams=1)
    assert unable.with_beams(1).beams == 1
    with pytest.raises(ModelError, match="beams = 5: some_ctc models are decoded greedily"):
        unable.with_beams(5)
