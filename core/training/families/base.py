"""The interface of a speech recogniser: all that batching, training, evaluation, merging and `lora-cli` know of one.

A family is a class below `SpeechModel`. Features, outputs of the encoder and prompts are its own business: what
`encode` gives is only handed back to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.audio.samples import SAMPLE_RATE_HZ
from core.errors import ModelError
from core.plan.families import (
    FamilyFacts,
    known_languages,
    no_audio_context,
    no_divergence,
    unlisted_languages,
    wrong_language,
)
from core.runs.scores import Decoding
from core.training.loss import Predicted

Samples = NDArray[np.float32]

EXTRA_TOKENS = 2
SCORING_PRECISION = "fp32"
"""Of every score, whatever the training steps compute in. In bf16 a word in some hundreds depends on the kernels, which
differ between a batch of one and a batch of many, so that no transcript could be relied on to be the same again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the model can hear and say at most. By the model alone."""

    tokens_per_second: float
    """More are no transcript of speech, but a model that repeats itself."""
    max_tokens: int
    """Of one transcript: positions of the decoder, prompt and EOS not counted."""
    max_seconds: float
    """Longest clip in one piece; longer audio is cut at pauses."""

    def tokens(self, samples: int) -> int:
        """The cap for a clip of so many samples at 16 kHz."""
        seconds = samples / SAMPLE_RATE_HZ
        return max(1, min(self.max_tokens, int(self.tokens_per_second * seconds) + EXTRA_TOKENS))


@dataclass(kw_only=True, eq=False)
class SpeechModel(ABC):
    """A loaded model with its processor. `network` is a transformers model or a peft model around one.

    What a clip gives never depends on the other clips of its batch: features are extracted clip by clip and then
    padded, and `prepare` cures layers that would see the padding.
    """

    network: Any
    processor: Any
    facts: FamilyFacts
    limits: Limits
    device: torch.device
    precision: str
    """Of training steps: fp32, or bf16 (autocast over fp32 weights)."""
    language: str | None = None
    """Of the clips that name none themselves."""
    task: str | None = None
    lifted: tuple[int, ...] = ()
    """Tokens that the model's generation config bans, and that may be written because training texts have them."""

    beams: int = 1
    """Hypotheses of the beam search that decodes; 1: greedy."""
    audio_context: float | None = None
    """Seconds of silence after a clip that are heard with it; None: as many as the family's window has."""

    targets_version: ClassVar[int] = 1
    """Raised when the targets of a text change, so that losses and adapters of before are told apart."""

    @classmethod
    def opened(
        cls,
        network: Any,
        processor: Any,
        facts: FamilyFacts,
        device: torch.device,
        precision: str,
        language: str | None = None,
        task: str | None = None,
    ) -> Self:
        """The family around a network that was just loaded, cured of what its padding leaks. Raises ModelError."""
        check_language(network, processor, facts, language, task)
        cls.take_language(network, processor, language)
        cls.prepare(network)
        return cls(
            network=network,
            processor=processor,
            facts=facts,
            limits=cls.limits_of(network, processor, facts),
            device=device,
            precision=precision,
            language=language,
            task=task,
        )

    @classmethod
    def take_language(cls, network: Any, processor: Any, language: str | None) -> None:
        """Change network and processor in place to those of `language`, where each language has its own."""
        return  # most are told the language with each clip, or hear it

    @classmethod
    def prepare(cls, network: Any) -> None:
        """Change the network in place so that a clip is heard alone and padded alike. Parameters keep their names."""
        return  # most leak nothing

    @classmethod
    @abstractmethod
    def limits_of(cls, network: Any, processor: Any, facts: FamilyFacts) -> Limits:
        """What the model can hear and say at most."""

    @abstractmethod
    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """Inputs of the encoder for normalised 16 kHz clips, each (samples,), on the device: (clips, …) each.

        Audio only; in fp32, and outside of autocast.
        """

    @abstractmethod
    def encode(self, features: dict[str, Tensor], languages: Sequence[str | None] | None = None) -> Any:
        """What `summed_loss` and `decode` need of a batch, with each clip's language where it has one of its own.

        Opaque; both may use it, one after the other.
        """

    @abstractmethod
    def targets(self, text: str, language: str | None = None) -> list[int]:
        """The units that the loss is over for a transcript, as the model's own training had them."""

    @abstractmethod
    def summed_loss(self, encoded: Any, targets: Sequence[Sequence[int]]) -> Tensor:
        """Nats in fp32, summed over all units of `targets`, as many as they are long; an empty row counts nothing."""

    def predicted(self, encoded: Any, targets: Sequence[Sequence[int]]) -> Predicted:
        """What it says where the loss of `targets` asks it. ModelError for a family that has no such places."""
        raise ModelError(no_divergence(self.facts))

    def loss_of(self, predicted: Predicted, targets: Sequence[Sequence[int]]) -> Tensor:
        """`summed_loss` of what it said."""
        raise ModelError(no_divergence(self.facts))

    @abstractmethod
    def decode(self, encoded: Any, caps: Sequence[int]) -> list[list[int]]:
        """The transcript of each clip, of at most `caps[b]` units; neither prompt nor end is in it.

        The greedy one, or the best that `beams` find where `facts.beams` says that the family can.
        """

    def unfit(self, targets: Sequence[int], samples: int) -> str | None:
        """Why a clip of so many samples cannot have these targets; None: it can."""
        if len(targets) > self.limits.max_tokens + 1:  # EOS
            return f"more than the model's {self.limits.max_tokens} tokens"
        return None

    def text(self, ids: Sequence[int]) -> str:
        """The transcript that units spell."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def allowing(self, tokens: Iterable[int]) -> Self:
        """The same model, that may write those of `tokens` which its generation config bans."""
        return self

    @property
    def prompted(self) -> tuple[int, ...]:
        """The prompt of a clip that names no language, where the family has a choice of prompts; else empty."""
        return ()

    @property
    def decoding(self) -> Decoding:
        """How its transcripts are written, as score documents have it."""
        return Decoding(
            method="greedy" if self.beams == 1 else "beam",
            tokens_per_second=self.limits.tokens_per_second,
            max_tokens=self.limits.max_tokens,
            lifted=self.lifted,
            language=self.language,
            task=self.task,
            prompt=self.prompted,
            targets=self.targets_version,
            beams=self.beams,
            audio_context=self.audio_context,
        )

    def check_languages(self, clips: Iterable[str | None] = (None,)) -> None:
        """Raise ModelError unless it can be told its language and task, and the languages that clips name."""
        check_language(self.network, self.processor, self.facts, self.language, self.task, clips)

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def family(self) -> str:
        """The family's name in `core.plan.families`."""
        return self.facts.name

    def autocast(self) -> Any:
        """The precision as a context manager."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def for_scoring(self) -> Self:
        """The same model, to be evaluated."""
        return replace(self, precision=SCORING_PRECISION)

    def with_beams(self, beams: int) -> Self:
        """The same model, to decode by beam search of so many hypotheses. Raises ModelError where it cannot."""
        if beams > 1 and not self.facts.beams:
            raise ModelError(f"beams = {beams}: {self.facts.name} models are decoded greedily; ask for 1, or for none")
        return replace(self, beams=beams)

    def hearing(self, audio_context: float | None) -> Self:
        """The same model, to hear a clip and so many seconds after it in place of its window. ModelError: it cannot."""
        if audio_context is not None and not self.facts.audio_context:
            raise ModelError(no_audio_context(self.facts))
        return replace(self, audio_context=audio_context)

    @property
    def spectrogram(self) -> tuple[int, int] | None:
        """Which axes of its `input_features` are time and frequency; None: this model hears samples."""
        heard = getattr(self.processor.feature_extractor, "model_input_names", ())
        return self.facts.spectrogram if "input_features" in heard else None

    def encoder_seconds(self, seconds: float) -> float:
        """What the encoder computes over for a clip of so many seconds, padding included."""
        return self.limits.max_seconds if self.facts.windowed else seconds

    def capped_at(self, tokens_per_second: float) -> Self:
        """The same model with another cap."""
        return replace(self, limits=replace(self.limits, tokens_per_second=tokens_per_second))


def check_language(
    network: Any,
    processor: Any,
    facts: FamilyFacts,
    language: str | None,
    task: str | None,
    clips: Iterable[str | None] = (),
) -> None:
    """Raise ModelError unless a model can be told this language and task, and those that clips name."""
    found = getattr(network, "generation_config", None)
    generation = {} if found is None else found.to_dict()
    own = getattr(processor.tokenizer, "language", None)
    if unlisted := unlisted_languages(facts, network.config.to_dict(), generation, own):
        raise ModelError(unlisted)
    vocabulary = getattr(processor.tokenizer, "vocab", None) if facts.language == "single" else None
    known = known_languages(facts, generation, vocabulary)
    wrong = wrong_language(facts, known, language, task, clips)
    if wrong is not None:
        raise ModelError(wrong)


def padded(rows: Sequence[Tensor], minimum: int = 0) -> tuple[Tensor, Tensor]:
    """Rows (length, …) right-padded with zeros to one tensor (rows, longest, …), and their mask (rows, longest)."""
    longest = max(minimum, *(len(row) for row in rows))
    values = rows[0].new_zeros(len(rows), longest, *rows[0].shape[1:])
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for place, row in enumerate(rows):
        values[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return values, mask
