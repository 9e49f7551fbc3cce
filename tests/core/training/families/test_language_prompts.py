"""Families that are told the language: prompts, losses and transcripts are those of transformers' own classes."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_prompted import PROMPTED, SPEECH_LLMS, own_inputs, own_loss
from training_kit import quiet_transformers, speechlike

from core.errors import ModelError
from core.manifests.hashing import HashCache
from core.plan.families import family_of
from core.runs.model_files import model_hash, model_shapes
from core.training.families.base import SpeechModel
from core.training.families.prompted import Prompted
from core.training.families.voxtral import Voxtral
from core.training.model import load_model

Samples = NDArray[np.float32]
TEXTS = ("one two three", "four", "five six seven eight nine", "zero zero")
CAP = 12


class Folders(dict[str, Path]):
    """By family; a test of one that cannot be made here is skipped."""

    def __missing__(self, name: str) -> Path:
        pytest.skip(f"this version of transformers needs more for {name}")


class Models(dict[str, SpeechModel]):
    """Likewise."""

    def __missing__(self, name: str) -> SpeechModel:
        pytest.skip(f"this version of transformers needs more for {name}")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family."""
    quiet_transformers()
    root, found = tmp_path_factory.mktemp("told"), Folders()
    for name, build in PROMPTED.items():
        with contextlib.suppress(ImportError):  # 5.17 extracts features of Canary and Cohere-ASR by librosa
            found[name] = build(root / name)
    return found


def loaded(folder: Path, language: str | None = "de") -> SpeechModel:
    """The model, with larger weights: so that what it writes depends on what it hears."""
    speech = load_model(str(folder), device=torch.device("cpu"), precision="fp32", language=language)
    with torch.no_grad():
        for weights in speech.network.parameters():
            if weights.dim() > 1:
                weights.mul_(3.0)
    return speech


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, SpeechModel]:
    """Each of them, told German."""
    return Models({name: loaded(folder) for name, folder in folders.items()})


def clips() -> list[Samples]:
    """Of four lengths, the shortest first but one."""
    return [speechlike(text, seed) for seed, text in enumerate(TEXTS)]


@pytest.mark.parametrize("name", PROMPTED)
def test_the_loss_is_that_of_transformers_over_the_transcripts_tokens(
    models: dict[str, SpeechModel], name: str
) -> None:
    speech = models[name]
    targets = [speech.targets(text) for text in TEXTS]
    with torch.no_grad():
        found = speech.summed_loss(speech.encode(speech.features(clips())), targets)
    expected = sum(own_loss(speech, clip, text) for clip, text in zip(clips(), TEXTS, strict=True))
    assert float(found) == pytest.approx(expected, abs=1e-4 * sum(map(len, targets)))


@pytest.mark.parametrize("name", PROMPTED)
def test_a_transcript_is_what_generate_writes_alone_and_in_a_batch(models: dict[str, SpeechModel], name: str) -> None:
    speech = models[name]
    with torch.no_grad():
        together = speech.decode(speech.encode(speech.features(clips())), [CAP, 2, CAP, CAP])
    assert len({tuple(ids) for ids in together}) > 1
    for place, clip in enumerate(clips()):
        inputs = own_inputs(speech, clip)
        prompt = inputs["input_ids" if name in SPEECH_LLMS else "decoder_input_ids"]
        start = {} if name in SPEECH_LLMS else {"decoder_start_token_id": int(prompt[0, 0])}
        made = speech.network.generate(**inputs, **start, max_new_tokens=CAP, do_sample=False)
        written = made[0, prompt.shape[1] :].tolist()
        ends = getattr(speech, "ends", (3,))
        ended = next((i for i, token in enumerate(written) if token in ends), len(written))
        with torch.no_grad():
            alone = speech.decode(speech.encode(speech.features([clip])), [CAP])[0]
        assert alone == written[:ended]
        assert together[place] == alone[: 2 if place == 1 else CAP]


@pytest.mark.parametrize("name", PROMPTED)
def test_clips_of_a_batch_may_be_of_several_languages(models: dict[str, SpeechModel], name: str) -> None:
    speech = models[name]
    two, targets = clips()[:2], [speech.targets(text) for text in TEXTS[:2]]
    with torch.no_grad():
        mixed = float(speech.summed_loss(speech.encode(speech.features(two), ["fr", None]), targets))
        alone = [
            float(speech.summed_loss(speech.encode(speech.features([clip]), [language]), [ids]))
            for clip, language, ids in zip(two, ["fr", "de"], targets, strict=True)
        ]
        told_german = float(speech.summed_loss(speech.encode(speech.features(two)), targets))
    assert mixed == pytest.approx(sum(alone), abs=1e-3)
    assert abs(mixed - told_german) > 1e-3


PROMPTS = {
    "qwen3_asr": "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n"
    "<|audio_start|><|audio_pad|><|audio_end|><|im_end|>\n<|im_start|>assistant\nlanguage German<asr_text>",
    "voxtral": "<s>[INST][BEGIN_AUDIO][AUDIO][/INST]lang:de[TRANSCRIBE]",
    "canary": "<|startofcontext|><|startoftranscript|><|emo:undefined|><|de|><|de|><|pnc|><|noitn|><|notimestamp|>"
    "<|nodiarize|>",
    "cohere_asr": "▁<|startofcontext|><|startoftranscript|><|emo:undefined|><|de|><|de|><|pnc|><|noitn|><|notimestamp|>"
    "<|nodiarize|>",
}


@pytest.mark.parametrize("name", PROMPTED)
def test_the_prompt_is_told_with_the_score(models: dict[str, SpeechModel], name: str) -> None:
    speech = models[name]
    pieces = speech.tokenizer.convert_ids_to_tokens(list(speech.decoding.prompt))
    assert "".join(pieces).replace("Ġ", " ").replace("Ċ", "\n") == PROMPTS[name]
    assert speech.decoding.language == "de"


def test_voxtrals_prompt_is_that_of_mistral_common(folders: dict[str, Path]) -> None:
    """Which lora-tui does not install; where it is there, its own tokenizer is loaded."""
    pytest.importorskip("mistral_common")
    speech, clip = loaded(folders["voxtral"]), clips()[0]
    request = speech.processor.apply_transcription_request(
        audio=[clip], model_id="tiny", language="de", sampling_rate=16000, format=["wav"]
    )
    ids = request["input_ids"][0].tolist()
    first, places = ids.index(24), ids.count(24)
    assert (*ids[: first + 1], *ids[first + places :]) == speech.decoding.prompt
    assert isinstance(speech, Voxtral)
    assert [len(audio) for audio in speech.audio(speech.features([clip]))] == [places]
    assert speech.text(speech.targets("one two")) == "one two"


@pytest.mark.parametrize("name", PROMPTED)
def test_a_text_is_spelled_as_it_stands_and_ends(models: dict[str, SpeechModel], name: str) -> None:
    speech = models[name]
    ids = speech.targets("one two")
    assert speech.text(ids) == "one two"
    assert speech.tokenizer.convert_ids_to_tokens(ids[-1]) in {"<|im_end|>", "</s>", "<|endoftext|>"}
    # a control token that a transcript spells is letters
    assert ids[-1] not in speech.targets("</s> <|im_end|> <|endoftext|>")[:-1]


@pytest.mark.parametrize("name", PROMPTED)
def test_a_language_is_asked_for_by_name(folders: dict[str, Path], name: str) -> None:
    with pytest.raises(ModelError, match=r"model\.language: missing, .*\bfr\b"):
        loaded(folders[name], None).check_languages()
    with pytest.raises(ModelError, match="'xx' is no language of this model"):
        loaded(folders[name], "xx").check_languages()


@pytest.mark.parametrize("name", PROMPTED)
def test_what_is_masked_lies_along_time_and_frequency(models: dict[str, SpeechModel], name: str) -> None:
    speech = models[name]
    short, long = (speech.features([clip])["input_features"] for clip in (clips()[1], np.tile(clips()[0], 3)))
    assert speech.facts.spectrogram is not None
    time, bins = speech.facts.spectrogram
    assert short.shape[bins] == long.shape[bins] == 16
    assert (short.shape[time] < long.shape[time]) or speech.facts.windowed


@pytest.mark.parametrize("name", PROMPTED)
def test_a_clip_of_one_sample_is_heard(models: dict[str, SpeechModel], name: str) -> None:
    speech = models[name]
    with torch.no_grad():
        encoded = speech.encode(speech.features([np.full(1, 0.1, dtype=np.float32), clips()[0]]))
        assert torch.isfinite(speech.summed_loss(encoded, [speech.targets("one"), []]))


@pytest.mark.parametrize("name", ["qwen3_asr", "canary"])
def test_a_processor_without_a_chat_template_is_named(folders: dict[str, Path], name: str) -> None:
    speech = loaded(folders[name])
    speech.processor.chat_template = None
    with pytest.raises(ModelError, match=r"makes no prompt in de .*chat template"):
        speech.encode(speech.features(clips()[:1]))


@pytest.mark.parametrize("name", ["cohere_asr", "canary"])
def test_a_tokenizer_that_lacks_a_language_makes_no_wrong_prompt(folders: dict[str, Path], name: str) -> None:
    speech = loaded(folders[name])
    assert isinstance(speech, Prompted)
    lost, made = speech.tokenizer.convert_tokens_to_ids("<|fr|>"), speech.make_prompt

    def with_an_unknown(language: str) -> list[int]:
        return [speech.tokenizer.unk_token_id if i == lost else i for i in made(language)]

    speech.make_prompt = with_an_unknown  # type: ignore[method-assign]
    assert len(speech.prompt("de")) in (9, 10)
    with pytest.raises(ModelError, match=r"makes no prompt in fr .*lacks control tokens"):
        speech.prompt("fr")


@pytest.mark.parametrize(
    ("name", "constant"),
    [
        ("qwen3_asr", "LANGUAGE_CODE_TO_NAME"),
        ("canary", "LANGUAGE_CODE_TO_NAME"),
        ("cohere_asr", "LANGUAGES"),
    ],
)
def test_a_familys_languages_are_those_of_its_processor(name: str, constant: str) -> None:
    module = importlib.import_module(f"transformers.models.{name}.processing_{name}")
    if not hasattr(module, constant):
        pytest.skip(f"this version of transformers lists the languages of {name} elsewhere")
    facts = family_of(name)
    assert facts is not None and set(facts.languages) == set(getattr(module, constant))


@pytest.mark.parametrize("name", SPEECH_LLMS)
def test_logits_are_computed_where_a_transcript_is(models: dict[str, SpeechModel], name: str) -> None:
    """A vocabulary of 150,000 at each place of the audio would take gigabytes."""
    speech, places = models[name], []
    hook = speech.network.lm_head.register_forward_hook(lambda _, __, logits: places.append(logits.shape[1]))
    targets = [speech.targets(text) for text in TEXTS]
    with torch.no_grad():
        encoded = speech.encode(speech.features(clips()))
        speech.summed_loss(encoded, targets)
        speech.decode(encoded, [3] * len(TEXTS))
    hook.remove()
    assert places[0] <= len(TEXTS) + max(map(len, targets)) - 1
    assert places[1] <= len(TEXTS) and places[2:] == [1, 1]


@pytest.mark.parametrize("name", PROMPTED)
def test_a_plan_knows_the_layers_by_the_names_that_the_trainer_has(
    folders: dict[str, Path], models: dict[str, SpeechModel], name: str
) -> None:
    facts = models[name].facts
    there = {n for n, module in models[name].network.named_modules() if isinstance(module, torch.nn.Linear)}
    named = {facts.module(layer) for layer in model_shapes(folders[name]).linear}
    assert named - there <= {"model.decoder.pos_emb", "model.transf_decoder._embedding.position_embedding"}
    assert there - named <= {"lm_head", "proj_out"}


@pytest.mark.parametrize(
    ("name", "file"),
    [("qwen3_asr", "chat_template.jinja"), ("canary", "chat_template.jinja"), ("voxtral", "tekken.json")],
)
def test_what_decides_the_prompt_is_part_of_the_model(
    folders: dict[str, Path], tmp_path: Path, name: str, file: str
) -> None:
    copy = Path(shutil.copytree(folders[name], tmp_path / "model"))
    before = model_hash(copy, HashCache(tmp_path / "hashes"))
    with (copy / file).open("a") as opened:
        opened.write(" ")
    assert model_hash(copy, HashCache(tmp_path / "hashes")) != before


def test_a_cohere_model_that_names_no_start_token_is_told_by_its_processor(folders: dict[str, Path]) -> None:
    config = json.loads((folders["cohere_asr"] / "config.json").read_text())
    assert config.get("decoder_start_token_id") is None
    assert loaded(folders["cohere_asr"]).targets("one")
