"""Cohere-ASR: an encoder–decoder whose decoder is given ten tokens on language and style before it writes."""

from __future__ import annotations

from dataclasses import dataclass

from core.training.families.prompted import Prompted


@dataclass(kw_only=True, eq=False)
class CohereASR(Prompted):
    """It transcribes, with punctuation."""

    def make_prompt(self, language: str) -> list[int]:
        """As its processor begins every transcript."""
        ids: list[int] = self.processor.get_decoder_prompt_ids(language)
        return ids


FAMILY = CohereASR
