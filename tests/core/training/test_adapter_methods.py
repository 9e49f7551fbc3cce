"""Each adapter method and choice of layers: what it begins with, what it saves, how it resumes."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_trainer import signal_at
from safetensors.torch import load_file
from training_kit import TrainingRun, adapter_facts, in_process_trainer, speechlike

from core.audio.samples import normalise
from core.errors import ModelError
from core.plan.schema import AdapterSettings
from core.runs.events import Step
from core.training import adapter
from core.training.adapter import attach, load_adapter, merged, save_adapter, trainable
from core.training.model import load_model

BASE = AdapterSettings(method="lora", rank=4, alpha=8.0, target_modules=("q_proj", "v_proj", "fc1"))
CASES = {
    "lora": BASE,
    "dora": replace(BASE, method="dora"),
    "rslora": replace(BASE, method="rslora"),
    "pissa": replace(BASE, method="pissa", dropout=0.1),
    "olora": replace(BASE, method="olora"),
    "decoder alone": replace(BASE, sites="decoder", target_modules=("attention",)),
    "encoder, one layer": replace(BASE, sites="encoder", layers="0", target_modules=("mlp",), method="dora"),
    "every layer": replace(BASE, target_modules=("all-linear",)),
    "ranks": replace(BASE, method="dora", rank_pattern=("fc1=2", "v_proj=8")),
    "ranks of rslora": replace(BASE, method="rslora", rank_pattern=("fc1=2",)),
    "ranks of pissa": replace(BASE, method="pissa", rank_pattern=("fc1=2", "v_proj=6"), sites="decoder"),
    "tied output layer": replace(BASE, target_modules=("q_proj", "proj_out")),
}
FACTS = adapter_facts()


def logits(speech: Any, network: Any = None) -> torch.Tensor:
    clips = [normalise(speechlike("one two three")).samples]  # plain transformers is not indifferent to padding
    network = speech.network if network is None else network
    was_training = network.training
    network.eval()
    with torch.no_grad():
        output = network(**speech.features(clips), decoder_input_ids=torch.tensor([[1, 5, 7, 2, 3, 3]])).logits
    network.train(was_training)
    return torch.as_tensor(output)


def trained(folder: Path, settings: AdapterSettings) -> Any:
    """The model with an adapter that is far from where it began."""
    speech = attach(load_model(str(folder)), settings, seed=0)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in trainable(speech).values():
            parameter.add_(torch.randn_like(parameter) * 0.3 * parameter.abs().mean().clamp(min=0.02))
    return speech


def names(speech: Any) -> set[str]:
    return {name.split(".lora_")[0].removeprefix("base_model.model.") for name in trainable(speech)}


@pytest.mark.parametrize(
    ("case", "family"),
    [(case, "tiny_moonshine") for case in CASES]
    + [("pissa", "tiny_whisper"), ("decoder alone", "tiny_whisper"), ("encoder, one layer", "tiny_streaming")],
)
def test_plain_peft_over_the_plain_base_says_the_same(
    case: str, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With nothing of this project: the base is loaded anew, and no step-0 file is needed."""
    from peft import PeftModel
    from transformers import AutoModelForSpeechSeq2Seq

    folder = request.getfixturevalue(family)
    settings = CASES[case]
    plain = load_model(str(folder))
    before = logits(plain)
    begun = attach(load_model(str(folder)), settings, seed=0)
    assert torch.allclose(logits(begun), before, atol=1e-4), "nothing is changed before the first step"
    speech = trained(folder, settings)
    expected = logits(speech)
    assert (expected - before).abs().max() > 2e-3, "the adapter must matter here"
    save_adapter(speech, tmp_path / "adapter", replace(FACTS, model=str(folder)))
    base = AutoModelForSpeechSeq2Seq.from_pretrained(folder, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    assert (logits(plain, loaded) - expected).abs().max() < 1e-4
    with merged(speech) as scoring:
        ours = logits(scoring)
    assert (ours - expected).abs().max() < 1e-4
    from_disk, _ = load_adapter(load_model(str(folder)), tmp_path / "adapter")
    assert torch.equal(logits(from_disk), ours), "what the trainer scores is what lora-cli scores, to the bit"
    assert torch.equal(logits(speech), expected), "and the training model is as it was"


def test_only_the_layers_that_a_plan_means_are_trained(tiny_moonshine: Path) -> None:
    decoder = names(trained(tiny_moonshine, CASES["decoder alone"]))
    assert decoder and all(name.startswith("model.decoder.") for name in decoder)
    assert {name.rpartition(".")[2] for name in decoder} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    one = names(trained(tiny_moonshine, CASES["encoder, one layer"]))
    assert one == {f"model.encoder.layers.0.mlp.{name}" for name in ("fc1", "fc2")}
    everything = names(trained(tiny_moonshine, CASES["every layer"]))
    assert not any(name.endswith("proj_out") for name in everything) and len(everything) > len(decoder)


def test_pissa_and_olora_begin_as_in_peft(tiny_moonshine: Path) -> None:
    from peft import LoraConfig, get_peft_model

    for method in ("pissa", "olora"):
        settings = replace(BASE, method=method)
        ours = trainable(attach(load_model(str(tiny_moonshine)), settings, seed=0))
        config = LoraConfig(
            r=4, lora_alpha=8.0, target_modules=list(settings.target_modules), init_lora_weights=method, task_type=None
        )
        theirs = dict(get_peft_model(load_model(str(tiny_moonshine)).network, config).named_parameters())
        assert ours
        for name, parameter in ours.items():
            assert torch.allclose(parameter, theirs[name], atol=1e-5), name


def test_what_pissa_began_with_is_in_the_saved_adapter(tiny_moonshine: Path, tmp_path: Path) -> None:
    speech = trained(tiny_moonshine, CASES["ranks of pissa"])
    save_adapter(speech, tmp_path / "adapter", FACTS)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 16.0, True)
    assert set(config["rank_pattern"].values()) == {4, 12}
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    prefix = "base_model.model.model.decoder.layers.0.self_attn.v_proj"
    assert tensors[f"{prefix}.lora_A.weight"].shape[0] == tensors[f"{prefix}.lora_B.weight"].shape[1] == 12


def test_a_rank_that_a_layer_does_not_have_is_refused(tiny_moonshine: Path) -> None:
    with pytest.raises(ModelError, match="pissa takes at most"):
        attach(load_model(str(tiny_moonshine)), replace(BASE, method="pissa", rank=4096), seed=0)


@pytest.fixture
def make(tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]) -> Any:
    from training_kit import QUICK

    def trainer(name: str, *settings: str) -> Any:
        return in_process_trainer(TrainingRun(tmp_path / name, tiny_moonshine, quick_sets, *QUICK, *settings))

    return trainer


def steps(trainer: Any, *numbers: int) -> None:
    for number in numbers:
        trainer._one_step(number)


@pytest.mark.parametrize(
    "settings",
    [
        ("adapter.method=pissa", "adapter.dropout=0.1"),
        ("adapter.method=olora", "adapter.sites=decoder"),
        ("adapter.method=dora", "adapter.lora_plus=16", "train.allow_high_learning_rate=true"),
        ("adapter.method=rslora", "adapter.target_modules=all-linear", "adapter.rank_pattern={ fc1 = 2 }"),
    ],
    ids=" ".join,
)
def test_each_method_resumes_byte_for_byte(
    settings: tuple[str, ...], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make("whole", *settings)
    steps(whole, 1, 2)
    whole._checkpoint()
    monkeypatch.setitem(adapter._PARTS, "pissa", adapter._olora)  # another machine's decomposition may differ
    resumed = make("other", *settings)
    resumed.paths = whole.paths
    resumed.resume(2, {}, {})
    for trainer in (whole, resumed):
        steps(trainer, 3, 4)
        save_adapter(trainer.speech, trainer.paths.root / str(id(trainer)), trainer.facts)
    one, other = (trainer.paths.root / str(id(trainer)) for trainer in (whole, resumed))
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (one / file).read_bytes() == (other / file).read_bytes()


def test_lora_plus_multiplies_the_rate_of_b_alone(make: Any) -> None:
    fast = make("fast", "adapter.lora_plus=16", "adapter.method=dora", "train.allow_high_learning_rate=true")
    slow = make("slow", "adapter.method=dora")
    before = {name: p.detach().clone() for name, p in fast.parameters.items()}
    steps(fast, 1)
    steps(slow, 1)
    ratios = {
        name: float(
            (p.detach() - before[name]).abs().max() / (slow.parameters[name].detach() - before[name]).abs().max()
        )
        for name, p in fast.parameters.items()
        if (slow.parameters[name].detach() - before[name]).abs().max() > 0
    }
    assert {round(ratio) for name, ratio in ratios.items() if ".lora_B." in name} == {16}
    assert {round(ratio) for name, ratio in ratios.items() if "magnitude" in name} <= {16}
    assert {round(ratio) for name, ratio in ratios.items() if ".lora_A." in name} <= {1}


@pytest.mark.heavy
def test_a_run_of_pissa_that_is_killed_ends_as_if_undisturbed(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    """In processes of its own, with LoRA+, layers computed again, and the score of `lora-cli` beside the trainer's."""
    from training_kit import QUICK

    settings = (
        *QUICK,
        "adapter.method=pissa",
        "adapter.sites=decoder",
        "adapter.lora_plus=4",
        "train.gradient_checkpointing=true",
    )
    whole, killed = (
        TrainingRun(tmp_path / name, tiny_moonshine, quick_sets, *settings) for name in ("whole", "killed")
    )
    assert whole.fork() == 0, whole.log

    assert killed.fork(signal_at(signal.SIGKILL, lambda event: isinstance(event, Step) and event.step == 5)) != 0
    assert killed.fork() == 0, killed.log
    assert killed.result() == whole.result()
    scores = [json.loads(whole.paths.tuned("domain").read_text())["utterances"]]
    best = int(whole.paths.best.readlink().name.removeprefix("step-"))
    scores.append(json.loads(whole.paths.evaluation(best, "domain").read_text())["utterances"])
    assert [u["hypothesis"] for u in scores[0]] == [u["hypothesis"] for u in scores[1]]
