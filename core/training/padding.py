"""Padding invariance: a clip's transcript must not depend on what shares its batch.

Moonshine's first convolution is followed by a GroupNorm over *time*, whose statistics see a batch's padding; on real
speech that alone moved WER by 1.2 points (docs/design.md, "Padding"). Here the norm takes its statistics over the
clip's own frames, and the attention mask covers exactly the frames that an unpadded clip would have. Without an
attention mask everything is as in plain transformers, so batch 1 is the reference that all batches agree with.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MOONSHINE_STRIDE = 64 * 3 * 2
"""Samples per encoder frame of Moonshine v1."""


def stem_frames(samples: Tensor) -> Tensor:
    """Frames after Moonshine's first convolution (kernel 127, stride 64), without padding."""
    return torch.div(samples - 127, 64, rounding_mode="floor") + 1


def encoder_frames(samples: Tensor) -> Tensor:
    """Frames that leave Moonshine's three convolutions, without padding."""
    second = torch.div(stem_frames(samples) - 7, 3, rounding_mode="floor") + 1
    return torch.div(second - 3, 2, rounding_mode="floor") + 1


class MaskedGroupNorm(nn.GroupNorm):
    """GroupNorm with one group whose mean and variance are taken over each clip's own frames.

    `lengths` (batch,) is set for the forward pass that follows and says how many frames are real; None means all.
    Parameters and their names are those of the norm it replaces, so checkpoints stay interchangeable.
    """

    lengths: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, frames) → the same; frames past a clip's length become 0."""
        if self.lengths is None:
            return super().forward(input)
        hidden = input.float()
        mask = torch.arange(hidden.shape[-1], device=hidden.device)[None, :] < self.lengths[:, None]
        mask = mask[:, None, :].to(hidden.dtype)
        count = self.lengths.to(hidden.dtype)[:, None, None] * hidden.shape[1]
        mean = (hidden * mask).sum(dim=(1, 2), keepdim=True) / count
        centred = (hidden - mean) * mask
        variance = centred.square().sum(dim=(1, 2), keepdim=True) / count
        normed = centred * torch.rsqrt(variance + self.eps)
        scaled = normed * self.weight[None, :, None] + self.bias[None, :, None] * mask
        return scaled.to(input.dtype)


def _prepare_moonshine(encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Pre-hook of the encoder: true sample mask in, norm lengths set, exact frame mask out."""
    mask = kwargs.get("attention_mask")
    norm: Any = encoder.groupnorm
    if mask is None:
        norm.lengths = None
        return None
    samples = mask.sum(dim=-1)
    norm.lengths = stem_frames(samples)
    # transformers takes every 384th entry of the mask; ones up to the last frame's entry leave exactly its frames
    last = (encoder_frames(samples) - 1) * MOONSHINE_STRIDE
    positions = torch.arange(mask.shape[-1], device=mask.device)[None, :]
    return args, kwargs | {"attention_mask": (positions <= last[:, None]).to(mask.dtype)}


def _own_frames(conv: Any, args: tuple[Any, ...], output: tuple[Tensor, Tensor | None]) -> Any:
    """Forward hook of Moonshine streaming's causal convolutions.

    transformers keeps every output frame whose window touches the clip: after both convolutions up to three more than
    the clip has alone. Its own are those whose window *ends* in the clip.
    """
    mask = args[1] if len(args) > 1 else None
    if mask is None:
        return None
    own = mask[:, :: conv.stride[0]]
    return output[0] * own[:, None, :], own


def make_padding_invariant(model: nn.Module) -> None:
    """Make a Moonshine (v1 or streaming) see clips without their padding, in place. Whisper pads all clips alike."""
    encoder = getattr(getattr(model, "model", None), "encoder", None)
    embedder = getattr(encoder, "embedder", None)
    if embedder is not None and type(embedder).__name__ == "MoonshineStreamingEncoderEmbedder":
        embedder.conv1.register_forward_hook(_own_frames)
        embedder.conv2.register_forward_hook(_own_frames)
        return
    norm = getattr(encoder, "groupnorm", None)
    if encoder is None or not isinstance(norm, nn.GroupNorm) or isinstance(norm, MaskedGroupNorm):
        return
    masked = MaskedGroupNorm(norm.num_groups, norm.num_channels, norm.eps, norm.affine)
    masked.load_state_dict(norm.state_dict())
    masked.to(norm.weight.device, norm.weight.dtype)
    masked.requires_grad_(norm.weight.requires_grad)
    encoder.groupnorm = masked
    encoder.register_forward_pre_hook(_prepare_moonshine, with_kwargs=True)
