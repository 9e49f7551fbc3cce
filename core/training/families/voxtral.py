"""Voxtral: windows of 30 s, a Llama decoder, and a transcription request in control tokens of its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.audio.samples import SAMPLE_RATE_HZ
from core.training.families.base import Samples
from core.training.families.speech_llm import SpeechLLM


@dataclass(kw_only=True, eq=False)
class Voxtral(SpeechLLM):
    """Every clip takes the places of a whole window in the prompt."""

    def make_prompt(self, language: str) -> tuple[list[int], list[int]]:
        """What mistral-common writes for a transcription request: the language's code is plain text in it."""
        said: list[int] = self.tokenizer(f"lang:{language}", add_special_tokens=False)["input_ids"]
        before = [self._control(name) for name in ("<s>", "[INST]", "[BEGIN_AUDIO]")]
        return before, [self._control("[/INST]"), *said, self._control("[TRANSCRIBE]")]

    def _control(self, name: str) -> int:
        found = self.tokenizer.convert_tokens_to_ids(name)
        if found is None:
            raise ValueError(f"no token {name}")
        return int(found)

    def spelled(self, text: str) -> list[int]:
        """Tokens of the text alone."""
        if getattr(self.tokenizer, "is_fast", False):
            return super().spelled(text)
        # where mistral-common is installed its own tokenizer is loaded, which never takes text for a control token
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """Log-mel windows (clips, bins, frames)."""
        extractor = self.processor.feature_extractor
        windows = [extractor(clip, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt") for clip in clips]
        return {"input_features": torch.cat([one["input_features"] for one in windows]).to(self.device)}

    def audio(self, features: dict[str, Tensor]) -> list[Tensor]:
        """As many places for each clip."""
        packed = self.network.get_audio_features(**features, return_dict=True).pooler_output
        return list(packed.chunk(len(features["input_features"])))


FAMILY = Voxtral
