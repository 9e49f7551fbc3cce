"""Decoding with a token cap for each clip, greedily or by beams.

One loop for all encoder–decoders, so that batch 1 and batch N, training and `lora-cli` decode alike. `generate()` of
transformers caps a whole batch at once, which lets a short clip run on because a long one shares its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
    """The model's output for what was encoded, which stays as it is."""
    return _next_logits(model, replace(encoded, outputs=_fresh(encoded.outputs)), decoder_input_ids, **more)


def _next_logits(model: Any, encoded: Encoded, decoder_input_ids: Tensor, **more: Any) -> Any:
    """The same, where what was encoded may be changed: a decoder reads it once, and then its own cache of it."""
    mask = {} if encoded.mask is None else {"attention_mask": encoded.mask}
    return model(encoder_outputs=encoded.outputs, decoder_input_ids=decoder_input_ids, **mask, **more)


WORTH_LEAVING = 0.75
"""Share of a batch's rows that still write, below which the others leave it: the rows that stay are copied."""


@torch.no_grad()
def greedy(model: Any, encoded: Encoded, vocabulary: Vocabulary, max_tokens: Sequence[int]) -> list[list[int]]:
    """The most likely token at each place, until EOS or `max_tokens[b]` tokens. Neither prompt nor EOS is returned.

    Rows that have ended leave the batch, so that the last steps are not computed for all.
    """
    written: list[list[int]] = [[] for _ in max_tokens]
    rows = [row for row, cap in enumerate(max_tokens) if cap > 0]
    if not rows:
        return written
    device = encoded.outputs["last_hidden_state"].device
    encoded = replace(encoded, outputs=_fresh(encoded.outputs))
    if len(rows) < len(max_tokens):
        encoded = _rows_of(encoded, torch.tensor(rows, device=device))
    inputs = torch.tensor([encoded.prompts[row] for row in rows], device=device)
    ends, running, past = frozenset(vocabulary.eos), set(rows), None
    first, later = (
        torch.tensor(sorted(set(banned)), dtype=torch.long, device=device)
        for banned in (vocabulary.suppressed + vocabulary.suppressed_first, vocabulary.suppressed)
    )
    while True:
        output = _next_logits(model, encoded, inputs, past_key_values=past, use_cache=True)
        logits, banned = output.logits[:, -1].float(), first if past is None else later
        past = output.past_key_values
        if len(banned):
            logits.index_fill_(1, banned, -torch.inf)
        token = logits.argmax(dim=-1)
        for row, one in zip(rows, token.tolist(), strict=True):
            if row not in running:
                continue
            if one not in ends:
                written[row].append(one)
            if one in ends or len(written[row]) == max_tokens[row]:
                running.remove(row)
        if not running:
            return written
        if len(running) <= WORTH_LEAVING * len(rows) and hasattr(past, "batch_select_indices"):
            kept = torch.tensor([place for place, row in enumerate(rows) if row in running], device=device)
            rows = [row for row in rows if row in running]
            past.batch_select_indices(kept)
            encoded, token = _rows_of(encoded, kept), token[kept]
        inputs = token[:, None]


# Beam search
#
# Hypotheses are scored as transformers' `generate(num_beams=…)` does: one has the mean log-probability of its tokens,
# the end among them. There are no penalties: a transcript repeats what the speaker repeats. Each clip has its own
# hypotheses, its own cap and its own end, so that what it gives does not depend on the other clips of its batch.


@dataclass(slots=True)
class _Clip:
    """The search for the transcript of one clip."""

    cap: int
    running: list[list[int]] = field(default_factory=lambda: [[]])
    ended: list[tuple[float, list[int]]] = field(default_factory=list)
    """At most as many as there are beams, the best first."""

    def extend(
        self, candidates: Sequence[tuple[float, int, int]], beams: int, eos: Sequence[int]
    ) -> list[tuple[float, int, int]]:
        """Go on with the `beams` best candidates that do not end; these are returned, none where the search is over.

        A candidate: (log-probability of all of its tokens, the hypothesis that it goes on from, its next token), the
        best first.
        """
        length = len(self.running[0]) + 1
        following: list[tuple[float, int, int]] = []
        for rank, (total, beam, token) in enumerate(candidates):
            if token in eos or length == self.cap:
                # those behind the `beams` best are there to go on, not to end
                if rank < beams:
                    self.ended.append((total / length, self.running[beam] + [token] * (token not in eos)))
            elif len(following) < beams:
                following.append((total, beam, token))
        self.ended = sorted(self.ended, key=lambda one: -one[0])[:beams]
        full = len(self.ended) == beams
        if not following or (full and following[0][0] / length <= self.ended[-1][0]):
            return []
        self.running = [[*self.running[beam], token] for _, beam, token in following]
        return following


@torch.no_grad()
def beam_search(
    model: Any, encoded: Encoded, vocabulary: Vocabulary, max_tokens: Sequence[int], beams: int
) -> list[list[int]]:
    """The best hypothesis of `beams` for each clip, at most `max_tokens[b]` tokens. Neither prompt nor EOS is returned.

    As with the defaults of transformers, a search is over once the best hypothesis that goes on has a lower mean than
    the worst of `beams` that have ended.
    """
    clips = [_Clip(cap) for cap in max_tokens]
    device = encoded.outputs["last_hidden_state"].device
    inputs = torch.tensor(encoded.prompts, device=device)
    searching = [cap > 0 for cap in max_tokens]
    totals = torch.zeros(len(clips), 1, device=device)
    past: Any = None
    for position in range(max(max_tokens, default=0)):
        output = decoder_logits(model, encoded, inputs, past_key_values=past, use_cache=True)
        past = output.past_key_values
        scores = torch.log_softmax(output.logits[:, -1].float(), dim=-1)
        if banned := vocabulary.suppressed + (vocabulary.suppressed_first if position == 0 else ()):
            scores[:, list(banned)] = -torch.inf
        size = scores.shape[-1]
        scores = (scores.view(*totals.shape, size) + totals[:, :, None]).flatten(1)
        # as many as `beams` of them go on, even if each hypothesis has its ends among the best
        best, places = torch.topk(scores, min(scores.shape[1], max(2, 1 + len(vocabulary.eos)) * beams))
        chosen: list[list[tuple[float, int, int]]] = []
        for row, clip in enumerate(clips):
            pairs = zip(best[row].tolist(), places[row].tolist(), strict=True)
            candidates = [(total, place // size, place % size) for total, place in pairs]
            following = clip.extend(candidates, beams, vocabulary.eos) if searching[row] else []
            searching[row] = bool(following)
            # a clip that is done keeps its rows, which nobody reads
            chosen.append((following or [(0.0, 0, vocabulary.pad)]) + [(-torch.inf, 0, vocabulary.pad)] * beams)
        if not any(searching):
            break
        kept = [one[:beams] for one in chosen]
        width = totals.shape[1]
        totals = torch.tensor([[total for total, _, _ in one] for one in kept], device=device)
        rows = torch.tensor([row * width + beam for row, one in enumerate(kept) for _, beam, _ in one], device=device)
        inputs = torch.tensor([[token] for one in kept for _, _, token in one], device=device)
        if position == 0:
            encoded = _rows_of(encoded, rows)
            past.reorder_cache(rows)
        else:
            # what a decoder makes of the encoder's output is the same for all hypotheses of a clip
            getattr(past, "self_attention_cache", past).reorder_cache(rows)
    return [clip.ended[0][1] if clip.ended else [] for clip in clips]


def _rows_of(encoded: Encoded, rows: Tensor) -> Encoded:
    """The encoded batch with a row for each hypothesis of a clip."""
    every = {name: value.index_select(0, rows) for name, value in encoded.outputs.items()}
    outputs = type(encoded.outputs)(**every)
    mask = None if encoded.mask is None else encoded.mask.index_select(0, rows)
    return replace(encoded, outputs=outputs, mask=mask)
