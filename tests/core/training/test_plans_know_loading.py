"""What a model's files tell against loading it, `lora-tui plan` says in the trainer's own sentence.

A family that gets a new refusal gets a line here: the same folder is given to both.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from family_kit import TINY
from safetensors.torch import load_file, save_file

from core.errors import ModelError
from core.plan.schema import AdapterSettings, DataSettings, ModelSettings, RunSettings, TrainSettings
from core.runs.model_check import model_problem
from core.runs.preflight import preflight
from core.training.model import load_model

Change = Callable[[Path], Any]


def edit(name: str, **changes: Any) -> Change:
    """With other values in a JSON document; None takes a key out."""

    def change(folder: Path) -> None:
        path = folder / name
        changed = (json.loads(path.read_text()) if path.is_file() else {}) | changes
        path.write_text(json.dumps({key: value for key, value in changed.items() if value is not None}))

    return change


def gone(*names: str) -> Change:
    """Without some files."""
    return lambda folder: [(folder / name).unlink() for name in names]


def written(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    """With other weights."""

    def changed(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors", metadata={"format": "pt"})

    return changed


def wider(name: str, entries: int) -> Change:
    """With so many entries in the vocabulary."""

    def change(folder: Path) -> None:
        edit("config.json", vocab_size=entries)(folder)
        weights(lambda found: found.update({name: torch.zeros(entries, found[name].shape[1])}))(folder)

    return change


def without(part: str) -> Change:
    """Without the weights that have this in their names."""
    return weights(lambda found: [found.pop(name) for name in list(found) if part in name])


def shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))


def untold(name: str, token: str) -> Change:
    """With a token of the tokenizer's file spelled otherwise."""
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(token, token[::-1]))


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


@dataclass(frozen=True)
class Case:
    """A model folder that cannot be loaded."""

    tiny: str
    change: Change
    said: str
    language: str | None = None


CASES = {
    "no weights": Case("whisper", gone("model.safetensors"), "no *.safetensors"),
    "a part of the weights": Case("whisper", shards, "model-00002-of-00002.safetensors is missing"),
    "weights of nothing": Case("whisper", written("model.safetensors", "no"), "no whole safetensors file"),
    "a broken generation config": Case("whisper", written("generation_config.json", "{"), "generation_config.json is"),
    "a broken tokenizer": Case("moonshine", written("tokenizer.json", "{}"), "tokenizer.json holds no tokenizer"),
    "no feature extractor": Case("moonshine", edit("processor_config.json", feature_extractor=None), "its features"),
    "no tokenizer": Case("glm_asr", gone("tokenizer.json", "tokenizer_config.json"), "no file of a tokenizer"),
    "no decoder": Case("whisper", without("decoder"), "decoder_layers = 1, and the weights have 0"),
    "fewer layers than it says": Case("glm_asr", without(".layers.1."), "have 1 of these layers"),
    "another vocabulary": Case("moonshine", edit("config.json", vocab_size=99), "vocab_size = 99, and no weights"),
    "only pre-trained": Case("ctc wav2vec2", without("lm_head"), "no weights of its head"),
    "another blank": Case("ctc wav2vec2", edit("config.json", pad_token_id=3), "both must name the blank"),
    "another blank of word pieces": Case("ctc parakeet", edit("config.json", pad_token_id=3), "name the blank"),
    "no start of a text": Case(
        "speech-encoder-decoder",
        both(*(edit(name, decoder_start_token_id=None) for name in ("config.json", "generation_config.json"))),
        "no decoder_start_token_id in its generation_config.json",
    ),
    "languages that nothing lists": Case(
        "whisper",
        both(
            edit("generation_config.json", lang_to_id=None),
            edit("tokenizer_config.json", language=None, task=None),
            wider("model.decoder.embed_tokens.weight", 51865),
        ),
        "knows several languages and its generation_config.json lists none (lang_to_id)",
    ),
    "languages and no tasks": Case(
        "whisper",
        edit("generation_config.json", lang_to_id={"<|de|>": 4}, task_to_id=None),
        "lists languages and lacks task_to_id",
        "de",
    ),
    "many vocabularies and none chosen": Case(
        "ctc mms", edit("tokenizer_config.json", target_lang=None), "model.language: missing"
    ),
    "a language without weights": Case("ctc mms", lambda folder: None, "needs adapter.fra.safetensors", "fra"),
    "a language that it lacks": Case("ctc mms", lambda folder: None, "'xyz' is no language of this model", "xyz"),
    "no chat template of Qwen": Case("qwen3_asr", gone("chat_template.jinja"), "there is no chat_template.jinja", "de"),
    "no chat template of Canary": Case("canary", gone("chat_template.jinja"), "there is no chat_template.jinja", "de"),
    "no chat template of GLM": Case("glm_asr", gone("chat_template.jinja"), "there is no chat_template.jinja"),
    "no control token": Case("cohere_asr", untold("tokenizer.json", "<|de|>"), "has no token <|de|>", "de"),
    "no language among the tokens": Case("canary", untold("tokenizer.json", "<|de|>"), "has no token <|de|>", "de"),
    "no task": Case("voxtral", untold("tekken.json", "[TRANSCRIBE]"), "has no token [TRANSCRIBE]", "de"),
    "a wavlm": Case("ctc wav2vec2", edit("config.json", model_type="wavlm"), "which cannot be fine-tuned here"),
}


UNTOUCHED = ("a language without weights", "a language that it lacks", "languages and no tasks")
"""Whose language is wrong before anything is changed."""


@pytest.mark.parametrize("name", CASES)
def test_a_plan_says_what_loading_would_end_with(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    folder = tmp_path / "model"
    folder.mkdir()
    try:
        TINY[case.tiny].build(folder)
    except ImportError as error:  # some versions of transformers need more for a family
        pytest.skip(" ".join(str(error).split()))
    adapter = AdapterSettings(target_modules=("attention",))
    model = ModelSettings(str(folder), language=case.language)
    settings = RunSettings(model, DataSettings("t", "d", "h"), TrainSettings(), adapter)
    if name not in UNTOUCHED:
        assert preflight(settings) == [], "the model is whole before"
    case.change(folder)
    said = preflight(settings)
    assert len(said) == 1 and case.said in said[0], said
    with pytest.raises(ModelError) as refused:
        load_model(str(folder), language=case.language)
    assert str(refused.value).removeprefix(f"model {folder}") == said[0].removeprefix(f"model.id: {folder}")


def test_fewer_layers_in_one_stack_than_in_the_other_are_no_fault(tmp_path: Path) -> None:
    """Whisper large-v3-turbo has 32 and 4, and num_hidden_layers = 32 beside them; Voxtral keeps another form of itself
    in its folder, and Whisper large-v3 its weights in two precisions.
    """
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    folder = TINY["whisper"].build(tmp_path)
    config = WhisperConfig.from_pretrained(folder)
    config.encoder_layers = config.num_hidden_layers = 3
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    edit("config.json", num_hidden_layers=3)(folder)
    save_file({"layers.0.attention.wq.weight": torch.zeros(7, 7)}, folder / "consolidated.safetensors")
    assert model_problem(folder) is None
