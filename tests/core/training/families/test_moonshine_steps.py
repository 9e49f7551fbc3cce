"""Moonshine's forward pass of a training step against transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import speechlike

from core.audio.samples import normalise
from core.plan.schema import AdapterSettings
from core.training.adapter import attach, set_training_mode, trainable
from core.training.families import moonshine_steps
from core.training.families.moonshine_steps import SteppedEncoded
from core.training.memory import recompute_layers
from core.training.model import load_model
from core.training.one_product import use_one_product

TEXTS = ("one two three", "four", "five six seven eight")


def adapted(folder: Path, method: str, dropout: float = 0.0) -> Any:
    """A model whose adapter on every layer has been trained a while."""
    settings = AdapterSettings(method=method, rank=3, target_modules=("all-linear",), dropout=dropout)
    speech = attach(load_model(str(folder)), settings, seed=0)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in trainable(speech).values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    set_training_mode(speech)
    use_one_product(speech.network)
    return speech


def stepped(speech: Any) -> tuple[bool, float, dict[str, torch.Tensor]]:
    """Whether the pass of this module was taken, the loss of three clips, and all gradients."""
    clips = [normalise(speechlike(text, seed)).samples for seed, text in enumerate(TEXTS)]
    torch.manual_seed(2)
    encoded = speech.encode(speech.features(clips))
    loss = speech.summed_loss(encoded, [speech.targets(text) for text in TEXTS])
    for parameter in trainable(speech).values():
        parameter.grad = None
    loss.backward()
    gradients = {name: p.grad for name, p in trainable(speech).items()}
    return isinstance(encoded, SteppedEncoded), float(loss.detach()), gradients


@pytest.mark.parametrize("method", ["lora", "dora", "pissa"])
def test_loss_and_gradients_are_those_of_transformers(
    tiny_moonshine: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = adapted(tiny_moonshine, method)
    taken, loss, ours = stepped(speech)
    monkeypatch.setattr(moonshine_steps, "can_step", lambda network: False)
    not_taken, wanted, theirs = stepped(speech)
    assert taken and not not_taken
    assert loss == pytest.approx(wanted, rel=1e-5)
    assert ours.keys() == theirs.keys() and all(gradient is not None for gradient in ours.values())
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()) + 1e-6)


def test_the_dropout_of_an_adapter_acts_in_it(tiny_moonshine: Path) -> None:
    taken, loss, _ = stepped(adapted(tiny_moonshine, "lora", dropout=0.5))
    _, without, _ = stepped(adapted(tiny_moonshine, "lora"))
    assert taken
    assert loss != pytest.approx(without, rel=1e-6)


def test_layers_that_are_computed_again_give_the_same_bits(tiny_moonshine: Path) -> None:
    """With the same dropout; and their activations are let go."""
    speech = adapted(tiny_moonshine, "dora", dropout=0.5)
    kept: list[int] = []

    def memory_of_a_step() -> Any:
        kept.append(0)

        def counted(tensor: torch.Tensor) -> torch.Tensor:
            kept[-1] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(counted, lambda tensor: tensor):
            return stepped(speech)

    _, loss, gradients = memory_of_a_step()
    recompute_layers(speech.network)
    taken, again, others = memory_of_a_step()
    assert taken
    assert loss == again
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)


def test_reduced_precision_and_other_models_are_left_to_transformers(
    tiny_moonshine: Path, tiny_streaming: Path
) -> None:
    speech = adapted(tiny_moonshine, "lora")
    with torch.autocast("cpu", torch.bfloat16):
        assert not stepped(speech)[0]
    assert not stepped(adapted(tiny_streaming, "lora"))[0]
