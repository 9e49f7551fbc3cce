"""Encoder–decoders without a module of their own: what their encoders hear, and what their decoders begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from family_kit import TINY
from training_kit import speechlike

from core.audio.samples import normalise
from core.training.families.seq2seq import ClipByClip, Seq2Seq
from core.training.model import load_model

KINDS = ("speecht5", "speech_to_text", "speech-encoder-decoder")


def loaded(kind: str, folder: Path) -> ClipByClip:
    model = load_model(str(TINY[kind].build(folder)))
    assert isinstance(model, ClipByClip)
    return model


def clips() -> list[Any]:
    return [normalise(speechlike(text)).samples for text in ("one two three four five six", "seven", "eight nine")]


def most_changed(model: ClipByClip, path: type[Seq2Seq]) -> float:
    """Largest difference between what the encoder makes of a clip alone and among others."""
    with torch.inference_mode():
        together = path.encode(model, model.features(clips())).outputs["last_hidden_state"]
        alone = [path.encode(model, model.features([clip])).outputs["last_hidden_state"][0] for clip in clips()]
    return max(float((row[: len(one)] - one).abs().max()) for row, one in zip(together, alone, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_hears_each_clip_alone(kind: str, tmp_path: Path) -> None:
    model = loaded(kind, tmp_path)
    assert most_changed(model, ClipByClip) == 0.0
    assert most_changed(model, Seq2Seq) > 1e-3, "in one batch it would hear padding: otherwise this proves nothing"


def test_a_forced_first_token_is_part_of_the_prompt(tmp_path: Path) -> None:
    """Multilingual Speech2Text names the language so."""
    model = loaded("speech_to_text", tmp_path)
    model.network.generation_config.forced_bos_token_id = 7
    again = load_model(str(tmp_path))
    forced = type(model)(
        network=model.network,
        processor=model.processor,
        facts=model.facts,
        limits=model.limits,
        device=model.device,
        precision=model.precision,
    )
    assert isinstance(again, ClipByClip)
    assert (again.vocabulary.prefix, forced.vocabulary.prefix) == ((2,), (2, 7))
    features = forced.features(clips()[:1])
    theirs = forced.network.generate(**features, max_new_tokens=6, do_sample=False, num_beams=1)[0].tolist()
    with torch.inference_mode():
        ours = forced.decode(forced.encode(features), [5])[0]
    assert theirs[:2] == [2, 7]
    assert ours == [token for token in theirs[2:] if token not in forced.vocabulary.eos][: len(ours)]
