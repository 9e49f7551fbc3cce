"""Families whose prompt names the language of a clip, in the form of their own processor.

Among them encoder–decoders on a FastConformer, whose decoder is told language and style before it writes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.audio.samples import SAMPLE_RATE_HZ
from core.errors import ModelError
from core.plan.families import FamilyFacts
from core.training.families.base import Limits, Samples, SpeechModel, padded
from core.training.families.seq2seq import TOKENS_PER_SECOND, Seq2Seq

# Any family whose prompt names the language of a clip


@dataclass(kw_only=True, eq=False)
class PromptPerLanguage(SpeechModel):
    """A prompt for each language, made once."""

    prompts: dict[str, Any] = field(init=False, default_factory=dict, repr=False)

    def prompt_in(self, language: str | None, make: Callable[[str], Any]) -> Any:
        """The prompt of a clip in `language`, or in that of the model where the clip names none.

        `make` makes that of a code. Raises ModelError where no language is named, or the files give no prompt.
        """
        told = language or self.language
        if told is None:
            raise ModelError("model.language: missing, and this model is told what is spoken")
        if told not in self.prompts:
            try:
                # a processor may hear silence for it, as features are heard: not in bf16
                with torch.autocast("cpu", enabled=False):
                    self.prompts[told] = make(told)
            except (KeyError, TypeError, ValueError) as error:
                raise ModelError(
                    f"model: its processor makes no prompt in {told} ({error}); its chat template or the control "
                    "tokens of its tokenizer are missing, or of another model: save or download it again"
                ) from error
        return self.prompts[told]


# Encoder–decoders on a FastConformer

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
