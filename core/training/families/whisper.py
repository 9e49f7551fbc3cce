"""Whisper: log-mel windows of 30 s, whatever a clip's length, and a prompt of language and task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from core.audio.samples import SAMPLE_RATE_HZ
from core.plan.families import FamilyFacts
from core.training.decode import Encoded, Vocabulary
from core.training.families.base import Limits, Samples
from core.training.families.seq2seq import TOKENS_PER_SECOND, Seq2Seq
from core.training.loss import Predicted

STEP_SECONDS = 0.5
"""To whose multiples what is heard of a clip is rounded up, where it is not the whole window."""
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
        found = {"input_features": torch.cat([one["input_features"] for one in windows]).to(self.device)}
        if self.audio_context is not None:
            seconds = [self.encoder_seconds(len(clip) / SAMPLE_RATE_HZ) for clip in clips]
            found["seconds"] = torch.tensor(seconds)
        return found

    def encoder_seconds(self, seconds: float) -> float:
        """The window, or the clip and the margin, in whole steps, so that clips of about one length are a batch."""
        window = super().encoder_seconds(seconds)
        if self.audio_context is None:
            return window
        return min(window, STEP_SECONDS * math.ceil((seconds + self.audio_context) / STEP_SECONDS))

    def encode(self, features: dict[str, Tensor], languages: Sequence[str | None] | None = None) -> Any:
        """Encoder outputs, and what each clip's transcript begins with; with `audio_context` of each length apart."""
        windows = features["input_features"]
        if self.audio_context is None and (torch.is_grad_enabled() or windows.device.type != "cpu"):
            return super().encode(features, languages)
        prompts = self.prompts_of(len(windows), languages)
        if self.audio_context is None:
            # one at a time: what a layer makes of several windows is more than the processor's cache holds
            heard = [super(Whisper, self).encode({"input_features": one[None]}).outputs for one in windows]
            whole = type(heard[0])(last_hidden_state=torch.cat([one["last_hidden_state"] for one in heard]))
            return Encoded(whole, None, prompts)
        seconds = features["seconds"].tolist()
        encoder = self.network.get_encoder()
        frames = windows.shape[-1] / self.limits.max_seconds
        groups = []
        for length in sorted(set(seconds), reverse=True):
            rows = [row for row, one in enumerate(seconds) if one == length]
            heard = _heard(encoder, windows[rows, :, : round(length * frames)])
            groups.append((rows, Encoded(heard, None, tuple(prompts[row] for row in rows))))
        return Lengths(groups)

    def predicted(self, encoded: Any, targets: Sequence[Sequence[int]]) -> Predicted:
        """The logits of each token, after the true ones before it."""
        if not isinstance(encoded, Lengths):
            return super().predicted(encoded, targets)
        parts = [
            (rows, super(Whisper, self).predicted(one, [targets[r] for r in rows])) for rows, one in encoded.groups
        ]
        longest = max(part.logits.shape[1] for _, part in parts)
        order = torch.tensor([row for rows, _ in parts for row in rows]).argsort()
        logits = [functional.pad(part.logits, (0, 0, 0, longest - part.logits.shape[1])) for _, part in parts]
        lengths = torch.cat([part.lengths for _, part in parts])
        return Predicted(torch.cat(logits)[order], lengths[order])

    def decode(self, encoded: Any, caps: Sequence[int]) -> list[list[int]]:
        """The most likely token at each place, until EOS or the cap; or the best of some hypotheses."""
        if not isinstance(encoded, Lengths):
            return super().decode(encoded, caps)
        written: list[list[int]] = [[] for _ in caps]
        for rows, one in encoded.groups:
            for row, ids in zip(rows, super().decode(one, [caps[row] for row in rows]), strict=True):
                written[row] = ids
        return written


@dataclass(frozen=True, slots=True)
class Lengths:
    """A batch in groups of clips of which the encoder heard as much; none is padded, for Whisper knows no mask."""

    groups: list[tuple[list[int], Encoded]]
    """Rows of the batch, and what was heard of them."""


def _heard(encoder: Any, features: Tensor) -> Any:
    """transformers' encoder for fewer frames than its window has, by the first of its positions."""
    from transformers.modeling_outputs import BaseModelOutput

    hidden = functional.gelu(encoder.conv2(functional.gelu(encoder.conv1(features)))).permute(0, 2, 1)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers:
        hidden = layer(hidden, None)
    return BaseModelOutput(last_hidden_state=encoder.layer_norm(hidden))


def _own_prompt(tokenizer: Any, start: int | None) -> tuple[int, ...]:
    """What the tokenizer begins a text with, if that is `start`; else `start` alone."""
    prefix = [i for i in getattr(tokenizer, "prefix_tokens", []) if i is not None]
    return tuple(prefix) if prefix and start in (None, prefix[0]) else (start or 0,)


FAMILY = Whisper
