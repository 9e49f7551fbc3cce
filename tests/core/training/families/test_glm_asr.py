"""GLM-ASR beside transformers' own processor and `generate`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_prompted import own_inputs, tiny_glm_asr
from training_kit import speechlike

from core.errors import ModelError
from core.training.families.base import SpeechModel
from core.training.model import load_model

TEXTS = ("two three", "one", "four five six seven", "nine zero")
CAP = 8


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> SpeechModel:
    """With larger weights: so that what it writes depends on what it hears."""
    found = load_model(str(tiny_glm_asr(tmp_path_factory.mktemp("glm"))))
    with torch.no_grad():
        for weights in found.network.parameters():
            if weights.dim() > 1:
                weights.mul_(3.0)
    return found


def test_a_transcript_is_what_generate_writes_alone_and_in_a_batch(speech: SpeechModel) -> None:
    clips = [speechlike(text, seed) for seed, text in enumerate(TEXTS)]
    with torch.no_grad():
        together = speech.decode(speech.encode(speech.features(clips)), [CAP] * len(clips))
    assert len({tuple(ids) for ids in together}) > 1
    for clip, found in zip(clips, together, strict=True):
        inputs = own_inputs(speech, clip)
        made = speech.network.generate(**inputs, max_new_tokens=CAP, do_sample=False)
        assert found == made[0, inputs["input_ids"].shape[1] :].tolist()[: len(found)]


def test_a_clip_takes_as_many_places_as_its_processor_gives_it(speech: SpeechModel) -> None:
    placeholder = speech.network.config.audio_token_id
    for samples in (1500, 16_000, 16_161, 40_003, 64_000):
        clip = speechlike("one two three four five six seven eight nine ten eleven")[:samples]
        encoded = speech.encode(speech.features([clip]))
        wanted = own_inputs(speech, clip)["input_ids"]
        assert int((wanted == placeholder).sum()) > 0
        assert int(encoded.lengths) == wanted.shape[1]


def test_it_is_told_no_language_and_has_one_prompt(speech: SpeechModel) -> None:
    assert speech.decoding.language is None and speech.prompted == ()
    with pytest.raises(ModelError, match="this model takes no language"):
        load_model(speech.network.config._name_or_path, language="de")


def test_a_processor_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = tiny_glm_asr(tmp_path)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match=r"makes no prompt: there is no chat_template\.jinja"):
        load_model(str(folder))


def test_a_plan_names_the_layers_as_transformers_does(tmp_path: Path) -> None:
    """In the files they are named otherwise, as in those that are published."""
    speech = load_model(str(tiny_glm_asr(tmp_path)))
    names = {name.removesuffix(".weight") for name in load_file(tmp_path / "model.safetensors")}
    layers = {name for name, module in speech.network.named_modules() if isinstance(module, torch.nn.Linear)}
    assert not layers & names
    assert layers - {"lm_head"} <= {speech.facts.module(name) for name in names}
