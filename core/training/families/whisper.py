"""Whisper: log-mel windows of 30 s, whatever a clip's length, and a prompt of language and task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from core.audio.samples import SAMPLE_RATE_HZ
from core.plan.families import FamilyFacts
from core.training.decode import Vocabulary
from core.training.families.base import Limits, Samples
from core.training.families.seq2seq import TOKENS_PER_SECOND, Seq2Seq

BYTES_OF_A_CHARACTER = 3
"""Of most scripts in UTF-8: tokens that one character may take in a multilingual vocabulary of bytes."""


@dataclass(kw_only=True, eq=False)
class Whisper(Seq2Seq):
    """Every clip is padded to the same window, which the model was trained to hear without a mask."""

    def own_vocabulary(self) -> Vocabulary:
        """Language and task tokens as the tokenizer was set up; no timestamps."""
        found = super().own_vocabulary()
        special = [i for i in getattr(self.tokenizer, "prefix_tokens", []) if i is not None]
        return replace(found, prefix=tuple(special)) if special[:1] == list(found.prefix) else found

    @classmethod
    def limits_of(cls, network: Any, processor: Any, facts: FamilyFacts) -> Limits:
        """The longest prompt is taken off the decoder's positions."""
        found = super().limits_of(network, processor, facts)
        prompt = len([i for i in getattr(processor.tokenizer, "prefix_tokens", []) if i is not None]) or 1
        return replace(found, max_tokens=found.max_tokens + 1 - prompt)

    @classmethod
    def tokens_per_second(cls, network: Any) -> float:
        """More where it spells other scripts in bytes."""
        multilingual = bool(getattr(network.generation_config, "is_multilingual", False))
        return TOKENS_PER_SECOND * (BYTES_OF_A_CHARACTER if multilingual else 1)

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """Log-mel windows (clips, bins, frames)."""
        extractor = self.processor.feature_extractor
        windows = [extractor(clip, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt") for clip in clips]
        return {"input_features": torch.cat([one["input_features"] for one in windows]).to(self.device)}


FAMILY = Whisper
