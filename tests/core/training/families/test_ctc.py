"""CTC: its loss is transformers' own, no clip hears another's padding, a text becomes the units of its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ctc_kit import CTC_KINDS, tiny_ctc
from safetensors.torch import load_file, save_file
from training_kit import digit_texts, opened, speechlike, write_set

from core.errors import ModelError
from core.runs.model_files import model_shapes
from core.training.data import Dataset, report_evaluation_set
from core.training.evaluation import evaluate
from core.training.families.ctc import Ctc, frames_of
from core.training.memory import reduce_modules
from core.training.model import load_model

LEAKING = ["wav2vec2", "wav2vec2-adapter", "conformer", "wav2vec2-bert-adapter", "data2vec"]
LENGTHS = (10, 1_600, 5_000, 16_000, 23_999, 24_001, 40_321)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function: kind → its folder, made once."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tiny_ctc(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return get


@pytest.fixture(params=CTC_KINDS)
def folder(request: pytest.FixtureRequest, models: Any) -> Path:
    found: Path = models(request.param)
    return found


def plain(folder: Path) -> Any:
    from transformers import AutoModelForCTC

    return AutoModelForCTC.from_pretrained(folder, dtype=torch.float32).eval()


def noise(samples: int) -> Any:
    return (np.random.default_rng(samples).standard_normal(samples) * 0.05).astype(np.float32)


@pytest.mark.parametrize("kind", ["wav2vec2-layer", "wav2vec2-adapter", "wav2vec2-bert-adapter"])
def test_loss_is_that_of_transformers(kind: str, models: Any) -> None:
    """Of the other kinds, the conformance tests see it."""
    folder = models(kind)
    speech = load_model(str(folder))
    texts = digit_texts(4, 0, 2)
    clips = [np.tile(speechlike(text), 3) for text in texts]
    assert all(speech.unfit(speech.targets(text), len(clip)) is None for text, clip in zip(texts, clips, strict=True))
    own, network = 0.0, plain(folder)
    network.config.ctc_loss_reduction = "sum"
    with torch.inference_mode():
        for clip, text in zip(clips, texts, strict=True):
            labels = torch.tensor([speech.targets(text)])
            own += float(network(**speech.features([clip]), labels=labels).loss)
        encoded = speech.encode(speech.features(clips))
        here = float(speech.summed_loss(encoded, [speech.targets(text) for text in texts]))
    assert here == pytest.approx(own, abs=1e-4 * len(texts), rel=1e-5)


def test_a_row_without_targets_adds_nothing_to_the_loss(models: Any) -> None:
    speech = load_model(str(models("wav2vec2")))
    encoded = speech.encode(speech.features([noise(16_000), noise(24_000)]))
    both = speech.summed_loss(encoded, [speech.targets("one"), []])
    alone = speech.encode(speech.features([noise(16_000)]))
    assert float(both) == pytest.approx(float(speech.summed_loss(alone, [speech.targets("one")])), rel=1e-5)
    assert float(speech.summed_loss(encoded, [[], []])) == 0.0


def test_a_clip_is_heard_alone_and_in_a_batch_alike(folder: Path) -> None:
    speech = load_model(str(folder))
    clips = [noise(samples) for samples in LENGTHS]
    with torch.inference_mode():
        together = speech.encode(speech.features(clips))
        for row, clip in enumerate(clips):
            alone = speech.encode(speech.features([clip]))
            frames = int(alone.lengths[0])
            assert frames == int(together.lengths[row]) >= 1
            torch.testing.assert_close(together.logits[row, :frames], alone.logits[0, :frames], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", LEAKING)
def test_a_base_in_bf16_hears_no_padding_either(kind: str, models: Any) -> None:
    speech = load_model(str(models(kind)), precision="bf16")
    reduce_modules(speech.network, "bf16")
    clips, targets = [noise(samples) for samples in LENGTHS[2:]], speech.targets("one")
    with torch.inference_mode(), speech.autocast():
        together = speech.summed_loss(speech.encode(speech.features(clips)), [targets] * len(clips))
        alone = sum(speech.summed_loss(speech.encode(speech.features([clip])), [targets]) for clip in clips)
    assert float(together) == pytest.approx(float(alone), rel=1e-3)


@pytest.mark.parametrize("kind", LEAKING)
def test_plain_transformers_hears_padding(kind: str, models: Any) -> None:
    """Otherwise the test above would prove nothing."""
    speech, network = load_model(str(models(kind))), plain(models(kind))
    clips, leaks = [noise(samples) for samples in LENGTHS[2:]], []
    with torch.inference_mode():
        together = network(**speech.features(clips)).logits
        for row, clip in enumerate(clips):
            alone = network(**speech.features([clip])).logits[0]
            leaks.append(float((together[row, : len(alone)] - alone).abs().max()))
    assert max(leaks) > 1e-2


def test_alone_a_clip_gives_what_plain_transformers_gives(folder: Path) -> None:
    """The cure must not change the model."""
    speech, network = load_model(str(folder)), plain(folder)
    features = speech.features([noise(24_001)])
    with torch.inference_mode():
        torch.testing.assert_close(speech.encode(features).logits, network(**features).logits, atol=1e-4, rtol=1e-4)


def test_features_are_those_of_the_processor(folder: Path) -> None:
    speech = load_model(str(folder))
    theirs = speech.processor.feature_extractor([noise(24_001)], sampling_rate=16_000, return_tensors="pt")
    name = speech.network.main_input_name
    here = speech.features([noise(24_001)])[name]
    # the last frame may be one that it added and masked
    assert theirs[name].shape[1] - here.shape[1] in (0, 1)
    torch.testing.assert_close(here, theirs[name][:, : here.shape[1]])


def test_text_becomes_the_letters_of_the_vocabulary(models: Any) -> None:
    upper, lower = load_model(str(models("wav2vec2"))), load_model(str(models("wav2vec2-bert")))
    delimiter = upper.tokenizer.word_delimiter_token_id
    for speech in (upper, lower):
        ids = speech.targets("  Don’t stop, twenty-one! ")
        assert speech.text(ids).lower() == "don't stop twenty one"
        assert ids.count(delimiter) == 3
        assert speech.targets("dont") == speech.targets("DONT")
    assert upper.text(upper.targets("don't")) == "DON'T"


def test_a_spelled_special_token_means_its_letters(models: Any) -> None:
    speech = load_model(str(models("wav2vec2")))
    assert speech.text(speech.targets("a <pad> b | c")) == "A PAD B C"


def test_letters_that_the_vocabulary_lacks_are_named_and_other_signs_are_not(models: Any) -> None:
    speech = load_model(str(models("wav2vec2")))
    assert speech.unfit(speech.targets("year 1999"), 160_000) == "letters or digits that the model's vocabulary lacks"
    assert speech.unfit(speech.targets("żółw"), 160_000) is not None
    assert speech.unfit(speech.targets("¿what?"), 160_000) is None
    assert speech.unfit(speech.targets("?!"), 160_000) == "no character that the model's vocabulary has"


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-bert-adapter", "parakeet"])
def test_more_units_than_frames_are_named_to_the_frame(kind: str, models: Any) -> None:
    speech = load_model(str(models(kind)))
    frames = int(speech.encode(speech.features([noise(24_001)])).lengths[0])
    first, second = speech.targets("ab")[-2:] if len(speech.targets("ab")) > 1 else (2, 3)
    fitting = [first, second] * (frames // 2) + [first] * (frames % 2)
    assert speech.unfit(fitting, 24_001) is None
    assert speech.unfit([*fitting, second if fitting[-1] == first else first], 24_001) is not None
    # between two equal units stands a blank
    assert speech.unfit([first] * ((frames + 1) // 2), 24_001) is None
    assert speech.unfit([first] * ((frames + 1) // 2 + 1), 24_001) is not None
    encoded = speech.encode(speech.features([noise(24_001)]))
    assert float(speech.summed_loss(encoded, [fitting])) > 0
    assert float(speech.summed_loss(encoded, [[first] * frames])) == 0


def test_clips_without_an_alignment_are_counted_and_named(tmp_path: Path, models: Any) -> None:
    texts = ["one two", "nine " * 30, "room 101", "!", "three"]
    manifest = write_set(tmp_path, "domain", [(speechlike("one two three"), text) for text in texts])
    read, clips = opened(manifest, tmp_path)
    speech, told = load_model(str(models("wav2vec2"))), []
    dataset = Dataset("domain", read, clips, "")
    report_evaluation_set(dataset, speech, lambda level, message: told.append(message))
    names = [utterance.id for utterance in read.utterances]
    assert told == [
        f"data.domain: {reason}: not in the loss: 1 of 5 clips: {name}"
        for reason, name in (
            ("more target units than frames, so that no CTC alignment exists", names[1]),
            ("letters or digits that the model's vocabulary lacks", names[2]),
            ("no character that the model's vocabulary has", names[3]),
        )
    ]
    whole = evaluate(speech, read, clips)
    fitting = write_set(tmp_path / "two", "domain", [(speechlike("one two three"), texts[i]) for i in (0, 4)])
    assert whole.loss == pytest.approx(evaluate(speech, *opened(fitting, tmp_path)).loss)


def test_greedy_decoding_writes_repeated_units_once_and_no_blank(models: Any) -> None:
    speech = load_model(str(models("wav2vec2")))
    assert isinstance(speech, Ctc)
    blank = speech.blank
    path = [blank, 7, 7, blank, 7, 9, 9, 4, blank, 5, 11]
    logits = torch.nn.functional.one_hot(torch.tensor([path]), speech.network.config.vocab_size).float()
    encoded = speech.encode(speech.features([noise(16_000)]))._replace(logits=logits, lengths=torch.tensor([10]))
    assert speech.decode(encoded, [99]) == [[7, 7, 9, 4, 5]]
    assert speech.decode(encoded, [2]) == [[7, 7]]
    assert speech.text([7, 7, 9, 4, 5]) == speech.tokenizer.decode(path[:10])


def test_the_cap_never_cuts_what_frames_can_write(folder: Path) -> None:
    speech = load_model(str(folder))
    for samples in (10, 1_280, 16_000, 29 * 16_000):
        features = speech.features([np.zeros(samples, dtype=np.float32)])
        assert speech.limits.tokens(samples) > int(frames_of(speech.network, features["attention_mask"]))


def test_a_blank_that_tokenizer_and_config_do_not_agree_on_is_refused(tmp_path: Path) -> None:
    folder = tiny_ctc(tmp_path, "wav2vec2")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"pad_token_id": 0', '"pad_token_id": 3'))
    with pytest.raises(ModelError, match=r"pad_token_id is 3 in config.json .* and 0 in the tokenizer"):
        load_model(str(folder))


def test_a_model_of_many_languages_takes_weights_and_letters_of_the_one_asked_for(tmp_path: Path) -> None:
    folder = tiny_ctc(tmp_path, "mms")
    english, german = load_model(str(folder)), load_model(str(folder), language="deu")
    assert english.text(english.targets("höre")) == "HRE"
    assert german.text(german.targets("höre")) == "HÖRE"
    assert (english.decoding.language, german.decoding.language) == (None, "deu")
    clip = [noise(16_000)]
    heard = [speech.encode(speech.features(clip)).logits for speech in (english, german)]
    assert heard[1].shape[-1] == heard[0].shape[-1] + 2
    assert not any(parameter.requires_grad for parameter in german.network.parameters())
    assert model_shapes(folder).weights == sum(weight.numel() for weight in english.network.state_dict().values())
    # what is exported speaks it too
    german.network.save_pretrained(tmp_path / "merged")
    german.processor.save_pretrained(tmp_path / "merged")
    for again in (load_model(str(tmp_path / "merged")), load_model(str(tmp_path / "merged"), language="deu")):
        torch.testing.assert_close(again.encode(again.features(clip)).logits, heard[1])


@pytest.mark.parametrize(
    ("kind", "language", "message"),
    [
        ("mms", "de", "model.language: 'de' is no language of this model: give one of deu, eng, fra"),
        ("mms", "fra", "model.language: no weights of 'fra': the model folder needs adapter.fra.safetensors"),
        ("wav2vec2", "en", "model.language: this model takes no language: remove language = 'en'"),
    ],
)
def test_a_language_that_the_model_has_not_is_refused(kind: str, language: str, message: str, models: Any) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(str(models(kind)), language=language)


def test_clips_of_several_languages_are_refused_where_a_model_speaks_one_at_a_time(models: Any) -> None:
    speech = load_model(str(models("mms")), language="deu")
    speech.check_languages([None, "de"])
    with pytest.raises(ModelError, match="'de' and 'fr': this model is told one for all clips"):
        speech.check_languages(["fr", "de", None])


def test_a_model_whose_attention_adapters_would_change_nothing_is_refused(tmp_path: Path) -> None:
    from transformers import WavLMConfig, WavLMForCTC

    WavLMForCTC(WavLMConfig(num_hidden_layers=1, hidden_size=32, num_attention_heads=2)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"model_type wavlm, which cannot .* \(its attention .*: .*wav2vec2"):
        load_model(str(tmp_path))


def test_weights_that_only_pre_training_used_may_be_missing_and_a_head_may_not(tmp_path: Path) -> None:
    """transformers fills in `masked_spec_embed` of facebook/wav2vec2-base-960h with random numbers, and says so."""
    folder = tiny_ctc(tmp_path, "wav2vec2")
    clip = [noise(16_000)]
    whole = load_model(str(folder))
    weights = load_file(folder / "model.safetensors")
    del weights["wav2vec2.masked_spec_embed"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    speech = load_model(str(folder))
    torch.testing.assert_close(speech.encode(speech.features(clip)).logits, whole.encode(whole.features(clip)).logits)
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"no weights of its head \(lm_head or ctc_head\) are in its safetensors files"
    ):
        load_model(str(folder))


def test_a_processor_with_a_language_model_is_used_without_it(tmp_path: Path) -> None:
    """Greedy decoding needs none, and pyctcdecode need not be there."""
    folder = tiny_ctc(tmp_path, "wav2vec2")
    plain = load_model(str(folder))
    for name in ("processor_config.json", "tokenizer_config.json", "preprocessor_config.json"):
        path = folder / name
        written = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(written | {"processor_class": "Wav2Vec2ProcessorWithLM"}))
    speech = load_model(str(folder))
    assert speech.targets("one two") == plain.targets("one two")
    clip = [noise(16_000)]
    torch.testing.assert_close(speech.features(clip), plain.features(clip))
