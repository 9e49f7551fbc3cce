"""Less memory for the same training."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_kit import FAMILIES, TrainingRun, in_process_trainer, speechlike

from core.audio.samples import normalise
from core.errors import ModelError
from core.plan.schema import AdapterSettings, TrainSettings
from core.training.adapter import attach, kept, merged, set_training_mode, trainable
from core.training.memory import recompute_layers, reduce_base, reduce_modules, save_memory, whole_modules
from core.training.model import load_model

SETTINGS = AdapterSettings(method="lora", rank=4, dropout=0.1, target_modules=("attention", "fc1"))
CLIPS = [normalise(speechlike(text)).samples for text in ("one two three", "four")]
TEXTS = ("one two three", "four")


def model(folder: Path, **more: Any) -> Any:
    speech = attach(load_model(str(folder)), replace(SETTINGS, **more), seed=0)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in trainable(speech).values():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    return speech


def loss_and_gradients(speech: Any) -> tuple[float, dict[str, torch.Tensor]]:
    set_training_mode(speech)
    torch.manual_seed(3)
    with speech.autocast():
        loss = speech.summed_loss(speech.encode(speech.features(CLIPS)), [speech.targets(text) for text in TEXTS])
    loss.backward()
    gradients = {name: p.grad for name, p in trainable(speech).items()}
    speech.network.zero_grad(set_to_none=True)
    return float(loss.detach()), gradients


class Kept:
    """Bytes of the tensors that autograd keeps for the backward pass, parameters left out."""

    def __init__(self, network: nn.Module) -> None:
        self.parameters = {p.data_ptr() for p in network.parameters()}
        self.bytes = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in self.parameters:
            self.bytes += tensor.numel() * tensor.element_size()
        return tensor


def kept_bytes(speech: Any) -> int:
    counted = Kept(speech.network)
    set_training_mode(speech)
    with torch.autograd.graph.saved_tensors_hooks(counted.pack, lambda tensor: tensor):
        speech.summed_loss(speech.encode(speech.features(CLIPS)), [speech.targets(text) for text in TEXTS])
    return counted.bytes


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_computed_again_give_the_same_bits(family: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(family)
    speech = model(folder)
    before, whole = loss_and_gradients(speech)
    much = kept_bytes(speech)
    recompute_layers(speech.network)
    after, again = loss_and_gradients(speech)
    assert after == before
    assert all(torch.equal(gradient, again[name]) for name, gradient in whole.items())
    assert kept_bytes(speech) < 0.5 * much
    with torch.no_grad(), merged(speech) as scoring:
        assert scoring.decode(scoring.encode(scoring.features(CLIPS)), [5, 5])


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(ModelError, match=r"train\.gradient_checkpointing: .* leave the key out"):
        recompute_layers(nn.Linear(2, 2))


@pytest.mark.parametrize("method", ["lora", "dora", "pissa"])
def test_scores_are_those_of_the_whole_base_whatever_the_steps_compute_with(method: str, tiny_moonshine: Path) -> None:
    whole, reduced = (model(tiny_moonshine, method=method, dropout=0.0) for _ in range(2))
    reduced.precision = "bf16"
    reduce_modules(reduced.network, "bf16")
    assert any(p.dtype is torch.bfloat16 for p in reduced.network.parameters())
    assert all(p.dtype is torch.float32 for p in kept(reduced).values())
    state = {name: tensor.clone() for name, tensor in reduced.network.state_dict().items()}
    for _ in range(2):
        with torch.no_grad(), merged(whole) as one, merged(reduced) as other:
            theirs = dict(other.network.named_parameters())
            assert all(torch.equal(p, theirs[name]) for name, p in one.network.named_parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in reduced.network.state_dict().items())
    loss, gradients = loss_and_gradients(reduced)
    wanted, _ = loss_and_gradients(whole)
    assert loss == pytest.approx(wanted, rel=0.02)
    assert all(gradient is not None and gradient.dtype is torch.float32 for gradient in gradients.values())


def test_layers_that_share_their_weights_stay_whole(tiny_moonshine: Path) -> None:
    speech = model(tiny_moonshine)
    base = speech.network.get_base_model()
    assert base.proj_out.weight is base.model.decoder.embed_tokens.weight
    reduce_modules(speech.network, "bf16")
    assert base.proj_out.weight is base.model.decoder.embed_tokens.weight
    assert base.proj_out.weight.dtype is torch.float32
    names = {child for _, child, _, _ in whole_modules(speech.network)}
    assert {"base_layer", "fc2", "conv1"} <= names


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="the extra 8bit is not installed")
def test_a_base_of_8_bits_is_trained_over_and_scored_whole(tiny_moonshine: Path) -> None:
    whole, reduced = (model(tiny_moonshine, dropout=0.0) for _ in range(2))
    reduced.precision = "bf16"
    reduce_modules(reduced.network, "8bit")
    loss, gradients = loss_and_gradients(reduced)
    assert loss == pytest.approx(loss_and_gradients(whole)[0], rel=0.05)
    assert all(gradient is not None for gradient in gradients.values())
    with merged(whole) as one, merged(reduced) as other:
        theirs = dict(other.network.named_parameters())
        assert all(torch.equal(p, theirs[name]) for name, p in one.network.named_parameters())


def test_a_reduced_base_is_for_gpus_that_compute_in_bf16(tiny_moonshine: Path) -> None:
    speech = model(tiny_moonshine)
    with pytest.raises(ModelError, match="needs a CUDA GPU, and this process has none: leave it out"):
        save_memory(speech, TrainSettings(base_precision="8bit"))
    with pytest.raises(ModelError, match="needs steps in bf16"):
        reduce_base(speech.network, "bf16", torch.device("cuda"), "fp32")
    save_memory(speech, TrainSettings())
    assert not whole_modules(speech.network)


def test_a_run_that_computes_layers_again_ends_alike(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    from training_kit import QUICK

    def weights(name: str, *settings: str) -> dict[str, torch.Tensor]:
        trainer = in_process_trainer(TrainingRun(tmp_path / name, tiny_moonshine, quick_sets, *QUICK, *settings))
        for step in (1, 2, 3):
            trainer._one_step(step)
        return {name: p.detach().clone() for name, p in trainer.parameters.items()}

    one, other = weights("one"), weights("other", "train.gradient_checkpointing=true")
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
