"""Qwen3-ASR: a Qwen3 decoder that is told the language in the words of its own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from core.audio.samples import SAMPLE_RATE_HZ
from core.training.families.base import Samples
from core.training.families.speech_llm import SpeechLLM


@dataclass(kw_only=True, eq=False)
class Qwen3ASR(SpeechLLM):
    """Log-mel frames in whole windows of a second, and as many places in the prompt as leave the encoder."""

    @property
    def ends(self) -> tuple[int, ...]:
        """A turn of the conversation ends in the tokenizer's EOS; the generation config names another first."""
        turn = int(self.tokenizer.eos_token_id)
        return (turn, *(token for token in super().ends if token != turn))

    def make_prompt(self, language: str) -> tuple[list[int], list[int]]:
        """Around the placeholders of its processor's transcription request, which ends where the transcript begins."""
        silence = np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)
        request = self.processor.apply_transcription_request(silence, language=language)
        ids: list[int] = request["input_ids"][0].tolist()
        placeholder = int(self.network.config.audio_token_id)
        first = ids.index(placeholder)
        return ids[:first], ids[first + ids.count(placeholder) :]

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """Log-mel frames (clips, bins, frames) and their mask (clips, frames)."""
        made = [
            self.processor.feature_extractor(
                clip, sampling_rate=SAMPLE_RATE_HZ, padding=True, return_attention_mask=True, return_tensors="pt"
            )
            for clip in clips
        ]
        longest = max(one["attention_mask"].shape[-1] for one in made)
        frames, masks = (
            torch.cat([pad(one[name], (0, longest - one[name].shape[-1])) for one in made]).to(self.device)
            for name in ("input_features", "attention_mask")
        )
        return {"input_features": frames, "input_features_mask": masks}

    def audio(self, features: dict[str, Tensor]) -> list[Tensor]:
        """The encoder packs all clips into one sequence, each attending to itself alone."""
        packed = self.network.get_audio_features(**features, return_dict=True).pooler_output
        frames = features["input_features_mask"].sum(dim=-1)
        return list(packed.split(self.places(frames).tolist()))

    def places(self, frames: Tensor) -> Tensor:
        """How many places of the prompt clips of so many frames take: three convolutions halve each window."""
        window = 2 * int(self.network.config.audio_config.n_window)

        def halved(length: Tensor) -> Tensor:
            for _ in range(3):
                length = torch.div(length + 1, 2, rounding_mode="floor")
            return length

        whole = torch.div(frames, window, rounding_mode="floor")
        return whole * halved(torch.full_like(frames, window)) + halved(frames % window)


FAMILY = Qwen3ASR
