"""Greedy decoding with a token cap for each clip.

One loop for all encoder–decoders, so that batch 1 and batch N, training and `lora-cli` decode alike. `generate()` of
transformers caps a whole batch at once, which lets a short clip run on because a long one shares its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The ids that decoding needs. `prefix` starts every transcript; `suppressed` are never written."""

    prefix: tuple[int, ...]
    eos: tuple[int, ...]
    pad: int
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    """Not as the first token (Whisper: blank and EOS)."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the decoder needs of a batch of clips."""

    outputs: Any
    """Of the encoder, as transformers gives them."""
    mask: Tensor | None
    """Attention mask of the encoder's inputs (clips, inputs); None: it has none."""
    prompts: tuple[tuple[int, ...], ...]
    """What each transcript begins with, of one length."""


def _fresh(encoded: Any) -> Any:
    """Encoder outputs that the decoder may change in place (Moonshine streaming adds to them)."""
    copy = type(encoded)(**encoded)
    copy["last_hidden_state"] = encoded["last_hidden_state"].clone()
    return copy


def decoder_logits(model: Any, encoded: Encoded, decoder_input_ids: Tensor, **more: Any) -> Any:
    """The model's output for what was encoded."""
    mask = {} if encoded.mask is None else {"attention_mask": encoded.mask}
    return model(encoder_outputs=_fresh(encoded.outputs), decoder_input_ids=decoder_input_ids, **mask, **more)


@torch.no_grad()
def greedy(model: Any, encoded: Encoded, vocabulary: Vocabulary, max_tokens: Sequence[int]) -> list[list[int]]:
    """The most likely token at each place, until EOS or `max_tokens[b]` tokens. Neither prompt nor EOS is returned."""
    batch = len(max_tokens)
    device = encoded.outputs["last_hidden_state"].device
    caps = torch.tensor(list(max_tokens), device=device)
    eos = torch.tensor(vocabulary.eos, device=device)
    inputs = torch.tensor(encoded.prompts, device=device)
    written = torch.full((batch, max(max_tokens, default=0)), vocabulary.pad, device=device)
    lengths = torch.zeros(batch, dtype=torch.long, device=device)
    running = caps > 0
    past: Any = None
    for position in range(written.shape[1]):
        output = decoder_logits(model, encoded, inputs, past_key_values=past, use_cache=True)
        past = output.past_key_values
        logits = output.logits[:, -1].float()
        banned = vocabulary.suppressed + (vocabulary.suppressed_first if position == 0 else ())
        if banned:
            logits[:, list(banned)] = -torch.inf
        token = logits.argmax(dim=-1)
        running = running & ~torch.isin(token, eos)
        token = torch.where(running, token, vocabulary.pad)
        written[:, position] = token
        lengths += running
        running = running & (lengths < caps)
        if not bool(running.any()):
            break
        inputs = token[:, None]
    rows, counts = written.tolist(), lengths.tolist()
    return [row[:count] for row, count in zip(rows, counts, strict=True)]
