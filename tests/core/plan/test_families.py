from __future__ import annotations

from core.plan.families import FAMILIES, family_of, refusal, why_not


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
