"""What every family must do, seen on a tiny random model of the true architecture (`family_kit.TINY`)."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_kit import TINY, Tiny
from forked_trainer import signal_at
from training_kit import QUICK, TrainingRun, digit_texts, made_up_set, speechlike

from core.audio.samples import normalise
from core.errors import ExitCode, ModelError
from core.export.hf import save
from core.plan.families import FAMILIES, cannot, family_of
from core.plan.schema import AdapterSettings, DataSettings, ModelSettings, RunSettings, TrainSettings
from core.runs.adapter_files import AdapterFacts
from core.runs.adapter_size import adapter_problem, adapter_size
from core.runs.events import CheckpointSaved
from core.training.adapter import attach, load_adapter, loaded, merged, save_adapter, set_training_mode, trainable
from core.training.candidates import make_candidate
from core.training.evaluation import normalisation_fingerprint
from core.training.families.base import SpeechModel
from core.training.memory import recompute_layers
from core.training.model import load_model
from core.training.near_base import loss_and_divergence

TEXTS = ("one", "two three four five", "six seven", "nine")
ADAPTER = AdapterSettings(method="lora", rank=4, target_modules=("attention", "mlp"))
FACTS = AdapterFacts(
    1, "i", "m", None, "h", 0.075, "basic", normalisation_fingerprint(0.075, "basic"), 1000.0, 40.0, "fp32", 1
)


@pytest.fixture(scope="module", params=sorted(TINY))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tiny, Path]:
    tiny = TINY[request.param]
    try:
        return tiny, tiny.build(tmp_path_factory.mktemp("tiny"))
    except ImportError as error:  # older versions of transformers extract some features by librosa
        pytest.skip(" ".join(str(error).split()))


ONE_OF_EACH = {facts.name: name for name, tiny in reversed(TINY.items()) if (facts := family_of(tiny.model_type))}
"""A tiny model of each module: those of a module differ in what a whole run does not see."""


@pytest.fixture(scope="module", params=sorted(ONE_OF_EACH.values()))
def one_of_each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tiny, Path]:
    tiny = TINY[request.param]
    return tiny, tiny.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def speech(family: tuple[Tiny, Path]) -> SpeechModel:
    return load_model(str(family[1]), language=family[0].language)


def heard(texts: Sequence[str] = TEXTS) -> list[Any]:
    return [normalise(speechlike(text)).samples for text in texts]


def loss(speech: SpeechModel, clips: Sequence[Any], texts: Sequence[str]) -> float:
    with torch.inference_mode():
        return float(
            speech.summed_loss(speech.encode(speech.features(clips)), [speech.targets(text) for text in texts])
        )


def transcripts(speech: SpeechModel, clips: Sequence[Any]) -> list[list[int]]:
    with torch.inference_mode():
        return speech.decode(speech.encode(speech.features(clips)), [12] * len(clips))


def disturbed(speech: SpeechModel, settings: AdapterSettings = ADAPTER) -> SpeechModel:
    """With an adapter that changes what the model says."""
    found = attach(speech, settings, seed=0)
    torch.manual_seed(1)
    for parameter in trainable(found).values():
        parameter.data.normal_(0, 0.3)
    return found


def test_every_model_type_has_a_tiny_model() -> None:
    """So that a new line of `core.plan.families` is tested."""
    there = {tiny.model_type for tiny in TINY.values()}
    assert there == {model_type for facts in FAMILIES for model_type in facts.model_types}


def test_the_frozen_base_is_trained_as_it_is_evaluated(speech: SpeechModel) -> None:
    """Its dropout, LayerDrop and SpecAugment do not act."""
    found = disturbed(speech)
    found.network.eval()
    evaluated = loss(found, heard(), TEXTS)
    set_training_mode(found)
    assert [loss(found, heard(), TEXTS) for _ in range(3)] == [evaluated] * 3


def test_the_divergence_from_the_base_is_measured_on_the_last_rows_or_refused_by_name(speech: SpeechModel) -> None:
    targets, features = [speech.targets(text) for text in TEXTS], speech.features(heard())
    if not speech.facts.divergence:
        with pytest.raises(ModelError, match=f"train.kl: {speech.facts.name} models"):
            speech.predicted(speech.encode(features), targets)
        assert [text.partition(":")[0] for text in cannot(speech.facts, TrainSettings(kl=1.0))] == ["train.kl"]
        return
    assert not list(cannot(speech.facts, TrainSettings(kl=1.0)))
    with torch.no_grad():
        base = speech.predicted(speech.encode(features), targets)
        expected_base = [row[:n].double().log_softmax(-1) for row, n in zip(base.logits, base.lengths, strict=True)]
    found = disturbed(speech)
    set_training_mode(found)
    summed, divergence = loss_and_divergence(found, features, [None] * len(TEXTS), targets, 2)
    with torch.no_grad():
        now = found.predicted(found.encode(features), targets)
        rows = [row[:n].double().log_softmax(-1) for row, n in zip(now.logits, now.lengths, strict=True)]
        pairs = list(zip(expected_base, rows, strict=True))[-2:]
        expected = sum(float((one.exp() * (one - other)).sum()) for one, other in pairs)
        assert float(summed.detach()) == pytest.approx(
            float(found.summed_loss(found.encode(features), targets)), rel=1e-5
        )
    assert divergence is not None
    assert float(divergence.detach()) == pytest.approx(expected, rel=1e-3)
    assert expected > 0
    divergence.backward()  # type: ignore[no-untyped-call]
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in trainable(found).values())
    assert loss_and_divergence(found, features, [None] * len(TEXTS), targets, 0)[1] is None


def test_beams_find_the_same_alone_and_in_a_batch_or_are_refused_by_name(speech: SpeechModel) -> None:
    if not speech.facts.beams:
        with pytest.raises(ModelError, match=f"{speech.facts.name} models are decoded greedily"):
            speech.with_beams(3)
        return
    speech, clips = speech.with_beams(3), heard()
    assert transcripts(speech, clips) == [transcripts(speech, [clip])[0] for clip in clips]


def test_the_axes_of_its_spectrogram_are_named(speech: SpeechModel) -> None:
    """For masks. Those that hear samples have none."""
    one, two = (speech.features([np.tile(heard(["one two three"])[0], times)]) for times in (1, 2))
    assert ("input_features" in one) == (speech.spectrogram is not None)
    if speech.spectrogram is not None:
        time, bins = speech.spectrogram
        sizes = [batch["input_features"].shape for batch in (one, two)]
        assert sizes[0][bins] == sizes[1][bins] and {time, bins} == {1, 2}
        assert sizes[0][time] == sizes[1][time] if speech.facts.windowed else sizes[0][time] < sizes[1][time]


def test_the_tiny_model_is_of_its_type(family: tuple[Tiny, Path]) -> None:
    assert json.loads((family[1] / "config.json").read_text())["model_type"] == family[0].model_type


def test_the_loss_is_what_transformers_or_torch_computes(family: tuple[Tiny, Path], speech: SpeechModel) -> None:
    clips = heard()
    expected = sum(family[0].reference(speech, clip, text) for clip, text in zip(clips, TEXTS, strict=True))
    assert loss(speech, clips, TEXTS) == pytest.approx(expected, rel=1e-4)


def test_targets_spell_the_text(speech: SpeechModel) -> None:
    assert [speech.text(speech.targets(text)).lower() for text in TEXTS] == list(TEXTS)
    assert [speech.unfit(speech.targets(text), 16_000 * 5) for text in TEXTS] == [None] * len(TEXTS)
    assert speech.unfit(speech.targets("two " * 3000), 16_000) is not None


def test_a_clip_is_heard_alone_and_in_a_batch_alike(speech: SpeechModel) -> None:
    clips = [*heard(), np.zeros(20_000, np.float32), speechlike("seven")[:1500]]
    assert transcripts(speech, clips) == [transcripts(speech, [clip])[0] for clip in clips]
    apart = sum(loss(speech, [clip], [text]) for clip, text in zip(clips[: len(TEXTS)], TEXTS, strict=True))
    assert loss(speech, clips[: len(TEXTS)], TEXTS) == pytest.approx(apart, rel=1e-4)


def test_a_step_in_bf16_trains_all_of_an_adapter(family: tuple[Tiny, Path], speech: SpeechModel) -> None:
    clips, targets = heard(), [speech.targets(text) for text in TEXTS]
    tuned = attach(load_model(str(family[1]), language=family[0].language, precision="bf16"), ADAPTER, seed=0)
    features = tuned.features(clips)
    with tuned.autocast():
        found = tuned.summed_loss(tuned.encode(features), targets)
    found.backward()  # type: ignore[no-untyped-call]
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(loss(speech, clips, TEXTS), rel=0.05)
    assert all(parameter.grad is not None for parameter in trainable(tuned).values())


def test_silence_has_a_loss(speech: SpeechModel) -> None:
    """Evaluation sets may hold some: the loss of the others would be lost with it."""
    assert math.isfinite(loss(speech, [np.zeros(20_000, np.float32), heard()[0]], ["one", "one"]))


def test_no_transcript_is_longer_than_its_cap(speech: SpeechModel) -> None:
    clips = heard()
    with torch.inference_mode():
        written = speech.decode(speech.encode(speech.features(clips)), [1, 3, 2, 1])
    assert [len(ids) <= cap for ids, cap in zip(written, [1, 3, 2, 1], strict=True)] == [True] * len(clips)


def test_a_fresh_adapter_changes_nothing(speech: SpeechModel) -> None:
    clips = heard()
    before, written = loss(speech, clips, TEXTS), transcripts(speech, clips)
    fresh = attach(speech, ADAPTER, seed=0)
    assert trainable(fresh)
    # beside the last bits, as a plain model may be scored by a forward pass of its own
    assert loss(fresh, clips, TEXTS) == pytest.approx(before, rel=1e-6)
    assert transcripts(fresh, clips) == written


def test_a_merged_adapter_says_what_it_says_beside_the_model(speech: SpeechModel) -> None:
    clips = heard()
    before = loss(speech, clips, TEXTS)
    tuned = disturbed(speech)
    beside, written = loss(tuned, clips, TEXTS), transcripts(tuned, clips)
    assert abs(beside - before) > 1e-3
    with merged(tuned) as plain:
        assert loss(plain, clips, TEXTS) == pytest.approx(beside, rel=1e-4)
        assert transcripts(plain, clips) == written
    assert loss(tuned, clips, TEXTS) == beside


@pytest.mark.parametrize(
    "adapter",
    [
        replace(ADAPTER, method="dora", target_modules=("all-linear",), sites="both"),
        replace(ADAPTER, target_modules=("attention",), sites="encoder", layers="0"),
    ],
    ids=["every layer", "the encoder's first"],
)
def test_a_plan_counts_what_is_trained(
    adapter: AdapterSettings, family: tuple[Tiny, Path], speech: SpeechModel
) -> None:
    """From the names and shapes in the model's files, without loading it."""
    settings = RunSettings(ModelSettings(str(family[1])), DataSettings(), TrainSettings(), adapter)
    size = adapter_size(settings)
    weights = trainable(attach(speech, adapter, seed=0))
    assert size is not None, adapter_problem(settings)
    assert size.trained == sum(parameter.numel() for parameter in weights.values())
    assert size.layers == sum(".lora_A." in name for name in weights)


def test_layers_computed_again_give_the_same_gradients(speech: SpeechModel) -> None:
    found = disturbed(speech)
    set_training_mode(found)

    def gradients() -> dict[str, torch.Tensor]:
        found.summed_loss(found.encode(found.features(heard())), [found.targets(text) for text in TEXTS]).backward()
        made = {name: p.grad.clone() for name, p in trainable(found).items() if p.grad is not None}
        found.network.zero_grad(set_to_none=True)
        return made

    before = gradients()
    recompute_layers(found.network)
    again = gradients()
    assert before and all(torch.equal(again[name], gradient) for name, gradient in before.items())


def test_a_saved_adapter_is_the_same_in_plain_peft_and_here(family: tuple[Tiny, Path], tmp_path: Path) -> None:
    import transformers
    from peft import PeftModel

    tiny, folder = family
    speech = load_model(str(folder), language=tiny.language)
    tuned = disturbed(speech)
    clip, text = heard()[1], TEXTS[1]
    here = loss(tuned, [clip], [text])
    save_adapter(tuned, tmp_path, replace(FACTS, model=str(folder), **tellings(speech)))
    plain = getattr(transformers, speech.facts.loader).from_pretrained(folder, dtype=torch.float32).eval()
    if tiny.language is not None and hasattr(plain, "load_adapter") and speech.facts.language == "single":
        plain = load_model(str(folder), language=tiny.language).network  # whose weights are those of the language
    there = replace(load_model(str(folder), language=tiny.language), network=PeftModel.from_pretrained(plain, tmp_path))
    assert loss(there, [clip], [text]) == pytest.approx(here, rel=1e-4)
    loaded, _ = load_adapter(load_model(str(folder), language=tiny.language), tmp_path)
    # merged weights round otherwise: both are as far from what fp64 gives, 1e-4 for a wav2vec2 of random weights
    assert loss(loaded, [clip], [text]) == pytest.approx(here, rel=3e-4)


@pytest.mark.parametrize("method", ["dora", pytest.param("lora", marks=[pytest.mark.heavy, pytest.mark.long])])
def test_a_candidate_in_plain_peft_is_the_average_of_merged_weights(
    method: str, family: tuple[Tiny, Path], tmp_path: Path
) -> None:
    """Two adapters, averaged, and 0.6 of the way to that from the base model."""
    tiny, folder = family
    plain = load_model(str(folder), language=tiny.language)
    layers = {name: layer for name, layer in plain.network.named_modules() if isinstance(layer, torch.nn.Linear)}
    wanted = {name: 0.4 * layer.weight.detach().double() for name, layer in layers.items()}
    sources, told = [tmp_path / name for name in ("one", "other")], replace(FACTS, model=str(folder))
    for seed, source in enumerate(sources):
        tuned = attach(load_model(str(folder), language=tiny.language), replace(ADAPTER, method=method), seed=0)
        torch.manual_seed(seed)
        for parameter in trainable(tuned).values():
            by = 0.3 * torch.randn_like(parameter)
            # a DoRA keeps the small norms of random weights, unless its magnitudes are others
            parameter.data.copy_(parameter * (5 + by) if parameter.ndim == 1 else by)
        source.mkdir()
        save_adapter(tuned, source, told)
        with merged(tuned) as scoring:
            for name in wanted:
                wanted[name] += 0.3 * scoring.network.get_submodule(name).weight.detach()
    clip, text = heard()[1], TEXTS[1]
    before = loss(plain, [clip], [text])
    make_candidate(sources, tmp_path / "made", 0.6, told, lambda name: plain.network.get_submodule(name).weight)
    with loaded(plain, tmp_path / "made") as scoring:
        said = loss(scoring, [clip], [text])
    for name, weight in wanted.items():
        layers[name].weight = torch.nn.Parameter(weight.float())
    changed = abs(said - before)
    assert changed > 1e-5 * before, "the adapter must matter here"
    assert abs(said - loss(plain, [clip], [text])) < 0.05 * changed


def test_merged_in_fp32_and_loaded_from_its_folder_it_writes_the_same(
    family: tuple[Tiny, Path], tmp_path: Path
) -> None:
    tiny, folder = family
    adapter, made = tmp_path / "adapter", tmp_path / "merged with spaces"
    speech = load_model(str(folder), language=tiny.language)
    tuned = disturbed(speech, replace(ADAPTER, method="dora"))
    save_adapter(tuned, adapter, replace(FACTS, model=str(folder), **tellings(speech)))
    judged, _ = load_adapter(load_model(str(folder), language=tiny.language), adapter)
    expected, lost = transcripts(judged, heard()), loss(judged, heard(), TEXTS)
    save(judged, made, "float32")
    alone = load_model(str(made), language=tiny.language)
    assert transcripts(alone, heard()) == expected
    assert loss(alone, heard(), TEXTS) == lost != loss(load_model(str(folder), language=tiny.language), heard(), TEXTS)


def tellings(speech: SpeechModel) -> dict[str, Any]:
    told = speech.decoding
    return {name: getattr(told, name) for name in ("language", "task", "prompt", "targets")}


@pytest.mark.heavy
def test_20_clips_can_be_learnt_without_an_error(family: tuple[Tiny, Path], speech: SpeechModel) -> None:
    """All weights are trained: a random model is none that an adapter could help."""
    texts = digit_texts(20, 3, words=2)
    clips, targets = heard(texts), [speech.targets(text) for text in texts]
    features = speech.features(clips)
    speech.network.requires_grad_(True)
    optimiser = torch.optim.Adam(speech.network.parameters(), lr=3e-3)
    for step in range(1, 601):
        optimiser.zero_grad()
        (speech.summed_loss(speech.encode(features), targets) / sum(map(len, targets))).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(speech.network.parameters(), 1.0)
        optimiser.step()
        if step % 25 == 0 and learnt(speech, features, texts):
            return
    raise AssertionError("not learnt in 600 steps")


def learnt(speech: SpeechModel, features: Any, texts: Sequence[str]) -> bool:
    with torch.inference_mode():
        written = speech.decode(speech.encode(features), [40] * len(texts))
    return [speech.text(ids).lower() for ids in written] == list(texts)


def settings(tiny: Tiny, *more: str) -> tuple[str, ...]:
    told = () if tiny.language is None else (f"model.language={tiny.language}",)
    return (*QUICK, *told, 'adapter.target_modules=["attention"]', "train.steps=4", *more)


def sets(folder: Path) -> dict[str, Path]:
    return {
        name: made_up_set(folder, name, 5, seed) for seed, name in enumerate(("train", "replay", "domain", "heldout"))
    }


@pytest.mark.heavy
def test_a_run_that_was_killed_ends_as_one_that_was_not(one_of_each: tuple[Tiny, Path], tmp_path: Path) -> None:
    tiny, folder = one_of_each
    speech = sets(tmp_path)
    whole = TrainingRun(tmp_path / "whole", folder, speech, *settings(tiny)).trained()
    killed = TrainingRun(tmp_path / "killed", folder, speech, *settings(tiny))

    def at(event: object) -> bool:
        return isinstance(event, CheckpointSaved) and event.step == 2

    assert killed.fork(signal_at(signal.SIGKILL, at)) == signal.SIGKILL
    killed.trained()
    assert killed.result() == whole.result()
    assert killed.history() == whole.history()
    tuned = json.loads(whole.paths.tuned("domain").read_text())
    assert tuned["single"]["differing"] == 0


@pytest.mark.heavy
@pytest.mark.long
def test_the_gate_passes_a_verdict_on_a_whole_run(one_of_each: tuple[Tiny, Path], tmp_path: Path) -> None:
    tiny, folder = one_of_each
    run = TrainingRun(tmp_path, folder, sets(tmp_path), *settings(tiny))
    command = [sys.executable, "-m", "lora_tui", "--headless", "--gate", str(run.plan)]
    for setting in settings(tiny, "train.threads=1", "train.eval_every=4"):
        command += ["--set", setting]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ExitCode(done.returncode) in (ExitCode.REJECTED, ExitCode.ACCEPTED, ExitCode.UNDECIDED), done.stderr
    assert "Traceback" not in done.stderr
