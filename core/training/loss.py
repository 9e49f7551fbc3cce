"""The loss, computed here because the models' own has been wrong (docs/design.md, "The loss").

Summed cross-entropy over the target tokens of a whole optimiser step, divided by their number: micro-batches of
one step add up exactly to the loss of the step in one piece. Targets are masked by length, never by id,
because the pad of Moonshine and Whisper is their EOS.

Beside it, where `train.kl` asks for it, stands the Kullback-Leibler divergence from the base model on replay speech, as
Yu et al. (2013), "KL-divergence regularized deep neural network adaptation", have it for a recogniser's outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div


class Predicted(NamedTuple):
    """What a model says at each place of a batch: of each target token, after the true ones before it, or CTC frame."""

    logits: Tensor
    """(rows, places, units)."""
    lengths: Tensor
    """(rows,): how many of the places are the row's own."""

    def own(self) -> Tensor:
        """Log-probabilities in fp32 at all places that are some row's own: (places, units)."""
        places = torch.arange(self.logits.shape[1], device=self.logits.device)
        return self.logits[places[None, :] < self.lengths[:, None]].float().log_softmax(-1)

    def last(self, rows: int) -> Predicted:
        """The same of the last rows alone."""
        return Predicted(self.logits[-rows:], self.lengths[-rows:])


def pad_targets(
    labels: Sequence[Sequence[int]], prompts: Sequence[Sequence[int]], pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Decoder inputs and targets of a batch.

    `labels` end in EOS and carry no start token; each of `prompts` is what the decoder starts
    with: P ids, at least one.
    Returns decoder_input_ids (batch, P + L − 1), targets (batch, L) and lengths (batch,), L the longest label. The
    logits that predict the targets are those from position P − 1 on.
    """
    longest = max(len(ids) for ids in labels)
    inputs = torch.full((len(labels), len(prompts[0]) + longest - 1), pad, dtype=torch.long)
    targets = torch.full((len(labels), longest), pad, dtype=torch.long)
    for row, (prompt, ids) in enumerate(zip(prompts, labels, strict=True)):
        whole = [*prompt, *ids]
        inputs[row, : len(whole) - 1] = torch.tensor(whole[:-1])
        targets[row, : len(ids)] = torch.tensor(ids)
    return inputs, targets, torch.tensor([len(ids) for ids in labels])


def summed_cross_entropy(logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Sum over the first `lengths[b]` targets of each row, in nats and fp32.

    logits (batch, L, vocabulary), targets (batch, L), lengths (batch,).
    """
    per_token = cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
    mask = torch.arange(targets.shape[1], device=targets.device)[None, :] < lengths[:, None]
    return (per_token * mask).sum()


def summed_divergence(base: Predicted, now: Predicted) -> Tensor:
    """Nats in fp32: the sum over a batch's places of KL(base || now) = sum_u p_base(u) log(p_base(u) / p_now(u)).

    Both of the same clips and targets. Summed over a clip's frames or tokens it is the divergence of what the two
    models write as a whole: of a CTC model, whose frames are independent, exactly; else after the true tokens.
    """
    divergence: Tensor = kl_div(now.own(), base.own(), reduction="sum", log_target=True)
    return divergence
