"""Padding invariance: a clip's transcript must not depend on what shares its batch.

Norms over time take their statistics over the clip's own frames (docs/design.md, "Padding"). Which layers of a family
see padding is in its module; here is what they have in common.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


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
        frames, own_norm = input.shape[-1], super().forward
        normed = [
            functional.pad(own_norm(clip[None, :, :own].float()), (0, frames - own))
            for clip, own in zip(input, self.lengths.tolist(), strict=True)
        ]
        return torch.cat(normed).to(input.dtype)


def masked_norm(norm: nn.GroupNorm) -> MaskedGroupNorm:
    """A norm with the same parameters that can be told the clips' lengths."""
    masked = MaskedGroupNorm(norm.num_groups, norm.num_channels, norm.eps, norm.affine)
    masked.load_state_dict(norm.state_dict())
    masked.to(norm.weight.device, norm.weight.dtype)
    masked.requires_grad_(norm.weight.requires_grad)
    return masked


class _OwnFrames:
    """How many frames of a batch are each clip's own, followed through the convolutions of a forward pass.

    Convolutions over time only ever shorten what they are given, so that the padded number of frames says where in the
    network it is.
    """

    def __init__(self) -> None:
        self.lengths: dict[int, Tensor] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _OwnFrames:
        """Itself: a layer that is copied stays in the forward pass that it belongs to."""
        return self

    def begin(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pre-hook of the network: its attention mask says what is the clips' own."""
        mask = kwargs.get("attention_mask")
        self.lengths = {} if mask is None else {mask.shape[1]: mask.sum(-1)}

    def hide_padding(self, convolution: nn.Conv1d, args: tuple[Any, ...]) -> Any:
        """Pre-hook: the padding is zero, as what a clip alone is padded with."""
        hidden = args[0]
        own = self.lengths.get(hidden.shape[-1])
        if own is None or convolution.kernel_size[0] == 1:
            return None
        padding = torch.arange(hidden.shape[-1], device=hidden.device) >= own[:, None]
        return (hidden.masked_fill(padding[:, None, :], 0.0), *args[1:])

    def shorten(self, convolution: Any, args: tuple[Any, ...], output: Tensor) -> None:
        """Forward hook: each clip's frames after it."""
        own = self.lengths.get(args[0].shape[-1])
        if own is not None:
            window = (convolution.kernel_size[0] - 1) * convolution.dilation[0] + 1
            frames = (own + 2 * convolution.padding[0] - window) // convolution.stride[0] + 1
            self.lengths[output.shape[-1]] = frames

    def tell(self, norm: nn.Module, args: tuple[Any, ...]) -> None:
        """Pre-hook of a MaskedGroupNorm."""
        norm.lengths = self.lengths.get(args[0].shape[-1])  # type: ignore[assignment]


def hear_own_frames(network: nn.Module) -> None:
    """Change an encoder of convolutions over time in place, so that none of them, and no GroupNorm, sees padding."""
    own = _OwnFrames()
    network.register_forward_pre_hook(own.begin, with_kwargs=True)
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.GroupNorm):
                masked = masked_norm(layer)
                masked.register_forward_pre_hook(own.tell)
                setattr(parent, name, masked)
            elif isinstance(layer, nn.Conv1d):
                layer.register_forward_pre_hook(own.hide_padding)
                layer.register_forward_hook(own.shorten)
