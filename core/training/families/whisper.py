"""Whisper: log-mel windows of 30 s, whatever a clip's length, and a prompt of language and task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

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

    targets_version: ClassVar[int] = 2
    """1 had no space before the first word."""

    def own_vocabulary(self) -> Vocabulary:
        """With a prompt for the clips that name no language."""
        return replace(super().own_vocabulary(), prefix=self.prompt())

    def prompt(self, language: str | None = None) -> tuple[int, ...]:
        """What `generate(language=…, task=…)` begins with, without timestamps.

        A model of one language, or a tokenizer that was set up for one, has its own.
        """
        language = language or self.language
        generation = self.network.generation_config
        start = int(generation.decoder_start_token_id or self.network.config.decoder_start_token_id)
        languages = getattr(generation, "lang_to_id", None)
        if languages and language is not None and self.facts.language != "refused":
            tasks: dict[str, int] = generation.task_to_id
            spoken = languages[f"<|{language}|>"]
            return start, spoken, tasks[self.task or self.facts.tasks[0]], generation.no_timestamps_token_id
        return _own_prompt(self.tokenizer, start)

    @property
    def prompted(self) -> tuple[int, ...]:
        """The prompt of language and task."""
        return self.vocabulary.prefix

    @classmethod
    def limits_of(cls, network: Any, processor: Any, facts: FamilyFacts) -> Limits:
        """The longest prompt is taken off the decoder's positions."""
        found = super().limits_of(network, processor, facts)
        several = getattr(network.generation_config, "lang_to_id", None)
        prompt = 4 if several else len(_own_prompt(processor.tokenizer, None))
        return replace(found, max_tokens=found.max_tokens + 1 - prompt)

    @classmethod
    def tokens_per_second(cls, network: Any) -> float:
        """More where it spells other scripts in bytes."""
        multilingual = bool(getattr(network.generation_config, "is_multilingual", False))
        return TOKENS_PER_SECOND * (BYTES_OF_A_CHARACTER if multilingual else 1)

    def targets(self, text: str, language: str | None = None) -> list[int]:
        """As in its training: words are tokens that begin with a space, the first one too."""
        written = None if self.task == "translate" else language or self.language
        return super().targets(self.facts.spelled(text, written), written)

    def text(self, ids: Sequence[int]) -> str:
        """The transcript; its tokenizers ask for a clean-up that would strip spaces before punctuation."""
        kept = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode(list(ids), **kept)).strip()

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """Log-mel windows (clips, bins, frames)."""
        extractor = self.processor.feature_extractor
        windows = [extractor(clip, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt") for clip in clips]
        return {"input_features": torch.cat([one["input_features"] for one in windows]).to(self.device)}


def _own_prompt(tokenizer: Any, start: int | None) -> tuple[int, ...]:
    """What the tokenizer begins a text with, if that is `start`; else `start` alone."""
    prefix = [i for i in getattr(tokenizer, "prefix_tokens", []) if i is not None]
    return tuple(prefix) if prefix and start in (None, prefix[0]) else (start or 0,)


FAMILY = Whisper
