from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from training_kit import FAMILIES, TrainingRun, adapter_facts, digit_texts, speechlike

from core.audio.samples import normalise
from core.errors import ModelError
from core.plan.schema import AdapterSettings
from core.runs.adapter_files import adapter_hash
from core.training.adapter import (
    attach,
    load_adapter,
    merged,
    read_facts,
    save_adapter,
    set_training_mode,
    trainable,
)
from core.training.evaluation import Decoder, normalisation_fingerprint
from core.training.families.base import SpeechModel
from core.training.loss import pad_targets
from core.training.model import load_model

METHODS = ["lora", "dora", "rslora", "pissa", "olora"]
TARGETS = ("q_proj", "v_proj", "fc1")
TEXTS = digit_texts(4, 7, words=5)
FACTS = adapter_facts()


def settings(method: str = "dora", **more: Any) -> AdapterSettings:
    return AdapterSettings(**{"method": method, "rank": 4, "target_modules": TARGETS} | more)


def logits(speech: SpeechModel) -> torch.Tensor:
    was_training = speech.network.training
    speech.network.eval()
    output = forward(speech)
    speech.network.train(was_training)
    return output


def forward(speech: SpeechModel, seed: int = 0) -> torch.Tensor:
    """The logits in the modes that the modules are in, with whatever they draw drawn from `seed`."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    inputs, _, _ = pad_targets(
        [speech.targets(t) for t in TEXTS], [speech.vocabulary.prefix] * len(TEXTS), speech.vocabulary.pad
    )
    clips = [normalise(speechlike(text)).samples for text in TEXTS]
    with torch.no_grad():
        output = speech.network(**speech.features(clips), decoder_input_ids=inputs).logits
    return torch.as_tensor(output)


def moved(speech: SpeechModel, by: float = 0.3) -> SpeechModel:
    """The adapter as if it had been trained."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in trainable(speech).values():
            parameter.add_(torch.randn_like(parameter) * by * parameter.abs().mean().clamp(min=0.02))
    return speech


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_changes_nothing_before_its_first_step(folder: str, method: str) -> None:
    before = logits(load_model(folder))
    after = logits(attach(load_model(folder), settings(method), seed=0))
    assert torch.allclose(before, after, atol=1e-5)
    assert torch.equal(before.argmax(-1), after.argmax(-1))


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_changes_nothing_before_its_first_step_in_bf16_either(tiny_moonshine: Path, method: str) -> None:
    """The row norms of DoRA would not cancel in bf16, so that an untrained adapter would change scores."""

    def in_bf16(speech: SpeechModel) -> torch.Tensor:
        speech.precision = "bf16"
        with speech.autocast():
            return logits(speech).float()

    before = in_bf16(load_model(str(tiny_moonshine)))
    after = in_bf16(attach(load_model(str(tiny_moonshine)), settings(method), seed=0))
    assert torch.allclose(before, after, atol=1e-2 * float(before.abs().max()))
    assert torch.equal(before.argmax(-1), after.argmax(-1))


@pytest.mark.parametrize("method", METHODS)
def test_the_merged_model_says_what_the_adapter_says(folder: str, method: str) -> None:
    plain = logits(load_model(folder))
    speech = moved(attach(load_model(folder), settings(method), seed=0))
    unmerged = logits(speech)
    with merged(speech) as scoring:
        said = logits(scoring)
    assert (unmerged - plain).abs().max() > 1e-2, "the adapter must matter here"
    assert (unmerged - said).abs().max() < 1e-4


def test_merging_leaves_the_training_model_as_it_was(tiny_moonshine: Path) -> None:
    speech = moved(attach(load_model(str(tiny_moonshine)), settings(dropout=0.1), seed=0))
    speech.network.train()
    state = {name: tensor.clone() for name, tensor in speech.network.state_dict().items()}
    modes = {name: module.training for name, module in speech.network.named_modules()}
    flags = {name: p.requires_grad for name, p in speech.network.named_parameters()}
    network = speech.network
    with merged(speech) as scoring:
        plain = load_model(str(tiny_moonshine)).network
        assert [name for name, _ in scoring.network.named_modules()] == [name for name, _ in plain.named_modules()]
        assert not any(module.training for module in scoring.network.modules())
        scored = logits(scoring)
    assert speech.network is network
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in speech.network.state_dict().items())
    assert modes == {name: module.training for name, module in speech.network.named_modules()}
    assert flags == {name: p.requires_grad for name, p in speech.network.named_parameters()}
    with merged(speech) as again:
        assert torch.equal(logits(again), scored)


def test_the_base_computes_in_training_what_it_computes_in_evaluation(tiny_whisper: Path, tmp_path: Path) -> None:
    """Its dropout, LayerDrop and SpecAugment are for training the base, which is frozen."""
    shutil.copytree(tiny_whisper, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    noisy = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"), 0.5)
    noisy |= {"decoder_layerdrop": 0.5, "apply_spec_augment": True, "mask_time_prob": 0.5, "mask_feature_prob": 0.5}
    path.write_text(json.dumps(json.loads(path.read_text()) | noisy))
    speech = moved(attach(load_model(str(tmp_path / "model")), settings(), seed=0))
    speech.network.eval()
    evaluated = forward(speech, 0)
    speech.network.train()
    assert not torch.equal(forward(speech, 1), evaluated), "they would act here"
    set_training_mode(speech)
    assert all(torch.equal(forward(speech, seed), evaluated) for seed in range(3))


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_adapters_own_dropout_acts_in_training(tiny_moonshine: Path, method: str) -> None:
    """A Moonshine's base draws nothing, so that putting all of it into training mode is the reference."""
    speech = moved(attach(load_model(str(tiny_moonshine)), settings(method, dropout=0.3), seed=0))
    speech.network.train()
    wanted = [forward(speech, seed) for seed in range(3)]
    assert not torch.equal(wanted[0], wanted[1])
    speech.network.eval()
    set_training_mode(speech)
    assert all(torch.equal(forward(speech, seed), reference) for seed, reference in enumerate(wanted))


def test_only_the_adapter_is_trained(tiny_moonshine: Path) -> None:
    parameters = trainable(attach(load_model(str(tiny_moonshine)), settings(), seed=0))
    assert parameters
    assert all("lora_" in name for name in parameters)
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in parameters} == set(TARGETS)


def test_the_seed_makes_the_adapter(tiny_moonshine: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(99 + seed)
        adapter = trainable(attach(load_model(str(tiny_moonshine)), settings(), seed=seed))
        return torch.cat([p.detach().flatten() for p in adapter.values()])

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_a_target_module_that_does_not_exist_is_answered_with_those_that_do(tiny_moonshine: Path) -> None:
    model = load_model(str(tiny_moonshine))
    with pytest.raises(ModelError) as caught:
        attach(model, settings(target_modules=("q_proj", "query", "gelu")), seed=0)
    assert str(caught.value) == (
        "adapter.target_modules: this model has no linear layer named query, gelu; "
        "there are: fc1, fc2, k_proj, o_proj, proj_out, q_proj, v_proj"
    )
    with pytest.raises(ModelError, match=re.escape("(none given)")):
        attach(model, settings(target_modules=()), seed=0)


@pytest.fixture
def saved(tiny_moonshine: Path, tmp_path: Path) -> Path:
    speech = moved(attach(load_model(str(tiny_moonshine)), settings(), seed=0))
    save_adapter(speech, tmp_path / "adapter", replace(FACTS, model=str(tiny_moonshine)))
    return tmp_path / "adapter"


def test_a_saved_adapter_comes_back_with_its_decode_settings(saved: Path, tiny_moonshine: Path) -> None:
    expected = logits(moved(attach(load_model(str(tiny_moonshine)), settings(), seed=0)))
    loaded, facts = load_adapter(load_model(str(tiny_moonshine)), saved)
    assert (logits(loaded) - expected).abs().max() < 1e-4
    assert facts == replace(FACTS, model=str(tiny_moonshine))
    assert loaded.limits.tokens_per_second == 200.0


def test_an_adapter_folder_is_plain_peft_with_sorted_names(saved: Path, tiny_moonshine: Path) -> None:
    assert sorted(p.name for p in saved.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "reproduce.json",
    ]
    config = json.loads((saved / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(TARGETS)
    assert (config["peft_type"], config["task_type"], config["inference_mode"]) == ("LORA", None, True)
    assert config["base_model_name_or_path"] == str(tiny_moonshine)
    assert str(saved.parent) not in (saved / "adapter_config.json").read_text()


def test_saving_again_gives_the_same_bytes_and_hash(saved: Path, tiny_moonshine: Path) -> None:
    before, digest = {p.name: p.read_bytes() for p in saved.iterdir()}, adapter_hash(saved)
    speech = moved(attach(load_model(str(tiny_moonshine)), settings(target_modules=TARGETS[::-1]), seed=0))
    save_adapter(speech, saved, replace(FACTS, model=str(tiny_moonshine)))
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    assert adapter_hash(saved) == digest


def rewritten(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return apply


def configured(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return apply


def fact(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "reproduce.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return apply


def written(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


NEW = "base_model.model.model.decoder.layers.7.self_attn.q_proj.lora_A.weight"
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "needs adapter_config.json and adapter_model"),
    "no configuration": (lambda f: (f / "adapter_config.json").unlink(), "needs adapter_config.json"),
    "cut weights": (
        lambda f: (f / "adapter_model.safetensors").write_bytes((f / "adapter_model.safetensors").read_bytes()[:-9]),
        "does not fit this model",
    ),
    "weights missing": (rewritten(lambda t: t.__delitem__(sorted(t)[0])), "0 of its weights .* and 1 are missing"),
    "weights too many": (rewritten(lambda t: t.update({NEW: torch.zeros(2)})), "1 of its weights have no place"),
    "other sizes": (rewritten(lambda t: t.update({sorted(t)[0]: torch.zeros(2, 2)})), "does not fit this model"),
    "configuration not JSON": (written("adapter_config.json", "{"), "does not fit this model"),
    "configuration a list": (written("adapter_config.json", "[]"), "does not fit this model"),
    "unknown kind": (configured(peft_type="NO_SUCH"), "does not fit this model .*NO_SUCH"),
    "other targets": (configured(target_modules=["query"]), "does not fit this model .*query"),
    "facts not JSON": (written("reproduce.json", "{"), "reproduce.json: not JSON"),
    "facts incomplete": (written("reproduce.json", "{}"), "reproduce.json: .*`step`"),
    "a deaf adapter": (fact(tokens_per_second=0.3), r"reproduce\.json: tokens_per_second = 0\.3 cannot be"),
    "a cap below the model's": (fact(tokens_per_second=9.5), "caps transcripts at 9.5 tokens a second, this model at"),
    "no tokens at all": (fact(tokens_per_second=0), "tokens_per_second = 0.* cannot be"),
    "a number as text": (fact(tokens_per_second="6.5"), "Expected `float`, got `str`"),
    "an impossible level": (fact(target_rms=7.5), "target_rms = 7.5 cannot be"),
    "no batch": (fact(eval_batch_seconds=-1.0), "eval_batch_seconds = -1.0 cannot be"),
    "another audio path": (fact(fingerprint="0123456789ab-basic1"), "trained under normalisation 0123456789ab-basic1"),
    "another probe": (
        fact(fingerprint="-".join([*normalisation_fingerprint(0.075, "basic").split("-")[:2], "0123456789ab"])),
        "-basic[0-9]-0123456789ab, this version computes .* they differ in the samples that the audio path makes",
    ),
    "another text normaliser": (
        fact(fingerprint=normalisation_fingerprint(0.075, "jargon")), "they differ in the text normaliser;"
    ),
    "another level": (fact(target_rms=0.1), "its error rate would not be the one that was reported"),
}  # fmt: skip


def test_an_adapter_of_a_version_without_the_probe_is_loaded(saved: Path, tiny_moonshine: Path) -> None:
    fact(fingerprint="-".join(normalisation_fingerprint(0.075, "basic").split("-")[:2]))(saved)
    _, facts = load_adapter(load_model(str(tiny_moonshine)), saved)
    assert facts is not None


@pytest.mark.parametrize("case", BROKEN)
def test_an_adapter_that_does_not_fit_is_refused_in_one_sentence(
    case: str, saved: Path, tiny_moonshine: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change, message = BROKEN[case]
    change(saved)
    with pytest.raises(ModelError, match=message) as caught:
        load_adapter(load_model(str(tiny_moonshine)), saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_adapter_of_another_base_model_is_refused(saved: Path, tiny_moonshine: Path) -> None:
    model = load_model(str(tiny_moonshine))
    with pytest.raises(
        ModelError, match=r"was trained on base model .* \(abababababab\), not on this one \(cdcdcdcdcdcd"
    ):
        load_adapter(model, saved, model_hash="cd" * 32)
    with pytest.raises(ModelError, match=r"not on this one \(hub:b@main\); give that model with --model"):
        fact(model_hash="hub:a@main")(saved)
        load_adapter(model, saved, model_hash="hub:b@main")
    # a downloaded folder of the hub's model cannot be told from its hash, and is taken
    load_adapter(model, saved, model_hash="cd" * 32)


def test_an_adapter_made_elsewhere_is_taken_as_it_is(saved: Path, tiny_moonshine: Path) -> None:
    (saved / "reproduce.json").unlink()
    assert read_facts(saved) is None
    configured(task_type="SEQ_2_SEQ_LM")(saved)
    loaded, facts = load_adapter(load_model(str(tiny_moonshine)), saved)
    assert facts is None
    assert loaded.limits == load_model(str(tiny_moonshine)).limits


def test_plain_peft_over_plain_transformers_gives_the_same_transcripts(
    digits_run: TrainingRun, base_model: Path
) -> None:
    """What others do with an adapter: nothing of this project but the audio path."""
    from peft import PeftModel
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    from core.audio.samples import read_clip
    from core.manifests.manifest import read_manifest

    processor = AutoProcessor.from_pretrained(base_model)
    base = AutoModelForSpeechSeq2Seq.from_pretrained(base_model, dtype=torch.float32).eval()
    manifest = read_manifest(Path(digits_run.config["settings"]["data"]["domain"]))
    facts = read_facts(digits_run.paths.best)
    assert facts is not None

    def spoken(network: Any) -> list[str]:
        texts = []
        for utterance in manifest.utterances:
            clip = normalise(read_clip(utterance.audio)).samples
            features = processor(clip, sampling_rate=16_000, return_tensors="pt")
            cap = int(facts.tokens_per_second * len(clip) / 16_000) + 2
            ids = network.generate(input_values=features["input_values"], max_new_tokens=cap)
            texts.append(processor.decode(ids[0], skip_special_tokens=True).strip())
        return texts

    before = spoken(base)
    adapted = spoken(PeftModel.from_pretrained(base, str(digits_run.paths.best)).eval())
    ours = json.loads(digits_run.paths.tuned("domain").read_text())["utterances"]
    assert adapted == [u["hypothesis"] for u in ours]
    assert adapted != before, "the adapter must matter here"


def test_a_merged_adapter_decodes_like_the_unmerged_one_on_real_speech(
    digits_run: TrainingRun, base_model: Path, decoded: Any
) -> None:
    from peft import PeftModel

    _, clips = decoded(Path(digits_run.config["settings"]["data"]["heldout"]))
    merged, _ = load_adapter(load_model(str(base_model)), digits_run.paths.best)
    unmerged = load_model(str(base_model))
    unmerged.network = PeftModel.from_pretrained(unmerged.network, str(digits_run.paths.best)).eval()
    unmerged.limits = merged.limits
    lengths = [int(n) for n in clips.lengths]
    assert Decoder(merged).run(lengths, lambda i: clips[i])[0] == Decoder(unmerged).run(lengths, lambda i: clips[i])[0]


_SAVE = """
import sys
from dataclasses import replace
from pathlib import Path
from core.plan.schema import AdapterSettings
from core.runs.adapter_files import AdapterFacts
from core.training.adapter import attach, save_adapter
from core.training.model import load_model
targets = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")
speech = attach(load_model(sys.argv[1]), AdapterSettings(target_modules=targets), 3)
save_adapter(speech, Path(sys.argv[2]), AdapterFacts(1, "i", "m", None, "h", 0.075, "basic", "f", 1.0, 1.0, "fp32", 1))
"""


@pytest.mark.heavy
def test_processes_with_other_hash_seeds_write_the_same_bytes(tiny_moonshine: Path, tmp_path: Path) -> None:
    """Sets of strings are ordered by the hash seed: peft's own files differ from process to process."""
    for seed in ("0", "1", "4"):
        subprocess.run(
            [sys.executable, "-c", _SAVE, str(tiny_moonshine), str(tmp_path / seed)],
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            check=True,
        )
    folders = [tmp_path / seed for seed in ("0", "1", "4")]
    assert len({tuple((f / name).read_bytes() for name in sorted(p.name for p in f.iterdir())) for f in folders}) == 1
    assert len({adapter_hash(f) for f in folders}) == 1


def test_the_hash_follows_weights_and_meaning_not_the_order_of_names(saved: Path) -> None:
    before = adapter_hash(saved)
    configured(target_modules=list(reversed(TARGETS)))(saved)
    assert adapter_hash(saved) == before
    copy = saved.with_name("copy")
    shutil.copytree(saved, copy)
    assert adapter_hash(copy) == before
    configured(lora_alpha=1.0)(copy)
    assert adapter_hash(copy) != before
