"""Canary: an encoder–decoder whose decoder is given nine tokens on language and style before it writes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.audio.samples import SAMPLE_RATE_HZ
from core.training.families.prompted import Prompted


@dataclass(kw_only=True, eq=False)
class Canary(Prompted):
    """It transcribes, with punctuation and capitals: speech and text are of one language."""

    def make_prompt(self, language: str) -> list[int]:
        """The decoder's part of its processor's transcription request."""
        silence = np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)
        request = self.processor.apply_transcription_request(silence, source_language=language)
        ids: list[int] = request["decoder_input_ids"][0].tolist()
        return ids


FAMILY = Canary
