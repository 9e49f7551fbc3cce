"""A clip's transcript must not depend on what shares its batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_kit import FAMILIES, digit_texts, speechlike

from core.audio.samples import normalise
from core.scoring.alignment import count_errors
from core.scoring.text import normaliser
from core.scoring.units import ErrorCounts, total
from core.training.families.seq2seq import Seq2Seq
from core.training.model import load_model

LENGTHS = (1_600, 5_000, 16_000, 23_999, 24_001, 40_321, 64_000)


def transcripts(model: Seq2Seq, clips: Sequence[Any], batches: Sequence[Sequence[int]]) -> list[str]:
    """The transcript of each clip, decoded in these batches."""
    texts = [""] * len(clips)
    with torch.inference_mode():
        for batch in batches:
            chosen = [clips[i] for i in batch]
            caps = [model.limits.tokens(len(clip)) for clip in chosen]
            written = model.decode(model.encode(model.features(chosen)), caps)
            for i, tokens in zip(batch, written, strict=True):
                texts[i] = model.text(tokens)
    return texts


def in_batches(order: Sequence[int], size: int) -> list[list[int]]:
    return [list(order[start : start + size]) for start in range(0, len(order), size)]


def ways(clips: Sequence[Any]) -> dict[str, list[list[int]]]:
    by_length = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    return {
        "batch 1": in_batches(range(len(clips)), 1),
        "16 sorted": in_batches(by_length, 16),
        "64 unsorted": in_batches(range(len(clips)), 64),
    }


def counted(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    apply = normaliser("basic").apply
    return total(count_errors(apply(r), apply(h)) for r, h in zip(references, hypotheses, strict=True))


def heard(decoded: Any, *manifests: Path) -> tuple[list[Any], list[str]]:
    """The clips of these manifests, as the model hears them, and their texts."""
    sets = [decoded(manifest) for manifest in manifests]
    clips = [normalise(store[i]).samples for _, store in sets for i in range(len(store))]
    return clips, [utterance.text for read, _ in sets for utterance in read.utterances]


def compare(model: Seq2Seq, clips: Sequence[Any], references: Sequence[str], most_wer: float) -> None:
    found = {name: transcripts(model, clips, batches) for name, batches in ways(clips).items()}
    alone = found.pop("batch 1")
    allowed = len(clips) // 500
    wer = counted(references, alone)
    for name, texts in found.items():
        differing = sum(a != b for a, b in zip(alone, texts, strict=True))
        assert differing <= allowed, f"{name}: {differing} of {len(clips)} transcripts differ from batch 1"
        assert differing or counted(references, texts) == wer, name
    assert wer.wer_percent is not None
    assert wer.wer_percent < most_wer


def test_real_speech_reads_the_same_in_any_batch(digits: Path, base_model: Path, decoded: Any) -> None:
    compare(
        load_model(str(base_model)),
        *heard(decoded, digits / "heldout_manifest.jsonl", digits / "domain_manifest.jsonl"),
        most_wer=30,
    )


@pytest.mark.heavy
def test_all_500_heldout_clips_read_the_same_in_any_batch(whole_digits: Path, base_model: Path, decoded: Any) -> None:
    compare(load_model(str(base_model)), *heard(decoded, whole_digits / "heldout_manifest.jsonl"), most_wer=15)


def test_plain_transformers_does_not_have_this_property(digits: Path, base_model: Path, decoded: Any) -> None:
    """Otherwise the tests above would prove nothing."""
    from transformers import AutoModelForSpeechSeq2Seq

    model = load_model(str(base_model))
    model.network = AutoModelForSpeechSeq2Seq.from_pretrained(base_model, dtype=torch.float32).eval()
    clips, _ = heard(decoded, digits / "heldout_manifest.jsonl", digits / "domain_manifest.jsonl")
    batches = ways(clips)
    alone, together = (transcripts(model, clips, batches[name]) for name in ("batch 1", "64 unsorted"))
    assert sum(a != b for a, b in zip(alone, together, strict=True)) > 1


def test_batch_1_is_what_plain_transformers_hears(digits: Path, base_model: Path, decoded: Any) -> None:
    """The cure must not change the model: alone, a clip gives the numbers of the plain model."""
    from transformers import AutoModelForSpeechSeq2Seq

    ours = load_model(str(base_model))
    plain = AutoModelForSpeechSeq2Seq.from_pretrained(base_model, dtype=torch.float32).eval()
    _, store = decoded(digits / "heldout_manifest.jsonl")
    for index in range(0, 16, 3):
        features = ours.features([normalise(store[index]).samples])
        with torch.inference_mode():
            here = ours.encode(features).outputs.last_hidden_state
            there = plain.get_encoder()(features["input_values"]).last_hidden_state
        assert here.shape == there.shape
        assert torch.allclose(here, there, atol=1e-4)


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Seq2Seq:
    return load_model(str(request.getfixturevalue(request.param)))


def encoded(model: Seq2Seq, clips: Sequence[Any]) -> tuple[torch.Tensor, list[int]]:
    """Encoder outputs (clips, frames, hidden) and how many frames of each the decoder may look at."""
    with torch.inference_mode():
        output = model.encode(model.features(clips)).outputs
    hidden = output.last_hidden_state
    mask = getattr(output, "attention_mask", None)
    return hidden, [hidden.shape[1]] * len(clips) if mask is None else mask.sum(-1).tolist()


@pytest.mark.parametrize("order", ["as they come", "longest first"])
def test_the_encoder_hears_a_clip_alone_and_padded_alike(model: Seq2Seq, order: str) -> None:
    clips = [speechlike("one two three four five six seven eight", n)[:n] for n in LENGTHS]
    if order == "longest first":
        clips.reverse()
    together, frames = encoded(model, clips)
    for row, clip in enumerate(clips):
        alone, [own] = encoded(model, [clip])
        assert frames[row] == own, f"{len(clip)} samples: the decoder sees other frames in the batch"
        assert torch.allclose(together[row, :own], alone[0, :own], atol=1e-4), f"{len(clip)} samples"


def test_logits_of_a_clip_do_not_depend_on_its_neighbours(model: Seq2Seq) -> None:
    from core.training.loss import pad_targets

    texts = digit_texts(6, 9, words=6)
    clips = [normalise(speechlike(text)).samples for text in texts]
    labels = [model.targets(text) for text in texts]

    def logits(which: Sequence[int]) -> list[torch.Tensor]:
        prompts = [model.vocabulary.prefix] * len(which)
        inputs, _, lengths = pad_targets([labels[i] for i in which], prompts, model.vocabulary.pad)
        first = len(model.vocabulary.prefix) - 1
        with torch.inference_mode():
            output = model.network(**model.features([clips[i] for i in which]), decoder_input_ids=inputs).logits
        return [output[row, first : first + int(n)] for row, n in enumerate(lengths)]

    together = logits(range(6))
    for i in range(6):
        assert torch.allclose(together[i], logits([i])[0], atol=1e-4)


def test_training_sees_the_same_arithmetic(model: Seq2Seq) -> None:
    """Gradients of two clips in one batch are the sum of their own."""
    from core.plan.schema import AdapterSettings
    from core.training.adapter import attach, trainable

    speech = attach(model, AdapterSettings(rank=2, target_modules=("q_proj", "fc1")), seed=0)
    texts = ["one", "two three four five six"]
    clips = [normalise(speechlike(text)).samples for text in texts]
    parameters = trainable(speech)

    def gradients(which: Sequence[int]) -> dict[str, torch.Tensor]:
        speech.network.zero_grad()
        labels = [speech.targets(texts[i]) for i in which]
        speech.network.train()
        loss = speech.summed_loss(speech.encode(speech.features([clips[i] for i in which])), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}

    together, first, second = gradients([0, 1]), gradients([0]), gradients([1])
    assert together
    for name, gradient in together.items():
        assert torch.allclose(gradient, first[name] + second[name], atol=1e-4), name


def test_frames_of_a_clip_are_counted_as_the_convolutions_make_them(tiny_moonshine: Path) -> None:
    from core.training.families.moonshine import encoder_frames

    network = load_model(str(tiny_moonshine)).network
    for samples in (1024, 1407, 1408, 16_000, 16_001, 40_320):
        with torch.inference_mode():
            made = network.get_encoder()(torch.zeros(1, samples)).last_hidden_state.shape[1]
        assert int(encoder_frames(torch.tensor(samples))) == made


def test_silence_beside_speech_gives_numbers(model: Seq2Seq) -> None:
    hidden, _ = encoded(model, [np.zeros(20_000, np.float32), speechlike("one two three")])
    assert torch.isfinite(hidden).all()
