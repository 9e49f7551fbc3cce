"""Moonshine's forward pass in a training step: what transformers computes, in fewer operations for autograd to follow.

The convolutions are frozen and computed as where a model is scored; a rotation is one multiplication of complex
numbers, forward and backward. Linear layers are called as they are, so that adapters and their dropout act in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from core.training.decode import Encoded
from core.training.families.moonshine_scoring import attended, knows, own_frames, stem, turns_of


def can_step(network: Any) -> bool:
    """Whether this module has the formulas of the network, whose convolutions are frozen."""
    if not knows(network):
        return False
    encoder = network.model.encoder
    frozen = (encoder.conv1, encoder.conv2, encoder.conv3, encoder.groupnorm)
    return not any(parameter.requires_grad for part in frozen for parameter in part.parameters())


@dataclass(frozen=True, slots=True)
class SteppedEncoded(Encoded):
    """An encoded batch of a training step."""

    hidden: Tensor
    """(clips, frames, width), with its gradients."""
    heard: Tensor | None
    """(clips, 1, 1, frames): which frames are a clip's own; None: all."""


def encode(network: Any, samples: Tensor, mask: Tensor, prompts: tuple[tuple[int, ...], ...]) -> SteppedEncoded:
    """A batch of clips, samples (clips, longest), and the mask of each clip's own."""
    from transformers.modeling_outputs import BaseModelOutput

    encoder, counts = network.model.encoder, mask.sum(-1).tolist()
    with torch.no_grad():
        hidden = stem(encoder, samples, counts)
        turns = _turns(encoder, hidden.shape[1], hidden)
    heard = own_frames(counts, hidden)
    for layer in encoder.layers:
        hidden = _computed(_encoder_layer, layer, hidden, turns, heard)
    hidden = encoder.layer_norm(hidden)
    return SteppedEncoded(BaseModelOutput(last_hidden_state=hidden), mask, prompts, hidden, heard)


def logits(network: Any, encoded: SteppedEncoded, inputs: Tensor) -> Tensor:
    """(clips, places, vocabulary) after each of the inputs (clips, places), the true tokens before it known."""
    decoder = network.model.decoder
    hidden = decoder.embed_tokens(inputs)
    turns = _turns(decoder, inputs.shape[1], hidden)
    for layer in decoder.layers:
        hidden = _computed(_decoder_layer, layer, hidden, turns, encoded.hidden, encoded.heard)
    found: Tensor = network.proj_out(decoder.norm(hidden))
    return found


def _computed(compute: Callable[..., Tensor], layer: Any, *inputs: Tensor | None) -> Tensor:
    """A layer, computed again in the backward pass where `recompute_layers` asked for that."""
    if "forward" in vars(layer):
        again: Tensor = checkpoint(compute, layer, *inputs, use_reentrant=False)
        return again
    return compute(layer, *inputs)


def _encoder_layer(layer: Any, hidden: Tensor, turns: Tensor, heard: Tensor | None) -> Tensor:
    hidden = hidden + _self_attention(layer, hidden, turns, heard)
    widened = functional.gelu(layer.mlp.fc1(layer.post_attention_layernorm(hidden)))
    result: Tensor = hidden + layer.mlp.fc2(widened)
    return result


def _decoder_layer(layer: Any, hidden: Tensor, turns: Tensor, encoded: Tensor, heard: Tensor | None) -> Tensor:
    hidden = hidden + _self_attention(layer, hidden, turns, None, is_causal=True)
    attention = layer.encoder_attn
    queries = _heads(attention, attention.q_proj(layer.post_attention_layernorm(hidden)))
    keys, values = (_heads(attention, part(encoded)) for part in (attention.k_proj, attention.v_proj))
    hidden = hidden + attention.o_proj(attended(attention, queries, keys, values, heard))
    made, gate = layer.mlp.fc1(layer.final_layernorm(hidden)).chunk(2, dim=-1)
    result: Tensor = hidden + layer.mlp.fc2(functional.silu(gate) * made)
    return result


def _self_attention(layer: Any, hidden: Tensor, turns: Tensor, heard: Tensor | None, **more: Any) -> Tensor:
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    queries, keys = (_turned(attention, part(normed), turns) for part in (attention.q_proj, attention.k_proj))
    values = _heads(attention, attention.v_proj(normed))
    mixed: Tensor = attention.o_proj(attended(attention, queries, keys, values, heard, **more))
    return mixed


def _turns(part: Any, places: int, like: Tensor) -> Tensor:
    """(places, 1, half of a head's width): the rotation of each pair, none of those behind what is turned."""
    turns = turns_of(part.rotary_emb, places, like)[:, 0]
    return functional.pad(turns, (0, part.layers[0].self_attn.head_dim // 2 - turns.shape[-1]), value=1.0)


def _turned(attention: Any, rows: Tensor, turns: Tensor) -> Tensor:
    """(clips, places, heads · width) → (clips, heads, places, width), turned by their places."""
    pairs = torch.view_as_complex(rows.view(*rows.shape[:2], -1, attention.head_dim // 2, 2))
    return torch.view_as_real(pairs * turns).flatten(-2).transpose(1, 2)


def _heads(attention: Any, rows: Tensor) -> Tensor:
    """(clips, places, heads · width) → (clips, heads, places, width)."""
    return rows.view(*rows.shape[:2], -1, attention.head_dim).transpose(1, 2)
