"""Parakeet-TDT: a conformer encoder, and a small network that reads the units so far and writes at each frame the next
unit or nothing (blank), and by how many frames to go on.

The loss is transformers' own, of the probability of all ways through frames and units. Greedy decoding is that of its
`generate`, with a cap for each clip: `generate` caps a whole batch, and runs the encoder again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from core.plan.families import FamilyFacts
from core.training.families.base import Limits, Samples, SpeechModel, padded
from core.training.families.ctc import Spelling, alone
from core.training.families.seq2seq import TOKENS_PER_SECOND

JOINT_ELEMENTS = 2**26
"""Logits at once, 256 MB of them in fp32: they are of every frame with every unit and each entry of the vocabulary."""


@dataclass(kw_only=True, eq=False)
class ParakeetTdt(SpeechModel):
    """One run of the encoder; loss and decoding join it with what the decoder makes of the units."""

    spelling: Spelling = field(init=False)
    blank: int = field(init=False)
    durations: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Read blank, vocabulary and durations off config and tokenizer."""
        config = self.network.config
        self.blank = int(config.blank_token_id)
        self.durations = tuple(int(frames) for frames in config.durations)
        self.spelling = Spelling(self.tokenizer, config.vocab_size)

    @classmethod
    def limits_of(cls, network: Any, processor: Any, facts: FamilyFacts) -> Limits:
        """It may write many units at a frame, so that the cap is what ends a repetition."""
        longest = facts.max_seconds()
        return Limits(TOKENS_PER_SECOND, max_tokens=int(TOKENS_PER_SECOND * longest), max_seconds=longest)

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """Log-mel frames of each clip alone, right-padded with zeros, with the mask."""
        return {name: tensor.to(self.device) for name, tensor in alone(self.processor.feature_extractor, clips).items()}

    def encode(self, features: dict[str, Tensor], languages: Sequence[str | None] | None = None) -> Any:
        """Encoder outputs, projected to the decoder's width, with the mask of each clip's own frames."""
        return self.network.get_audio_features(**features, output_attention_mask=True, return_dict=True)

    def targets(self, text: str, language: str | None = None) -> list[int]:
        """The text's units, in the letters that the vocabulary has."""
        return self.spelling.ids(text)

    def unfit(self, targets: Sequence[int], samples: int) -> str | None:
        """Only what its vocabulary cannot write, or is longer than speech can be."""
        return self.spelling.problem(targets) or super().unfit(targets, samples)

    def summed_loss(self, encoded: Any, targets: Sequence[Sequence[int]]) -> Tensor:
        """Minus the log of the probability of all ways that write the units, as many clips at once as memory allows."""
        lengths = encoded.attention_mask.sum(-1)
        groups = list(self._groups(targets, lengths.tolist()))
        total: Tensor = encoded.pooler_output.new_zeros((), dtype=torch.float32)
        for rows in groups:
            frames = type(encoded)(pooler_output=encoded.pooler_output[rows][:, : int(lengths[rows].max())])
            units, mask = (tensor.to(self.device) for tensor in padded([torch.tensor(targets[row]) for row in rows]))
            given = (frames, lengths[rows], units, mask.sum(-1))
            # where not all fit at once, logits are made again for the backward pass instead of being kept
            part: Tensor = (
                self._loss(*given) if len(groups) == 1 else checkpoint(self._loss, *given, use_reentrant=False)
            )
            total = total + part
        return total

    def _groups(self, targets: Sequence[Sequence[int]], lengths: Sequence[int]) -> Iterator[list[int]]:
        """Rows with targets, in groups whose logits are at most JOINT_ELEMENTS, or of one row."""
        width = self.network.config.vocab_size + len(self.durations)
        group: list[int] = []
        frames = units = 0
        for row, ids in enumerate(targets):
            if not ids:
                continue
            frames, units = max(frames, lengths[row]), max(units, len(ids) + 1)
            if group and (len(group) + 1) * frames * units * width > JOINT_ELEMENTS:
                yield group
                group, frames, units = [], lengths[row], len(ids) + 1
            group.append(row)
        if group:
            yield group

    def _loss(self, outputs: Any, frame_counts: Tensor, units: Tensor, unit_counts: Tensor) -> Tensor:
        start = units.new_full((len(units), 1), self.blank)
        logits = self.network(encoder_outputs=outputs, decoder_input_ids=torch.cat([start, units], dim=1)).logits
        vocabulary = self.network.config.vocab_size
        loss: Tensor = self.network.loss_function(
            token_logits=logits[..., :vocabulary].float(),
            duration_logits=logits[..., vocabulary:].float(),
            labels=units,
            logit_lengths=frame_counts,
            label_lengths=unit_counts,
            blank_token_id=self.blank,
            durations=list(self.durations),
            reduction="sum",
        )
        return loss

    def decode(self, encoded: Any, caps: Sequence[int]) -> list[list[int]]:
        """At each place the most likely unit, and the most likely number of frames to go on; at least one after blank.

        A row ends after its last frame or at its cap, whatever the others do.
        """
        frames, clips = encoded.pooler_output, len(caps)
        ends, most = encoded.attention_mask.sum(-1), torch.tensor(list(caps), device=self.device)
        durations = torch.tensor(self.durations, device=self.device)
        rows = torch.arange(clips, device=self.device)
        written = torch.full((clips, max(caps, default=0)), self.blank, device=self.device)
        place, count = torch.zeros_like(ends), torch.zeros_like(most)
        unit = torch.full_like(most, self.blank)
        running = (place < ends) & (count < most)
        cache = None
        while bool(running.any()):
            here = type(encoded)(pooler_output=frames[rows, place.clamp(max=frames.shape[1] - 1), None])
            output = self.network(
                encoder_outputs=here, decoder_input_ids=unit[:, None], decoder_cache=cache, use_decoder_cache=True
            )
            cache, logits = output.decoder_cache, output.logits[:, -1].float()
            vocabulary = self.network.config.vocab_size
            unit = torch.where(running, logits[:, :vocabulary].argmax(-1), self.blank)
            forward = durations[logits[:, vocabulary:].argmax(-1)]
            writes = running & (unit != self.blank)
            written[rows[writes], count[writes]] = unit[writes]
            count = count + writes
            place = place + torch.where(running, torch.where(writes, forward, forward.clamp(min=1)), 0)
            running = running & (place < ends) & (count < most)
        return [row[:n] for row, n in zip(written.tolist(), count.tolist(), strict=True)]

    def text(self, ids: Sequence[int]) -> str:
        """The transcript that units spell; equal neighbours are two units."""
        return self.spelling.text(ids)


FAMILY = ParakeetTdt
