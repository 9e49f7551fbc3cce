from __future__ import annotations

import pytest

from core.plan.families import FAMILIES, FamilyFacts, cannot, family_of, refusal, why_not
from core.plan.schema import AugmentSettings, TrainSettings


def test_only_whisper_has_a_window_of_its_own() -> None:
    whisper, moonshine = family_of("whisper"), family_of("moonshine")
    assert whisper is not None and moonshine is not None
    assert whisper.max_seconds(15) == 15.0
    assert moonshine.max_seconds(15) == whisper.max_seconds(None) == 30.0
    assert (whisper.encoder_seconds(2.0), moonshine.encoder_seconds(2.0)) == (30.0, 2.0)


def test_a_model_type_belongs_to_one_family() -> None:
    known = [model_type for facts in FAMILIES for model_type in facts.model_types]
    assert len(known) == len(set(known))


def test_what_cannot_be_trained_is_named_with_what_can() -> None:
    assert family_of("kyutai_speech_to_text") is family_of(None) is None
    assert "model_type kyutai_speech_to_text, which cannot be fine-tuned here" in refusal("kyutai_speech_to_text")
    assert "whisper, moonshine, moonshine_streaming" in refusal(None)


def test_another_form_of_a_known_model_is_named() -> None:
    assert why_not({"model_type": "qwen3_asr", "architectures": ["Qwen3ASRForConditionalGeneration"]}) is None
    assert "take its conversion, whose name ends in -hf" in str(
        why_not({"model_type": "qwen3_asr", "thinker_config": {}})
    )
    aligner = {"model_type": "qwen3_asr", "architectures": ["Qwen3ASRForTokenClassification"]}
    assert "it aligns given words and writes none" in str(why_not(aligner))
    assert why_not({"model_type": "granite_speech"}) == refusal("granite_speech")


@pytest.mark.parametrize("facts", FAMILIES, ids=lambda facts: facts.name)
def test_what_a_family_cannot_do_is_said_with_the_families_that_can(facts: FamilyFacts) -> None:
    found = "\n".join(cannot(facts, TrainSettings(beams=5, augment=AugmentSettings(time_masks=2, speed=0.1))))
    assert ("gate.beams: " in found and "beams: whisper" in found) == (not facts.beams)
    assert ("no spectrogram to mask" in found and "(whisper" in found) == (facts.spectrogram is None)
    assert not list(cannot(facts, TrainSettings(augment=AugmentSettings(speed=0.1, noise="noise"))))


@pytest.mark.parametrize("model_type", ["voxtral", "glmasr"])
def test_a_layer_has_one_name_whichever_version_of_transformers_wrote_the_file(model_type: str) -> None:
    facts = family_of(model_type)
    assert facts is not None
    names = ("language_model.model.layers.0.mlp.up_proj", "language_model.model.model.layers.0.mlp.up_proj")
    assert {facts.module(name) for name in names} == {"model.language_model.layers.0.mlp.up_proj"}
