"""Encoder–decoder recognisers: the common path of all of them, and the family of those that need nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from torch import Tensor

from core.audio.samples import SAMPLE_RATE_HZ
from core.plan.families import FamilyFacts
from core.training.decode import Encoded, Vocabulary, decoder_logits, greedy
from core.training.families.base import Limits, Samples, SpeechModel, padded
from core.training.loss import pad_targets, summed_cross_entropy

TOKENS_PER_SECOND = 40.0
"""No speech has more characters, 30 letters and the spaces of 8 words; each takes one token."""


@dataclass(kw_only=True, eq=False)
class Seq2Seq(SpeechModel):
    """Greedy or teacher-forced decoding over one run of the encoder."""

    vocabulary: Vocabulary = field(init=False)

    def __post_init__(self) -> None:
        """Derive the vocabulary, less what is banned and was lifted."""
        found = self.own_vocabulary()
        suppressed = tuple(token for token in found.suppressed if token not in self.lifted)
        self.vocabulary = replace(found, suppressed=suppressed)

    def own_vocabulary(self) -> Vocabulary:
        """Start, end and banned tokens, as the model's generation config has them."""
        config, generation = self.network.config, self.network.generation_config
        start = generation.decoder_start_token_id
        if start is None:
            start = config.decoder_start_token_id
        eos = generation.eos_token_id if generation.eos_token_id is not None else config.eos_token_id
        every_eos = tuple(eos) if isinstance(eos, (list, tuple)) else (int(eos),)
        pad = config.pad_token_id if config.pad_token_id is not None else every_eos[0]
        size = self.network.get_output_embeddings().weight.shape[0]
        return Vocabulary(
            prefix=() if start is None else (int(start),),
            eos=every_eos,
            pad=int(pad),
            suppressed=tuple(i for i in (generation.suppress_tokens or ()) if 0 <= i < size),
            suppressed_first=tuple(i for i in (generation.begin_suppress_tokens or ()) if 0 <= i < size),
        )

    @classmethod
    def limits_of(cls, network: Any, processor: Any, facts: FamilyFacts) -> Limits:
        """By the positions of the decoder, one of which is the start token's and one EOS's."""
        config = network.config
        positions = (
            getattr(config, "max_target_positions", None) or getattr(config, "max_position_embeddings", None) or 448
        )
        seconds = facts.max_seconds(getattr(processor.feature_extractor, "chunk_length", None))
        return Limits(cls.tokens_per_second(network), max_tokens=int(positions) - 2, max_seconds=seconds)

    @classmethod
    def tokens_per_second(cls, network: Any) -> float:
        """What no transcript of speech needs, by the model alone.

        The cap ends a model that repeats itself, nothing else: by the training data it would cut evaluation speech that
        is faster than theirs, alike before and after training.
        """
        return TOKENS_PER_SECOND

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """Whatever its feature extractor makes of each clip alone, right-padded with zeros, with the mask."""
        extractor = self.processor.feature_extractor
        rows = []
        for clip in clips:
            one = extractor(clip, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
            name = "input_features" if "input_features" in one else "input_values"
            rows.append(one[name][0])
        values, mask = padded(rows)
        return {name: values.to(self.device), "attention_mask": mask.to(self.device)}

    def encode(self, features: dict[str, Tensor], languages: Sequence[str | None] | None = None) -> Encoded:
        """Encoder outputs, and what each clip's transcript begins with."""
        outputs = self.network.get_encoder()(**features, return_dict=True)
        count = len(next(iter(features.values())))
        prompts = tuple(self.prompt(language) for language in languages or [None] * count)
        return Encoded(outputs, features.get("attention_mask"), prompts)

    def prompt(self, language: str | None = None) -> tuple[int, ...]:
        """What the decoder is given before it writes, for a clip in `language`; of one length for all languages."""
        return self.vocabulary.prefix

    def targets(self, text: str, language: str | None = None) -> list[int]:
        """Tokens of the text and EOS."""
        # a transcript that spells a special token means its letters, never the end of the text
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [*ids, self.vocabulary.eos[0]]

    def summed_loss(self, encoded: Encoded, targets: Sequence[Sequence[int]]) -> Tensor:
        """Cross-entropy of the tokens, each after the true ones before it."""
        inputs, wanted, lengths = (
            tensor.to(self.device) for tensor in pad_targets(targets, encoded.prompts, self.vocabulary.pad)
        )
        logits = decoder_logits(self.network, encoded, inputs, use_cache=False).logits
        return summed_cross_entropy(logits[:, len(encoded.prompts[0]) - 1 :], wanted, lengths)

    def decode(self, encoded: Encoded, caps: Sequence[int]) -> list[list[int]]:
        """The most likely token at each place, until EOS or the cap."""
        return greedy(self.network, encoded, self.vocabulary, caps)

    def allowing(self, tokens: Iterable[int]) -> Self:
        """The same model, that may write those of `tokens` which its generation config bans."""
        more = set(tokens).intersection(self.vocabulary.suppressed)
        return replace(self, lifted=tuple(sorted({*self.lifted, *more})))


FAMILY = Seq2Seq
