"""Moonshine (v1), whose first convolution is followed by a GroupNorm over *time* that sees a batch's padding.

On real speech that alone moved WER by 1.2 points (docs/design.md, "Padding"). Here the norm takes its statistics over
the clip's own frames, and the attention mask covers exactly the frames that an unpadded clip would have. Without an
attention mask everything is as in plain transformers, so batch 1 is the reference that all batches agree with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.training.decode import Encoded
from core.training.families import moonshine_scoring, moonshine_steps
from core.training.families.base import Samples
from core.training.families.moonshine_scoring import LeanEncoded
from core.training.families.moonshine_steps import SteppedEncoded
from core.training.families.seq2seq import Seq2Seq
from core.training.loss import Predicted, pad_targets
from core.training.padding import MaskedGroupNorm, masked_norm

VOCABULARY = 32768
TOKENS_PER_SECOND = 13.0
"""Its authors' limit for the scripts that take most tokens of its 32k vocabulary (6.5 for Latin, by its model card)."""
STRIDE = 64 * 3 * 2
"""Samples per encoder frame."""


def stem_frames(samples: Tensor) -> Tensor:
    """Frames after the first convolution (kernel 127, stride 64), without padding."""
    return torch.div(samples - 127, 64, rounding_mode="floor") + 1


def encoder_frames(samples: Tensor) -> Tensor:
    """Frames that leave the three convolutions, without padding."""
    second = torch.div(stem_frames(samples) - 7, 3, rounding_mode="floor") + 1
    return torch.div(second - 3, 2, rounding_mode="floor") + 1


def _own_lengths(encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Pre-hook of the encoder: true sample mask in, norm lengths set, exact frame mask out."""
    mask = kwargs.get("attention_mask")
    norm: Any = encoder.groupnorm
    if mask is None:
        norm.lengths = None
        return None
    samples = mask.sum(dim=-1)
    norm.lengths = stem_frames(samples)
    # transformers takes every 384th entry of the mask; ones up to the last frame's entry leave exactly its frames
    last = (encoder_frames(samples) - 1) * STRIDE
    positions = torch.arange(mask.shape[-1], device=mask.device)[None, :]
    return args, kwargs | {"attention_mask": (positions <= last[:, None]).to(mask.dtype)}


@dataclass(kw_only=True, eq=False)
class Moonshine(Seq2Seq):
    """Raw samples in, right-padded with zeros, with a sample mask."""

    @classmethod
    def prepare(cls, network: Any) -> None:
        """Make it hear clips without their padding."""
        encoder = network.model.encoder
        if not isinstance(encoder.groupnorm, MaskedGroupNorm):
            encoder.groupnorm = masked_norm(encoder.groupnorm)
            encoder.register_forward_pre_hook(_own_lengths, with_kwargs=True)

    @classmethod
    def tokens_per_second(cls, network: Any) -> float:
        """Its authors' limit for its own vocabulary."""
        known = network.config.vocab_size == VOCABULARY
        return TOKENS_PER_SECOND if known else super().tokens_per_second(network)

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """The samples themselves; very short clips are followed by silence."""
        return self._raw(clips, multiple=1, minimum=1024)

    def encode(self, features: dict[str, Tensor], languages: Sequence[str | None] | None = None) -> Encoded:
        """Encoder outputs, and what each clip's transcript begins with."""
        samples, mask = features["input_values"], features["attention_mask"]
        if torch.is_autocast_enabled(samples.device.type) or samples.dtype is not torch.float32:
            return super().encode(features, languages)
        prompts = self.prompts_of(len(samples), languages)
        if torch.is_grad_enabled():
            if moonshine_steps.can_step(self._base):
                return moonshine_steps.encode(self._base, samples, mask, prompts)
        elif moonshine_scoring.can_be_lean(self.network):
            return moonshine_scoring.encode(self.network, samples, mask, prompts)
        return super().encode(features, languages)

    @property
    def _base(self) -> Any:
        """The transformers model, whose layers peft has replaced by adapted ones where there is an adapter."""
        return getattr(self.network, "get_base_model", lambda: self.network)()

    def predicted(self, encoded: Encoded, targets: Sequence[Sequence[int]]) -> Predicted:
        """The logits of each token, after the true ones before it."""
        if not isinstance(encoded, (LeanEncoded, SteppedEncoded)):
            return super().predicted(encoded, targets)
        inputs, _, lengths = pad_targets(targets, encoded.prompts, self.vocabulary.pad)
        if isinstance(encoded, SteppedEncoded):
            logits = moonshine_steps.logits(self._base, encoded, inputs.to(self.device))
        else:
            logits = moonshine_scoring.logits(self.network, encoded, inputs.to(self.device))
        return Predicted(logits[:, len(encoded.prompts[0]) - 1 :], lengths.to(self.device))

    def decode(self, encoded: Encoded, caps: Sequence[int]) -> list[list[int]]:
        """The most likely token at each place, until EOS or the cap; or the best of some hypotheses."""
        if self.beams > 1 or not isinstance(encoded, LeanEncoded):
            return super().decode(encoded, caps)
        return moonshine_scoring.greedy(self.network, encoded, self.vocabulary, caps)

    def _raw(self, clips: Sequence[Samples], multiple: int, minimum: int) -> dict[str, Tensor]:
        lengths = [max(minimum, -(-len(clip) // multiple) * multiple) for clip in clips]
        values = torch.zeros(len(clips), max(lengths))
        mask = torch.zeros(len(clips), max(lengths), dtype=torch.long)
        for row, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
            values[row, : len(clip)] = torch.from_numpy(np.ascontiguousarray(clip))
            mask[row, :length] = 1
        return {"input_values": values.to(self.device), "attention_mask": mask.to(self.device)}


FAMILY = Moonshine
