"""What a trainer would die of is told from the files alone, before it starts."""

from __future__ import annotations

import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hub_kit import NEW, OLD, cached, write_cache
from model_folder import model_folder

from core.plan.schema import AdapterSettings, AugmentSettings, DataSettings, ModelSettings, RunSettings, TrainSettings
from core.runs.preflight import hears, preflight, seconds_and_clips


def write_manifest(path: Path, seconds: list[float | None], text: str = "some words") -> str:
    lines = []
    for number, told in enumerate(seconds):
        audio = path.with_name(f"{path.stem}-{number}.wav")
        with wave.open(str(audio), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(bytes(2 * 16_000))
        line = {"audio_filepath": audio.name, "text": text}
        lines.append(json.dumps(line if told is None else line | {"duration": told}))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def whisper(tmp_path: Path) -> Path:
    """A folder with the names of Whisper's layers, and a window of 10 s."""
    names = [f"model.decoder.layers.0.self_attn.{part}_proj.weight" for part in ("q", "k", "v", "out")]
    weights = {name: np.zeros((4, 4), np.float32) for name in names}
    weights["model.decoder.embed_tokens.weight"] = np.zeros((8, 4), np.float32)
    folder = model_folder(tmp_path / "whisper", "whisper", weights)
    (folder / "preprocessor_config.json").write_text('{"chunk_length": 10}')
    return folder


@pytest.fixture
def good(tmp_path: Path, whisper: Path) -> RunSettings:
    train = write_manifest(tmp_path / "train.jsonl", [2.0] * 20)
    return RunSettings(
        ModelSettings(str(whisper)),
        DataSettings(train=train, domain="d", heldout="h"),
        TrainSettings(steps=60, epochs=3.0, replay_share=0.0),
        AdapterSettings(target_modules=("q_proj", "out_proj")),
    )


def only(problems: list[str]) -> str:
    assert len(problems) == 1, problems
    return problems[0]


def test_good_settings_have_no_problem(good: RunSettings) -> None:
    assert preflight(good) == []


def test_too_many_steps_for_the_clips(good: RunSettings) -> None:
    said = only(preflight(replace(good, train=replace(good.train, steps=100))))
    assert "60 training clips in 100 micro-batches" in said


def test_a_target_that_the_model_does_not_have(good: RunSettings) -> None:
    adapter = AdapterSettings(target_modules=("q_proj", "o_proj"))
    said = only(preflight(replace(good, adapter=adapter)))
    assert "no linear layer named o_proj; there are: k_proj, out_proj, q_proj, v_proj" in said
    assert preflight(replace(good, adapter=adapter), targets_known=False) == []
    tied = replace(good, adapter=AdapterSettings(target_modules=("q_proj", "proj_out")))
    assert preflight(tied) == [], "its weights are the embedding's, and in no file of their own"


def test_a_hub_models_layers_are_those_of_its_files_in_the_cache(
    good: RunSettings, whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cache(tmp_path / "cache", source=whisper, main=OLD)
    cached(tmp_path / "cache", monkeypatch)
    model = ModelSettings("org/model")
    assert preflight(replace(good, model=model)) == []
    wrong = replace(good, model=model, adapter=AdapterSettings(target_modules=("q_proj", "o_proj")))
    assert "no linear layer named o_proj" in only(preflight(wrong))
    assert "no linear layer named o_proj" in only(preflight(replace(wrong, model=ModelSettings("org/model", OLD))))
    assert preflight(replace(wrong, model=ModelSettings("org/model", NEW))) == [], "which is not here"
    assert preflight(replace(wrong, model=ModelSettings("org/other"))) == []


def test_clips_that_are_longer_than_the_model_hears(good: RunSettings, tmp_path: Path) -> None:
    long = write_manifest(tmp_path / "long.jsonl", [11.0] * 20)
    said = only(preflight(replace(good, data=replace(good.data, train=long))))
    assert "no clip of" in said and "longer than the model's limit of 10 s" in said


def test_lengths_come_from_the_audio_where_nobody_tells_them(good: RunSettings, tmp_path: Path) -> None:
    untold = write_manifest(tmp_path / "untold.jsonl", [None] * 20)
    data, train = replace(good.data, train=untold), replace(good.train, epochs=None)
    assert preflight(replace(good, data=data, train=replace(train, batch_seconds=1.0))) == []
    said = only(preflight(replace(good, data=data, train=replace(train, batch_seconds=0.5))))
    assert "30 training clips in 60 micro-batches" in said


def test_a_replay_set_of_nothing_but_empty_texts(good: RunSettings, tmp_path: Path) -> None:
    replay = write_manifest(tmp_path / "replay.jsonl", [40.0] * 5)
    data = replace(good.data, replay=replay)
    assert preflight(replace(good, data=data)) == [], "nothing is taken of it"
    said = only(preflight(replace(good, data=data, train=replace(good.train, replay_share=0.5))))
    assert said.startswith("data.replay: no clip of") and "longer than data.max_seconds = 30" in said


def test_what_cannot_be_told_is_no_problem(good: RunSettings) -> None:
    assert preflight(replace(good, model=ModelSettings("org/model"))) == []
    assert preflight(replace(good, data=replace(good.data, train="/nowhere/train.jsonl"))) == []


def test_a_model_of_no_family_is_refused_with_what_there_is(good: RunSettings, whisper: Path) -> None:
    (whisper / "config.json").write_text('{"model_type": "musicgen"}')
    said = only(preflight(good))
    assert said.startswith(f"model.id: {whisper}: ") and "musicgen" in said and "moonshine, " in said
    (whisper / "config.json").write_text("{}")
    assert "no model_type" in only(preflight(good))


def test_words_and_ranks_that_match_nothing_are_told(good: RunSettings) -> None:
    def said(**more: object) -> str:
        return only(preflight(replace(good, adapter=replace(good.adapter, **more))))  # type: ignore[arg-type]

    assert "no linear layer named mlp; there are: k_proj" in said(target_modules=("mlp",))
    assert said(sites="encoder").startswith("adapter.sites: the encoder has no layer named q_proj")
    assert 'adapter.layers: "1-2" is more than there is: the layers are 0 to 0' in said(layers="1-2")
    assert "k_proj is none of the layers that get an adapter" in said(rank_pattern=("k_proj=8",))
    assert "pissa takes at most 4" in said(method="pissa", rank=8)
    every = replace(good.adapter, target_modules=("all-linear",), sites="decoder", layers="0")
    assert preflight(replace(good, adapter=every)) == []


def test_a_broken_model_hides_nothing_that_is_wrong_with_the_clips(good: RunSettings, whisper: Path) -> None:
    (whisper / "tokenizer.json").unlink()
    model, clips = preflight(replace(good, train=replace(good.train, steps=100)))
    assert model.startswith(f"model.id: {whisper}: no usable processor (no file of a tokenizer)")
    assert "60 training clips in 100 micro-batches" in clips


def test_what_the_cache_of_the_hub_lacks_is_fetched_when_a_run_starts(
    good: RunSettings, whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whisper / "tokenizer.json").unlink()
    write_cache(tmp_path / "cache", source=whisper, main=OLD)
    cached(tmp_path / "cache", monkeypatch)
    assert preflight(replace(good, model=ModelSettings("org/model"))) == []


@pytest.mark.parametrize(("model_type", "refused"), [("wav2vec2", True), ("wav2vec2-bert", False)])
def test_masks_are_refused_where_this_model_of_a_family_hears_samples(
    good: RunSettings, whisper: Path, model_type: str, refused: bool
) -> None:
    model_folder(whisper, model_type)
    masked = replace(good, train=replace(good.train, augment=AugmentSettings(time_masks=2)))
    assert ["no spectrogram to mask" in said for said in preflight(masked)] == [True] * refused


def test_a_language_is_asked_for_where_the_model_must_be_told_it(good: RunSettings, whisper: Path) -> None:
    assert preflight(good) == []
    listed = {"lang_to_id": {"<|en|>": 4, "<|de|>": 5}, "task_to_id": {"transcribe": 6}, "no_timestamps_token_id": 7}
    (whisper / "generation_config.json").write_text(json.dumps(listed))
    assert only(preflight(good)) == (
        "model.language: missing, and this model is told what is spoken: give one of de, en"
    )
    told = replace(good, model=replace(good.model, language="de"))
    assert preflight(told) == []
    assert "'xx' is no language" in only(preflight(replace(good, model=replace(good.model, language="xx"))))
    assert "'sing' is no task" in only(preflight(replace(told, model=replace(told.model, task="sing"))))
    path = Path(good.data.train)
    lines = [json.dumps(json.loads(line) | {"language": "de"}) for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    assert preflight(good) == [], "each clip names its own"


def test_a_model_of_one_language_refuses_one(good: RunSettings) -> None:
    assert only(preflight(replace(good, model=replace(good.model, language="en")))) == (
        "model.language: this model takes no language: remove language = 'en'"
    )


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("preprocessor_config.json", {"chunk_length": 4}),
        ("processor_config.json", {"feature_extractor": {"chunk_length": 4}}),
    ],
)
def test_the_window_is_read_wherever_the_feature_extractor_is_saved(
    tmp_path: Path, file: str, content: dict[str, object]
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    assert hears(tmp_path) == 30.0
    (tmp_path / file).write_text(json.dumps(content))
    assert hears(tmp_path) == 4.0


def test_a_share_of_tokens_is_told_by_the_characters_of_the_texts(tmp_path: Path, good: RunSettings) -> None:
    """Three times as many characters in a second of replay: a third of the seconds holds as many tokens."""
    replay = write_manifest(tmp_path / "replay.jsonl", [2.0] * 20, "some words " * 3)
    train = replace(good.train, replay_share=0.5, epochs=3.0)
    settings = replace(good, data=replace(good.data, replay=replay), train=train)
    assert seconds_and_clips(settings) == pytest.approx((4.0, 2.0))
    by_tokens = replace(settings, train=replace(train, replay_share_by="tokens"))
    whole, clips = seconds_and_clips(by_tokens) or (0.0, 0.0)
    assert whole == pytest.approx(2.0 + 2.0 * len("some words") / len("some words " * 3), rel=1e-3)
    assert clips == pytest.approx(whole / 2)
    said = only(preflight(by_tokens))
    assert said.startswith("train.replay_share") and "18 replay clips in 60 micro-batches" in said
