"""GLM-ASR: windows of 30 s, a Llama decoder, and one transcription request, whatever the language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.audio.samples import SAMPLE_RATE_HZ
from core.training.families.base import Samples
from core.training.families.speech_llm import SpeechLLM


@dataclass(kw_only=True, eq=False)
class GlmASR(SpeechLLM):
    """Its encoder hears a whole window; of that the prompt gets the places of the clip's own frames."""

    def prompt(self, language: str | None) -> tuple[list[int], list[int]]:
        """The same for every clip."""
        words: tuple[list[int], list[int]] = self.prompt_in("any language", self.make_prompt)
        return words

    def make_prompt(self, language: str) -> tuple[list[int], list[int]]:
        """Around the placeholders of its processor's transcription request."""
        request = self.processor.apply_transcription_request(np.zeros(SAMPLE_RATE_HZ, dtype=np.float32))
        ids: list[int] = request["input_ids"][0].tolist()
        placeholder = int(self.network.config.audio_token_id)
        first = ids.index(placeholder)
        return ids[:first], ids[first + ids.count(placeholder) :]

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """Log-mel windows (clips, bins, frames) and their mask (clips, frames)."""
        extractor = self.processor.feature_extractor
        windows = [
            extractor(clip, sampling_rate=SAMPLE_RATE_HZ, return_attention_mask=True, return_tensors="pt")
            for clip in clips
        ]
        frames, masks = (
            torch.cat([one[name] for one in windows]).to(self.device) for name in ("input_features", "attention_mask")
        )
        return {"input_features": frames, "input_features_mask": masks}

    def audio(self, features: dict[str, Tensor]) -> list[Tensor]:
        """A convolution halves the frames, and the projector joins four of what is left."""
        packed = self.network.get_audio_features(**features, return_dict=True).pooler_output
        halved = torch.div(features["input_features_mask"].sum(dim=-1) + 1, 2, rounding_mode="floor")
        return list(packed.split(torch.div(halved, 4, rounding_mode="floor").tolist()))


FAMILY = GlmASR
