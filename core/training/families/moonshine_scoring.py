"""Moonshine's forward pass where no gradients are wanted: what transformers computes, with fewer passes over memory.

Frames stand before channels all the way, so that each convolution is one matrix product over windows of frames and
nothing is transposed. Queries, keys and values are one product, rotations are complex multiplications in place, the
encoder takes a few clips at a time, which stay in the processor's cache, and what the decoder makes of the encoder's
output is made once for loss and transcript. The same weights, the same formulas, other roundings in the last bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.training.decode import WORTH_LEAVING, Encoded, Vocabulary
from core.training.padding import MaskedGroupNorm
from core.training.products import product

CHUNK_SAMPLES = 30 * 16_000
"""Of audio that the encoder hears at a time on a CPU."""


def can_be_lean(network: Any) -> bool:
    """Whether the network is one of which this module has the formulas: plain layers, nothing padded or grouped."""
    if not knows(network):
        return False
    layers = [m for part in (network.model.encoder, network.model.decoder) for m in part.layers.modules()]
    attentions = [m for m in layers if hasattr(m, "q_proj")]
    return all(
        isinstance(m, nn.Linear) and m.weight.dtype is torch.float32 for m in layers if hasattr(m, "in_features")
    ) and all(a.q_proj.bias is None and a.k_proj.bias is None and a.v_proj.bias is None for a in attentions)


def knows(network: Any) -> bool:
    """Whether the network computes by the formulas of this module, whatever its linear layers are."""
    if type(network).__name__ != "MoonshineForConditionalGeneration":
        return False  # peft's model around one, or streaming
    config, rotary = network.config, network.config.rope_parameters
    layers = [m for part in (network.model.encoder, network.model.decoder) for m in part.layers.modules()]
    attentions = [m for m in layers if hasattr(m, "q_proj")]
    return (
        all(a.num_key_value_groups == 1 and a.head_dim_padding == 0 and a.head_dim % 2 == 0 for a in attentions)
        and rotary["rope_type"] == "default"
        and (config.encoder_hidden_act, config.decoder_hidden_act) == ("gelu", "silu")
        and isinstance(network.model.encoder.groupnorm, MaskedGroupNorm)  # else it is to hear padding
        and network.model.encoder.groupnorm.num_groups == 1
    )


@dataclass(frozen=True, slots=True)
class LeanEncoded(Encoded):
    """An encoded batch, with what the decoder's layers make of it."""

    crossed: tuple[Tensor, ...]
    """Of each layer: its keys and values (2, clips, heads, frames, width)."""
    heard: Tensor | None
    """(clips, 1, 1, frames): which frames are a clip's own; None: all."""


def encode(network: Any, samples: Tensor, mask: Tensor, prompts: tuple[tuple[int, ...], ...]) -> LeanEncoded:
    """A batch of clips, samples (clips, longest), and the mask of each clip's own."""
    from transformers.models.moonshine.modeling_moonshine import MoonshineEncoderModelOutput

    encoder, counts = network.model.encoder, mask.sum(-1).tolist()
    frames = [_frames(count) for count in counts]
    width = encoder.conv3.out_channels
    hidden = samples.new_zeros(len(counts), _frames(samples.shape[1]), width)
    for start, stop in _chunks(counts, CHUNK_SAMPLES if samples.device.type == "cpu" else None):
        longest = max(counts[start:stop])
        part = _encoded(encoder, samples[start:stop, :longest].contiguous(), counts[start:stop])
        hidden[start:stop, : part.shape[1]] = part
    own = torch.arange(hidden.shape[1], device=hidden.device) < torch.tensor(frames, device=hidden.device)[:, None]
    crossed = tuple(_crossed(layer.encoder_attn, hidden) for layer in network.model.decoder.layers)
    outputs = MoonshineEncoderModelOutput(last_hidden_state=hidden, attention_mask=own.int())
    return LeanEncoded(outputs, mask, prompts, crossed, own_frames(counts, hidden))


def _chunks(counts: Sequence[int], budget: int | None) -> list[tuple[int, int]]:
    """Ranges of clips of at most so many samples, padded."""
    found, start, longest = [], 0, 0
    for place, count in enumerate(counts):
        longest = max(longest, count)
        if budget is not None and place > start and longest * (place + 1 - start) > budget:
            found.append((start, place))
            start, longest = place, count
    return [*found, (start, len(counts))]


def _frames(samples: int) -> int:
    return (((samples - 127) // 64 + 1 - 7) // 3 + 1 - 3) // 2 + 1


def _convolved(rows: Tensor, layer: nn.Conv1d) -> Tensor:
    """(clips, frames, channels) → (clips, fewer frames, more channels), by a product over windows of frames."""
    clips, frames, channels = rows.shape
    size, stride = layer.kernel_size[0], layer.stride[0]
    count = (frames - size) // stride + 1
    windows = rows.as_strided((clips, count, size * channels), (frames * channels, stride * channels, 1))
    weight = layer.weight.transpose(1, 2).reshape(layer.out_channels, -1)
    return product(windows.reshape(clips * count, -1), weight, layer.bias).view(clips, count, -1)


def stem(encoder: Any, samples: Tensor, counts: Sequence[int]) -> Tensor:
    """(clips, frames, width): what the convolutions make of clips of so many samples, padded to the longest."""
    hidden = _convolved(samples[:, :, None], encoder.conv1).tanh_()
    norm = encoder.groupnorm
    for row, count in zip(hidden, counts, strict=True):
        # over the clip's own frames, as if it were alone; what is behind them is heard by nobody
        own = row[: (count - 127) // 64 + 1]
        own.copy_(functional.layer_norm(own.reshape(1, -1), (own.numel(),), eps=norm.eps).view_as(own))
    hidden.mul_(norm.weight).add_(norm.bias)
    return functional.gelu(_convolved(functional.gelu(_convolved(hidden, encoder.conv2)), encoder.conv3))


def own_frames(counts: Sequence[int], like: Tensor) -> Tensor | None:
    """(clips, 1, 1, frames) of `like` (clips, frames, width): those of clips of so many samples; None: all are."""
    frames, longest = [_frames(count) for count in counts], like.shape[1]
    if min(frames) == longest:
        return None
    own = torch.arange(longest, device=like.device) < torch.tensor(frames, device=like.device)[:, None]
    return own[:, None, None, :]


def _encoded(encoder: Any, samples: Tensor, counts: Sequence[int]) -> Tensor:
    hidden = stem(encoder, samples, counts)
    mask = own_frames(counts, hidden)
    turns = turns_of(encoder.rotary_emb, hidden.shape[1], hidden)
    for layer in encoder.layers:
        attention = layer.self_attn
        queries, keys, values = _turned(attention, layer.input_layernorm(hidden), turns).unbind(2)
        mixed = attended(attention, queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), mask)
        hidden = hidden + product(mixed, attention.o_proj.weight)
        hidden += layer.mlp.fc2(functional.gelu(layer.mlp.fc1(layer.post_attention_layernorm(hidden))))
    normed: Tensor = encoder.layer_norm(hidden)
    return normed


def turns_of(rotary: Any, count: int, like: Tensor) -> Tensor:
    """(places, 1, 1, half of what is turned): the rotations of places 0 … count - 1, as complex numbers."""
    cosine, sine = rotary(like, torch.arange(count, device=like.device)[None])
    half = cosine.shape[-1] // 2
    return torch.complex(cosine[0, :, :half].float(), sine[0, :, :half].float())[:, None, None, :]


def _turned(attention: Any, rows: Tensor, turns: Tensor) -> Tensor:
    """Queries, keys and values (clips, places, 3, heads, width), the first two turned by their places."""
    weight = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    made = product(rows, weight).view(*rows.shape[:2], 3, -1, attention.head_dim)
    pairs = made.view(*made.shape[:-1], -1, 2)[:, :, :2, :, : turns.shape[-1]]
    torch.view_as_complex(pairs).mul_(turns)
    return made


def attended(attention: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, **more: Any) -> Tensor:
    """(clips, heads, places, width) → (clips, places, heads · width)."""
    mixed = functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, scale=attention.scaling, **more
    )
    return mixed.transpose(1, 2).flatten(2)


def _crossed(attention: Any, hidden: Tensor) -> Tensor:
    weight = torch.cat([attention.k_proj.weight, attention.v_proj.weight])
    made = product(hidden, weight).view(*hidden.shape[:2], 2, -1, attention.head_dim)
    return made.permute(2, 0, 3, 1, 4).contiguous()


def logits(network: Any, encoded: LeanEncoded, inputs: Tensor) -> Tensor:
    """(clips, places, vocabulary) after each of the inputs (clips, places), the true tokens before it known."""
    decoder = network.model.decoder
    turns = turns_of(decoder.rotary_emb, inputs.shape[1], encoded.crossed[0])
    hidden = decoder.embed_tokens(inputs)
    for layer, crossed in zip(decoder.layers, encoded.crossed, strict=True):
        attention = layer.self_attn
        queries, keys, values = _turned(attention, layer.input_layernorm(hidden), turns).unbind(2)
        mixed = attended(
            attention, queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), None, is_causal=True
        )
        hidden = _rest(layer, hidden + product(mixed, attention.o_proj.weight), crossed, encoded.heard)
    found: Tensor = network.proj_out(decoder.norm(hidden))
    return found


def _rest(layer: Any, hidden: Tensor, crossed: Tensor, heard: Tensor | None) -> Tensor:
    """What a layer does after its self-attention; `hidden` (clips, places, width) is changed in place."""
    attention = layer.encoder_attn
    queries = product(layer.post_attention_layernorm(hidden), attention.q_proj.weight)
    queries = queries.view(*hidden.shape[:2], -1, attention.head_dim).transpose(1, 2)
    hidden += product(attended(attention, queries, crossed[0], crossed[1], heard), attention.o_proj.weight)
    values, gate = layer.mlp.fc1(layer.final_layernorm(hidden)).chunk(2, dim=-1)
    hidden += layer.mlp.fc2(functional.silu(gate) * values)
    return hidden


def greedy(network: Any, encoded: LeanEncoded, vocabulary: Vocabulary, max_tokens: Sequence[int]) -> list[list[int]]:
    """As `decode.greedy`: the most likely token at each place, until EOS or `max_tokens[b]` tokens (at least one)."""
    decoder, ends = network.model.decoder, frozenset(vocabulary.eos)
    device = encoded.crossed[0].device
    prompts = torch.tensor(encoded.prompts, device=device)
    places = prompts.shape[1] + max(max_tokens)
    turns = turns_of(decoder.rotary_emb, places, encoded.crossed[0])
    written: list[list[int]] = [[] for _ in max_tokens]
    rows, running = list(range(len(max_tokens))), set(range(len(max_tokens)))
    crossed, heard = list(encoded.crossed), encoded.heard
    heads, width = crossed[0].shape[2], crossed[0].shape[4]
    kept = [crossed[0].new_empty(2, len(rows), heads, places, width) for _ in crossed]
    first, later = (
        torch.tensor(sorted(set(banned)), dtype=torch.long, device=device)
        for banned in (vocabulary.suppressed + vocabulary.suppressed_first, vocabulary.suppressed)
    )
    token = prompts[:, 0]
    for place in range(places - 1):
        hidden = decoder.embed_tokens(token[:, None])
        for number, layer in enumerate(decoder.layers):
            attention = layer.self_attn
            made = _turned(attention, layer.input_layernorm(hidden), turns[place : place + 1])
            # (clips, 1, 3, heads, width) → (2, clips, heads, width)
            kept[number][:, :, :, place] = made[:, 0, 1:].transpose(0, 1)
            own = kept[number][..., : place + 1, :]
            mixed = attended(attention, made[:, :, 0].transpose(1, 2), own[0], own[1], None)
            hidden = _rest(layer, hidden + product(mixed, attention.o_proj.weight), crossed[number], heard)
        if place + 1 < prompts.shape[1]:
            token = prompts[rows, place + 1]
            continue
        scores = network.proj_out(decoder.norm(hidden))[:, -1].float()
        if len(banned := first if place + 1 == prompts.shape[1] else later):
            scores.index_fill_(1, banned, -torch.inf)
        token = scores.argmax(dim=-1)
        for row, one in zip(rows, token.tolist(), strict=True):
            if row in running:
                if one not in ends:
                    written[row].append(one)
                if one in ends or len(written[row]) == max_tokens[row]:
                    running.remove(row)
        if not running:
            break
        if len(running) <= WORTH_LEAVING * len(rows):
            stay = torch.tensor([at for at, row in enumerate(rows) if row in running], device=device)
            rows = [row for row in rows if row in running]
            token = token[stay]
            crossed = [of_layer[:, stay] for of_layer in crossed]
            kept = [of_layer[:, stay] for of_layer in kept]
            heard = None if heard is None else heard[stay]
    return written
