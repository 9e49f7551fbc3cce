"""The loss, computed here because the models' own has been wrong (docs/design.md, "The loss").

Summed cross-entropy over the target tokens of a whole optimiser step, divided by their number: micro-batches of
one step add up exactly to the loss of the step in one piece. Targets are masked by length, never by id,
because the pad of Moonshine and Whisper is their EOS.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


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
