"""Speech language models: a text decoder reads a prompt with a clip's audio in it, and goes on with the transcript.

The common path of all of them. Prompts differ in length, as clips do. All rows of a batch have their prompts at the
left and their transcripts from one place on; what is left between the two, and after the transcripts, is masked and has
no position, so that a clip alone and a clip in a batch are computed alike.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.plan.families import FamilyFacts
from core.training.families.base import Limits, padded
from core.training.families.prompted import PromptPerLanguage
from core.training.families.seq2seq import TOKENS_PER_SECOND
from core.training.loss import Predicted, summed_cross_entropy

AUDIO_TOKENS_PER_SECOND = 13
"""Places of a prompt that a second of audio takes, at most."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The prompts of a batch of clips, embedded, each with its audio in place."""

    inputs: Tensor
    """(clips, longest, width), right-padded with zeros."""
    mask: Tensor
    """(clips, longest): 1 for what is no padding."""

    @property
    def lengths(self) -> Tensor:
        """(clips,)"""
        return self.mask.sum(dim=1)

    def first_logits(self, logits: Tensor, places: Tensor) -> Tensor:
        """(clips, vocabulary) after each prompt, of `logits` (clips, places, vocabulary) at `places`, ascending."""
        rows = torch.arange(len(logits), device=logits.device)
        return logits[rows, torch.searchsorted(places, self.lengths - 1)]


@dataclass(kw_only=True, eq=False)
class SpeechLLM(PromptPerLanguage):
    """Greedy or teacher-forced decoding after one embedded prompt."""

    @classmethod
    def limits_of(cls, network: Any, processor: Any, facts: FamilyFacts) -> Limits:
        """By the positions of the decoder, less what the longest clip and the words around it take."""
        seconds = facts.max_seconds(getattr(processor.feature_extractor, "chunk_length", None))
        positions = int(network.config.text_config.max_position_embeddings)
        taken = int(seconds * AUDIO_TOKENS_PER_SECOND) + 64
        return Limits(TOKENS_PER_SECOND, max_tokens=max(1, positions - taken - 1), max_seconds=seconds)

    @abstractmethod
    def make_prompt(self, language: str) -> tuple[list[int], list[int]]:
        """Tokens before and after the audio of a clip in `language`."""

    def prompt(self, language: str | None) -> tuple[list[int], list[int]]:
        """Tokens before and after the audio of a clip."""
        words: tuple[list[int], list[int]] = self.prompt_in(language, self.make_prompt)
        return words

    @property
    def prompted(self) -> tuple[int, ...]:
        """The prompt, one placeholder for the audio."""
        if self.language is None:
            return ()
        before, after = self.prompt(None)
        return (*before, int(self.network.config.audio_token_id), *after)

    @abstractmethod
    def audio(self, features: dict[str, Tensor]) -> list[Tensor]:
        """What stands for each clip in its prompt: (places, width) each."""

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end a transcript; the first is that of the targets."""
        found = self.network.generation_config.eos_token_id
        return tuple(found) if isinstance(found, (list, tuple)) else (int(found),)

    def encode(self, features: dict[str, Tensor], languages: Sequence[str | None] | None = None) -> Heard:
        """The audio encoder's outputs between the words of each clip's prompt."""
        clips = self.audio(features)
        embed = self.network.get_input_embeddings()
        rows = []
        for audio, language in zip(clips, languages or [None] * len(clips), strict=True):
            before, after = (embed(torch.tensor(ids, device=self.device)) for ids in self.prompt(language))
            rows.append(torch.cat([before, audio.to(before.dtype), after]))
        inputs, mask = padded(rows)
        return Heard(inputs, mask.to(self.device))

    def targets(self, text: str, language: str | None = None) -> list[int]:
        """Tokens of the text and the end."""
        return [*self.spelled(text), self.ends[0]]

    def spelled(self, text: str) -> list[int]:
        """Tokens of the text alone."""
        # a transcript that spells a special token means its letters, never the end of the text
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def summed_loss(self, encoded: Heard, targets: Sequence[Sequence[int]]) -> Tensor:
        """Cross-entropy of the transcripts' tokens, each after the prompt and the true tokens before it."""
        return self.loss_of(self.predicted(encoded, targets), targets)

    def predicted(self, encoded: Heard, targets: Sequence[Sequence[int]]) -> Predicted:
        """The logits of the transcripts' tokens, each after the prompt and the true tokens before it."""
        wanted, mask = padded([torch.tensor(ids, dtype=torch.long) for ids in targets])
        wanted, mask = wanted.to(self.device), mask.to(self.device)
        embedded = self.network.get_input_embeddings()(wanted[:, :-1])
        longest, lengths = encoded.inputs.shape[1], encoded.lengths
        given = torch.arange(embedded.shape[1], device=self.device)
        prompts = torch.arange(longest, device=self.device).expand(len(lengths), -1)
        places = torch.unique(lengths - 1)
        logits = self.network(
            inputs_embeds=torch.cat([encoded.inputs, embedded.to(encoded.inputs.dtype)], dim=1),
            attention_mask=torch.cat([encoded.mask, mask[:, 1:]], dim=1),
            position_ids=torch.cat([prompts, lengths[:, None] + given], dim=1),
            use_cache=False,
            logits_to_keep=torch.cat([places, longest + given]),
        ).logits
        first = encoded.first_logits(logits, places)
        return Predicted(torch.cat([first[:, None], logits[:, len(places) :]], dim=1), mask.sum(1))

    def loss_of(self, predicted: Predicted, targets: Sequence[Sequence[int]]) -> Tensor:
        """Cross-entropy of the transcripts' tokens."""
        wanted, _ = padded([torch.tensor(ids, dtype=torch.long) for ids in targets])
        return summed_cross_entropy(predicted.logits, wanted.to(self.device), predicted.lengths)

    @torch.no_grad()
    def decode(self, encoded: Heard, caps: Sequence[int]) -> list[list[int]]:
        """The most likely token at each place, until an end or the cap."""
        lengths, mask = encoded.lengths, encoded.mask
        places = torch.unique(lengths - 1)
        output = self.network(
            inputs_embeds=encoded.inputs,
            attention_mask=mask,
            position_ids=torch.arange(mask.shape[1], device=self.device).expand(len(lengths), -1),
            use_cache=True,
            logits_to_keep=places,
        )
        logits = encoded.first_logits(output.logits, places)
        ends = torch.tensor(self.ends, device=self.device)
        limits = torch.tensor(list(caps), device=self.device)
        written: list[Tensor] = []
        counts = torch.zeros_like(lengths)
        running = limits > 0
        for position in range(max(caps, default=0)):
            token = logits.float().argmax(dim=-1)
            running = running & ~torch.isin(token, ends)
            written.append(token)
            counts += running
            running = running & (counts < limits)
            if not bool(running.any()):
                break
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            output = self.network(
                input_ids=token[:, None],
                attention_mask=mask,
                position_ids=(lengths + position)[:, None],
                past_key_values=output.past_key_values,
                use_cache=True,
            )
            logits = output.logits[:, -1]
        rows = torch.stack(written, dim=1).tolist() if written else [[] for _ in caps]
        return [row[:count] for row, count in zip(rows, counts.tolist(), strict=True)]
