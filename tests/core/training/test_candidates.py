"""Adapters made of saved ones: averages and interpolations of effective weights, exact in plain peft."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from training_kit import speechlike

from core.audio.samples import normalise
from core.errors import ModelError
from core.plan.schema import AdapterSettings
from core.runs.adapter_files import AdapterFacts
from core.training.adapter import attach, load_adapter, loaded, merged, save_adapter, trainable, without_adapter
from core.training.candidates import make_candidate
from core.training.evaluation import normalisation_fingerprint
from core.training.memory import recompute_layers, reduce_modules
from core.training.model import load_model

BASE = AdapterSettings(method="lora", rank=4, alpha=8.0, target_modules=("q_proj", "v_proj", "fc1"))
CASES = {
    "lora": BASE,
    "dora": replace(BASE, method="dora"),
    "rslora": replace(BASE, method="rslora"),
    "pissa": replace(BASE, method="pissa"),
    "olora": replace(BASE, method="olora"),
    "every layer": replace(BASE, target_modules=("all-linear",)),
    "ranks": replace(BASE, method="dora", rank_pattern=("fc1=2", "v_proj=8")),
    "ranks of rslora": replace(BASE, method="rslora", rank_pattern=("fc1=2",)),
    "tied output layer": replace(BASE, target_modules=("q_proj", "proj_out")),
}
FINGERPRINT = normalisation_fingerprint(0.075, "basic")
FACTS = AdapterFacts(7, "0123456789", "m", None, "ab" * 32, 0.075, "basic", FINGERPRINT, 200.0, 40.0, "fp32", 1)


def logits(speech: Any, network: Any = None) -> torch.Tensor:
    clips = [normalise(speechlike("one two three")).samples]
    network = (speech.network if network is None else network).eval()
    with torch.no_grad():
        output = network(**speech.features(clips), decoder_input_ids=torch.tensor([[1, 5, 7, 2, 3, 3]])).logits
    return torch.as_tensor(output)


def saved_steps(folder: Path, settings: AdapterSettings, where: Path, seeds: Sequence[int]) -> list[Path]:
    """Adapters of one beginning, each far from it in another direction, as intervals of a run."""
    found = []
    for seed in seeds:
        speech = attach(load_model(str(folder)), settings, seed=0)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in trainable(speech).values():
                parameter.add_(torch.randn_like(parameter) * 0.3 * parameter.abs().mean().clamp(min=0.02))
        found.append(where / f"step-{seed:06d}")
        found[-1].mkdir(parents=True)
        save_adapter(speech, found[-1], replace(FACTS, model=str(folder), step=seed))
    return found


def weights_of(network: Any) -> dict[str, torch.Tensor]:
    """Of each linear layer, by name."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    return {name: layer.weight.detach().double() for name, layer in layers.items()}


def by_hand(folder: Path, sources: Sequence[Path], alpha: float) -> Any:
    """The plain network with the average of merged weights, alpha of the way: nothing of the code under test."""
    from peft import PeftModel
    from transformers import AutoModelForSpeechSeq2Seq

    def plain() -> Any:
        return AutoModelForSpeechSeq2Seq.from_pretrained(folder, dtype=torch.float32).eval()

    network = plain()
    tuned = [weights_of(PeftModel.from_pretrained(plain(), str(one)).merge_and_unload()) for one in sources]
    for name, base in weights_of(network).items():
        mean = sum(one[name] for one in tuned) / len(tuned)
        # a weight of its own: an output layer may share that of the embedding
        network.get_submodule(name).weight = nn.Parameter(((1 - alpha) * base + alpha * mean).float())
    return network


def base_weights(speech: Any) -> Any:
    return lambda layer: speech.network.get_submodule(layer).weight


@pytest.mark.parametrize(
    ("case", "seeds", "alpha"),
    [(case, (1, 2), 0.7) for case in CASES]
    + [(case, *more) for case in ("lora", "dora", "rslora") for more in (((1,), 0.35), ((1, 2, 3), 1.0))],
)
def test_plain_peft_says_what_averaged_and_interpolated_weights_say(
    case: str, seeds: tuple[int, ...], alpha: float, tiny_moonshine: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSpeechSeq2Seq

    sources = saved_steps(tiny_moonshine, CASES[case], tmp_path / "adapters", seeds)
    plain = load_model(str(tiny_moonshine))
    expected = logits(plain, by_hand(tiny_moonshine, sources, alpha))
    make_candidate(sources, tmp_path / "made", alpha, FACTS, base_weights(plain))
    base = AutoModelForSpeechSeq2Seq.from_pretrained(tiny_moonshine, dtype=torch.float32)
    made = PeftModel.from_pretrained(base, str(tmp_path / "made")).eval()
    assert (logits(plain, made) - expected).abs().max() < 1e-4
    with loaded(plain, tmp_path / "made") as scoring:
        scored = logits(scoring)
    assert (scored - expected).abs().max() < 1e-4
    from_disk, _ = load_adapter(load_model(str(tiny_moonshine)), tmp_path / "made")
    assert torch.equal(logits(from_disk), scored), "what the trainer scores is what lora-cli scores, to the bit"
    assert (expected - logits(plain)).abs().max() > 1e-3, "the adapter must matter here"


def test_part_of_the_way_to_a_dora_is_not_its_alpha_scaled_down(tiny_moonshine: Path, tmp_path: Path) -> None:
    [source] = saved_steps(tiny_moonshine, CASES["dora"], tmp_path / "adapters", [1])
    plain = load_model(str(tiny_moonshine))
    expected = logits(plain, by_hand(tiny_moonshine, [source], 0.3))
    config = json.loads((source / "adapter_config.json").read_text())
    (source / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 0.3 * config["lora_alpha"]}))
    with loaded(plain, source) as scaled:
        assert (logits(scaled) - expected).abs().max() > 1e-2


def test_the_rank_of_an_interpolation_stays_and_averages_stack_it(tiny_moonshine: Path, tmp_path: Path) -> None:
    sources = saved_steps(tiny_moonshine, CASES["ranks"], tmp_path / "adapters", [1, 2, 3])
    base = base_weights(load_model(str(tiny_moonshine)))
    before = json.loads((sources[0] / "adapter_config.json").read_text())
    for name, parts, times in (("one", sources[:1], 1), ("three", sources, 3)):
        make_candidate(parts, tmp_path / name, 0.5, FACTS, base)
        config = json.loads((tmp_path / name / "adapter_config.json").read_text())
        assert config["r"] == times * before["r"]
        assert config["rank_pattern"] == {key: times * rank for key, rank in before["rank_pattern"].items()}
        assert config["use_dora"] is True


def test_the_same_sources_make_the_same_bytes(tiny_moonshine: Path, tmp_path: Path) -> None:
    sources = saved_steps(tiny_moonshine, CASES["dora"], tmp_path / "adapters", [1, 2])
    for name in ("one", "other"):
        make_candidate(sources, tmp_path / name, 0.5, FACTS, base_weights(load_model(str(tiny_moonshine))))
    one, other = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "other"))
    assert one == other and one


def test_the_base_model_is_as_it_was_after_a_candidate(tiny_moonshine: Path, tmp_path: Path) -> None:
    [source] = saved_steps(tiny_moonshine, BASE, tmp_path / "adapters", [1])
    plain = load_model(str(tiny_moonshine))
    before = {name: (tensor, tensor.clone()) for name, tensor in plain.network.named_parameters()}
    said = logits(plain)
    for _ in range(2):
        with loaded(plain, source) as scoring:
            assert not torch.equal(logits(scoring), said)
        after = dict(plain.network.named_parameters())
        assert list(after) == list(before)
        assert all(after[name] is tensor and torch.equal(tensor, value) for name, (tensor, value) in before.items())
        assert torch.equal(logits(plain), said)


def test_a_trained_model_gives_its_base_back(tiny_moonshine: Path, tmp_path: Path) -> None:
    [source] = saved_steps(tiny_moonshine, CASES["dora"], tmp_path / "adapters", [1])
    said = logits(load_model(str(tiny_moonshine)))
    trained = attach(load_model(str(tiny_moonshine)), CASES["dora"], seed=0)
    with torch.no_grad():
        for parameter in trainable(trained).values():
            parameter.add_(0.1)
    plain = without_adapter(trained)
    assert torch.equal(logits(plain), said)
    with loaded(plain, source) as scoring, merged(trained_at(tiny_moonshine, source)) as wanted:
        assert torch.equal(logits(scoring), logits(wanted))


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_base_of_fewer_bits_is_whole_again(method: str, tiny_moonshine: Path) -> None:
    """Candidates are made of, and scored with, the weights that plain peft finds in the base model."""
    said = logits(load_model(str(tiny_moonshine)))
    trained = attach(load_model(str(tiny_moonshine)), CASES[method], seed=0)
    recompute_layers(trained.network)
    reduce_modules(trained.network, "bf16")
    plain = without_adapter(trained)
    assert {tensor.dtype for tensor in plain.network.state_dict().values()} == {torch.float32}
    assert torch.equal(logits(plain), said)


def trained_at(folder: Path, source: Path) -> Any:
    from peft import PeftModel

    speech = load_model(str(folder))
    return replace(speech, network=PeftModel.from_pretrained(speech.network, str(source)))


def _without_one(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    del tensors[sorted(tensors)[0]]
    save_file(tensors, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_one, "has weights that no trainer saves"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"torn"), "cannot be read"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "adapter_config.json: missing"),
    ],
)
def test_a_damaged_interval_is_refused_in_one_sentence(
    change: Any, message: str, tiny_moonshine: Path, tmp_path: Path
) -> None:
    [source] = saved_steps(tiny_moonshine, CASES["dora"], tmp_path / "adapters", [1])
    change(source)
    with pytest.raises(ModelError, match=message) as caught:
        make_candidate([source], tmp_path / "made", 0.5, FACTS, base_weights(load_model(str(tiny_moonshine))))
    assert str(source) in str(caught.value) and "\n" not in str(caught.value)


def test_a_row_that_falls_out_between_base_and_adapter_is_refused(tiny_moonshine: Path, tmp_path: Path) -> None:
    """A magnitude that training turned round has a point on its way at which nothing of the row is left."""
    [source] = saved_steps(tiny_moonshine, CASES["dora"], tmp_path / "adapters", [1])
    tensors = load_file(source / "adapter_model.safetensors")
    base, turned = base_weights(load_model(str(tiny_moonshine))), sorted(n for n in tensors if n.endswith("vector"))[0]
    layer = turned.removeprefix("base_model.model.").removesuffix(".lora_magnitude_vector")
    a, b = (tensors[turned.replace("magnitude_vector", f"{side}.weight")] for side in "AB")
    tensors[turned] = -(base(layer) + 2.0 * b @ a).norm(dim=1).detach()
    save_file(tensors, source / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="a row of its weights falls out"):
        make_candidate([source], tmp_path / "made", 0.5, FACTS, base)
    make_candidate([source], tmp_path / "made", 0.25, FACTS, base)
