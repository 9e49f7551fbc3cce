"""What Whisper is told of a clip, and what it learns to write."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import TrainingRun, in_process_trainer, made_up_set, multilingual, speechlike, write_set

from core.cli.__main__ import main as lora_cli
from core.errors import ModelError, RunFolderError
from core.manifests.manifest import read_manifest
from core.runs.scores import read_score
from core.system.files import write_json
from core.training.adapter import load_adapter, save_adapter
from core.training.baseline import baseline_facts
from core.training.checkpoint import save_checkpoint
from core.training.families.base import SpeechModel
from core.training.families.whisper import Whisper
from core.training.model import load_model
from core.training.session import Session
from core.training.stopping import StopFlag

QUICK = ("train.steps=2", "train.eval_every=2", "train.batch_seconds=8", "adapter.rank=2")


@pytest.fixture(scope="module")
def several(tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return multilingual(tiny_whisper, tmp_path_factory.mktemp("several") / "model")


def whisper(folder: Path, **more: Any) -> Whisper:
    model = load_model(str(folder), **more)
    assert isinstance(model, Whisper)
    return model


@pytest.mark.parametrize(("language", "task"), [("de", "transcribe"), ("zh", "translate"), ("de", None)])
def test_the_prompt_is_what_generate_begins_with(several: Path, language: str, task: str | None) -> None:
    model = whisper(several, language=language, task=task)
    features = model.features([speechlike("one two")])
    seen: list[Any] = []

    def look(_: Any, __: Any, given: dict[str, Any]) -> None:
        seen.append(given["decoder_input_ids"])

    hook = model.network.register_forward_pre_hook(look, with_kwargs=True)
    more = {} if task is None else {"task": task}
    model.network.generate(**features, language=language, max_new_tokens=2, **more)
    hook.remove()
    assert tuple(seen[0][0].tolist()) == model.prompted
    assert model.encode(features).prompts == (model.prompted,)


def test_words_begin_with_a_space_the_first_one_too(several: Path) -> None:
    model = whisper(several, language="de")
    assert model.targets("one two") == model.targets(" one two ")
    assert model.targets("two one")[-len(model.targets("one")) :] == model.targets("one")
    assert model.text(model.targets("one two")) == "one two"


def test_a_language_without_spaces_gets_none(several: Path) -> None:
    model = whisper(several, language="de")
    spelled = model.tokenizer.decode
    assert spelled(model.targets("one", "zh")[:-1]) == "one"
    assert spelled(model.targets("one")[:-1]) == " one"
    assert spelled(whisper(several, language="zh", task="translate").targets("one")[:-1]) == " one"


def test_a_model_of_several_languages_must_be_told_one(several: Path) -> None:
    model = whisper(several)
    with pytest.raises(ModelError, match=r"model\.language: missing, .*: give one of de, en, zh"):
        model.check_languages([None, "de"])
    model.check_languages(["de", "en"])
    with pytest.raises(ModelError, match="field language of the manifests: 'xx' is no language of this model"):
        model.check_languages(["de", "xx"])
    with pytest.raises(
        ModelError, match=r"model\.language: 'german' is no language of this model: give one of de, en, zh"
    ):
        load_model(str(several), language="german")
    with pytest.raises(
        ModelError, match=r"model\.task: 'sing' is no task of this model: give one of transcribe, translate"
    ):
        load_model(str(several), language="de", task="sing")


def test_a_model_of_one_language_takes_none(tiny_whisper: Path, tiny_moonshine: Path) -> None:
    for folder in (tiny_whisper, tiny_moonshine):
        with pytest.raises(ModelError, match=r"model\.language: this model takes no language: remove language = 'en'"):
            load_model(str(folder), language="en")
        load_model(str(folder)).check_languages([None, "en"])


def test_a_model_of_several_languages_that_lists_none_gets_no_wrong_prompt(
    several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(several, tmp_path / "old")
    path = tmp_path / "old" / "generation_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "lang_to_id"}))
    model = whisper(tmp_path / "old")
    model.check_languages()
    with pytest.raises(ModelError, match="lists none \\(lang_to_id\\)"):
        replace(model, facts=replace(model.facts, multilingual_from=300)).check_languages()


def test_clips_of_a_batch_have_each_their_own_language(several: Path) -> None:
    model = whisper(several, language="en")
    clips = [speechlike("one two"), speechlike("three")]
    languages = ["de", None]
    labels = [model.targets("one two", "de"), model.targets("three")]
    with torch.inference_mode():
        together = model.encode(model.features(clips), languages)
        loss = float(model.summed_loss(together, labels))
        written = model.decode(together, [6, 6])
        apart = [
            replace(model, language=language).encode(model.features([clip]))
            for clip, language in zip(clips, ("de", "en"), strict=True)
        ]
        assert loss == pytest.approx(
            sum(float(model.summed_loss(one, [ids])) for one, ids in zip(apart, labels, strict=True)), rel=1e-5
        )
        assert written == [model.decode(one, [6])[0] for one in apart]
    assert together.prompts[0] != together.prompts[1]


def in_training(folder: Path, model: Path, *settings: str) -> Any:
    sets = {name: made_up_set(folder, name, 3, seed) for seed, name in enumerate(("train", "domain", "heldout"))}
    more = ('adapter.target_modules=["q_proj"]', "train.replay_share=0", *settings)
    return in_process_trainer(TrainingRun(folder, model, sets, *QUICK, *more))


def facts_of(speech: SpeechModel) -> dict[str, Any]:
    return baseline_facts(
        speech, model_hash="m", manifest_sha256="s", target_rms=0.1, normaliser="basic", batch_seconds=9.0
    )


def test_language_and_prompt_are_among_what_a_score_depends_on(several: Path, tmp_path: Path) -> None:
    trainer = in_training(tmp_path, several, "model.language=de")
    model = trainer.speech
    assert model.language == "de"
    score = trainer.scorer(model, trainer.materials.evaluation[0], 0, None)
    assert (score.decode.language, score.decode.prompt, score.decode.targets) == ("de", model.prompted, 2)
    assert facts_of(model) != facts_of(whisper(several, language="en"))
    save_adapter(model, tmp_path / "adapter", trainer.facts)
    _, facts = load_adapter(whisper(several, language="de"), tmp_path / "adapter")
    assert facts is not None and (facts.language, facts.prompt) == ("de", model.prompted)
    other = json.loads((tmp_path / "adapter" / "reproduce.json").read_text())
    write_json(tmp_path / "adapter" / "reproduce.json", other | {"prompt": [1, 2]})
    with pytest.raises(ModelError, match="was trained with the prompt"):
        load_adapter(whisper(several, language="de"), tmp_path / "adapter")


def test_an_adapter_of_before_is_decoded_as_it_was(several: Path, tmp_path: Path) -> None:
    trainer = in_training(tmp_path, several, "model.language=de")
    save_adapter(trainer.speech, tmp_path / "adapter", trainer.facts)
    path = tmp_path / "adapter" / "reproduce.json"
    later = ("language", "task", "prompt", "targets")
    write_json(path, {key: value for key, value in json.loads(path.read_text()).items() if key not in later})
    loaded, _ = load_adapter(whisper(several), tmp_path / "adapter")
    spelled = loaded.tokenizer.convert_ids_to_tokens(list(loaded.prompted))
    assert spelled == ["<|startoftranscript|>", "<|notimestamps|>"]
    loaded.check_languages([None, "de"])
    assert loaded.encode(loaded.features([speechlike("one")] * 2), [None, "de"]).prompts == (loaded.prompted,) * 2


def test_a_run_that_was_begun_with_other_targets_does_not_go_on(several: Path, tmp_path: Path) -> None:
    trainer = in_training(tmp_path, several, "model.language=de")
    config = json.loads(trainer.paths.config.read_text())
    path = trainer.paths.evaluation(0, "domain")
    path.parent.mkdir(parents=True)
    score = trainer.scorer(trainer.speech, trainer.materials.evaluation[0], 0, None).plain()
    write_json(path, score)
    session = Session(trainer.paths, config, StopFlag())
    session.resume_from = 1
    session._check_decoding(trainer.speech)
    del score["decode"]["targets"]
    write_json(path, score)
    assert read_score(path)[0] is not None
    with pytest.raises(RunFolderError, match="begun by a version of lora-tui that had another value of what the model"):
        session._check_decoding(trainer.speech)


def test_a_run_whose_batches_were_cut_by_length_goes_on_so(
    several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("one", "two three four five six", "seven", "eight nine zero one two", "three", "four", "five six", "seven")
    clips = [(speechlike(text, seed), text) for seed, text in enumerate(words)]
    sets = {name: write_set(tmp_path, name, clips[: 8 - n]) for n, name in enumerate(("train", "domain", "heldout"))}
    more = ("model.language=de", "train.replay_share=0", "train.steps=2", "train.eval_every=1", "train.batch_seconds=4")
    run = TrainingRun(tmp_path, several, sets, 'adapter.target_modules=["q_proj"]', *more)

    def batches() -> str:
        return str(in_process_trainer(run).materials.plan.hash)

    with monkeypatch.context() as patch:
        patch.setattr(SpeechModel, "encoder_seconds", lambda self, seconds: seconds)
        before = batches()
    assert batches() != before
    checkpoint = run.paths.checkpoint(1)
    save_checkpoint(run.paths, 1, {}, torch.optim.AdamW([torch.zeros(1)]), before)
    assert batches() == before
    write_json(checkpoint / "meta.json", json.loads((checkpoint / "meta.json").read_text()) | {"batch_plan": "0" * 16})
    assert batches() != before, "and load_checkpoint says that it was written under another plan"


def test_lora_cli_is_told_the_language_or_asks_for_it(
    several: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_set(tmp_path, "set", [(speechlike("one"), "one")])
    command = ["evaluate", str(manifest), "--model", str(several), "--threads", "1", "--json", "-"]
    assert lora_cli(command) == 4
    assert "model.language: missing, and this model is told what is spoken: give one of de, en, zh" in (
        capsys.readouterr().err
    )
    assert lora_cli([*command, "--language", "de"]) == 0
    assert json.loads(capsys.readouterr().out)["decode"]["language"] == "de"
    line = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(line | {"language": "de"}) + "\n")
    assert read_manifest(manifest).utterances[0].language == "de"
    assert lora_cli(command) == 0
