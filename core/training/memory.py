"""Less memory for the same training: layers computed again in the backward pass, a base with weights of fewer bits.

A reduced module keeps the one that it stands for, whole and on the CPU: scores are computed with that one.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from core.errors import ModelError
from core.plan.schema import TrainSettings
from core.training.families.base import SpeechModel
from core.training.products import is_plain_linear

_WHOLE = "_stands_for"
"""Attribute of a reduced module: a tuple with the module that it stands for, which makes that no child of it."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def save_memory(speech: SpeechModel, train: TrainSettings) -> None:
    """What the settings ask for, done to a model that has its adapter. ModelError where it cannot be."""
    if train.gradient_checkpointing:
        recompute_layers(speech.network)
    reduce_base(speech.network, train.base_precision, speech.device, speech.precision)


def recompute_layers(network: nn.Module) -> None:
    """Keep no activations inside the model's layers: the backward pass computes them again, to the same bits.

    Not transformers' own switch, which acts in training mode alone: the frozen base stays in evaluation mode.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError(
            "train.gradient_checkpointing: this model has no layers that can be computed again: leave the key out"
        )
    for layer in layers:
        layer.forward = _recomputed(layer.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def computed(*inputs: Any, **more: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **more)
        return checkpoint(forward, *inputs, use_reentrant=False, **more)

    return computed


def reduce_base(network: nn.Module, kind: str, device: torch.device, precision: str) -> None:
    """Give the frozen base the weights that `train.base_precision` asks for. ModelError where that cannot be."""
    if kind == "fp32":
        return
    if device.type != "cuda":
        raise ModelError(f'train.base_precision = "{kind}" needs a CUDA GPU, and this process has none: leave it out')
    if precision != "bf16":
        raise ModelError(
            f'train.base_precision = "{kind}" needs steps in bf16, and this GPU computes none: leave it out'
        )
    if kind == "8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError('train.base_precision = "8bit" needs bitsandbytes: install lora-tui[8bit]')
    reduce_modules(network, kind)


def reduce_modules(network: nn.Module, kind: str) -> None:
    """Replace the base's linear layers and convolutions in place.

    Not those that share their weights, such as an output layer with the embedding: they would no longer.
    """
    owners: dict[int, int] = {}
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    for owner, child, module in list(_base_modules(network)):
        if owners[id(module.weight)] > 1:
            continue
        reduced = _in_8_bits(module) if kind == "8bit" and isinstance(module, nn.Linear) else _in_bf16(module)
        setattr(reduced, _WHOLE, (module.to("cpu"),))
        setattr(owner, child, reduced)


def _base_modules(network: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """(owner, name, module) of what may be reduced; nothing of an adapter."""
    for name, owner in network.named_modules():
        for child, module in owner.named_children():
            plain = is_plain_linear(module) or isinstance(module, _CONVOLUTIONS)
            # not where the weight is computed of others, as by wav2vec2's weight norm
            if plain and "weight" in module._parameters and ".lora_" not in f".{name}.{child}.":
                yield owner, child, module


def _in_bf16(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).to(torch.bfloat16).requires_grad_(False)


def _in_8_bits(module: nn.Linear) -> nn.Module:
    import bitsandbytes

    device = module.weight.device
    reduced = bitsandbytes.nn.Linear8bitLt(
        module.in_features, module.out_features, bias=module.bias is not None, has_fp16_weights=False
    )
    reduced.load_state_dict(module.state_dict())
    quantised: nn.Module = reduced.to(device).requires_grad_(False)
    return quantised.train(module.training)


def whole_modules(network: nn.Module) -> list[tuple[nn.Module, str, nn.Module, nn.Module]]:
    """(owner, name, reduced module, the whole one that it stands for), of each that was reduced."""
    return [
        (owner, child, module, getattr(module, _WHOLE)[0])
        for owner in network.modules()
        for child, module in owner.named_children()
        if hasattr(module, _WHOLE)
    ]
