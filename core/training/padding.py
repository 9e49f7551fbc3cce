"""Padding invariance: a clip's transcript must not depend on what shares its batch.

Norms over time take their statistics over the clip's own frames (docs/design.md, "Padding"). Which layers of a family
see padding is in its module; here is what they have in common.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskedGroupNorm(nn.GroupNorm):
    """GroupNorm whose means and variances are taken over each clip's own frames.

    `lengths` (batch,) is set for the forward pass that follows and says how many frames are real; None means all.
    Parameters and their names are those of the norm it replaces, so checkpoints stay interchangeable.
    """

    lengths: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, frames) → the same; frames past a clip's length become 0."""
        if self.lengths is None:
            return super().forward(input)
        batch, channels, frames = input.shape
        hidden = input.float().view(batch, self.num_groups, channels // self.num_groups, frames)
        mask = torch.arange(frames, device=hidden.device)[None, :] < self.lengths[:, None]
        mask = mask[:, None, None, :].to(hidden.dtype)
        count = self.lengths.to(hidden.dtype)[:, None, None, None] * hidden.shape[2]
        mean = (hidden * mask).sum(dim=(2, 3), keepdim=True) / count
        centred = (hidden - mean) * mask
        variance = centred.square().sum(dim=(2, 3), keepdim=True) / count
        normed = (centred * torch.rsqrt(variance + self.eps)).view(batch, channels, frames)
        scaled = normed * self.weight[None, :, None] + self.bias[None, :, None] * mask[:, 0]
        return scaled.to(input.dtype)


def masked_norm(norm: nn.GroupNorm) -> MaskedGroupNorm:
    """A norm with the same parameters that can be told the clips' lengths."""
    masked = MaskedGroupNorm(norm.num_groups, norm.num_channels, norm.eps, norm.affine)
    masked.load_state_dict(norm.state_dict())
    masked.to(norm.weight.device, norm.weight.dtype)
    masked.requires_grad_(norm.weight.requires_grad)
    return masked
