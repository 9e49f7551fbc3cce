"""Encoder–decoders on a FastConformer, whose decoder is told language and style before it writes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from core.audio.samples import SAMPLE_RATE_HZ
from core.plan.families import FamilyFacts
from core.training.families.base import Limits, Samples, padded
from core.training.families.language_prompt import PromptPerLanguage
from core.training.families.seq2seq import TOKENS_PER_SECOND, Seq2Seq

LONGEST_PROMPT = 10
"""Tokens; for some versions of these families it is one less."""


MINIMUM_SAMPLES = 1600
"""Shorter clips are followed by silence."""


@dataclass(kw_only=True, eq=False)
class Prompted(PromptPerLanguage, Seq2Seq):
    """The prompt is a whole line of control tokens, of which the decoder's start token is the first."""

    @classmethod
    def limits_of(cls, network: Any, processor: Any, facts: FamilyFacts) -> Limits:
        """By the positions of the decoder, less the prompt's."""
        positions = int(network.config.get_text_config(decoder=True).max_position_embeddings)
        return Limits(TOKENS_PER_SECOND, max_tokens=positions - LONGEST_PROMPT - 1, max_seconds=facts.max_seconds())

    @abstractmethod
    def make_prompt(self, language: str) -> list[int]:
        """The tokens for a transcription in `language`, a code."""

    def prompt(self, language: str | None = None) -> tuple[int, ...]:
        """What the decoder is given before it writes, for a clip in `language`; of one length for all languages."""
        return tuple(self.prompt_in(language, self._whole_prompt))

    def _whole_prompt(self, language: str) -> list[int]:
        """`make_prompt`, if each of its control tokens is one of the tokenizer's. ValueError."""
        ids = self.make_prompt(language)
        # the first may be a space, which a vocabulary may lack
        if self.tokenizer.unk_token_id in ids[1:] or len(ids) > LONGEST_PROMPT:
            raise ValueError("its tokenizer lacks control tokens")
        return ids

    @property
    def prompted(self) -> tuple[int, ...]:
        """The prompt of the model's language."""
        return self.prompt() if self.language is not None else ()

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """Log-mel frames (clips, frames, bins), normalised over each clip alone, and their mask (clips, frames)."""
        made = [
            self.processor.feature_extractor(
                # their spread over less than two frames is no number
                [np.pad(clip, (0, max(0, MINIMUM_SAMPLES - len(clip))))],
                sampling_rate=SAMPLE_RATE_HZ,
                return_attention_mask=True,
                return_tensors="pt",
            )
            for clip in clips
        ]
        frames, _ = padded([one["input_features"][0] for one in made])
        # one frame less than there are: the last is beyond the clip
        mask, _ = padded([one["attention_mask"][0] for one in made])
        return {"input_features": frames.to(self.device), "attention_mask": mask.to(self.device)}
