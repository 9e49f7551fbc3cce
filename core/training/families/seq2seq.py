"""Encoder–decoder recognisers: the common path of all of them, and the family of those without a module of their own.

Encoders of that family see padding in many ways (a norm over time, convolutions over the clip's end), so they run clip
by clip, and their outputs are padded: slower than a cure for each of them, and right for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from core.audio.samples import SAMPLE_RATE_HZ
from core.errors import ModelError
from core.plan.families import FamilyFacts, no_token
from core.training.decode import Encoded, Vocabulary, beam_search, decoder_logits, greedy
from core.training.families.base import Limits, Samples, SpeechModel, padded
from core.training.loss import Predicted, pad_targets, summed_cross_entropy

MINIMUM = 1024
"""Samples: shorter clips are followed by silence, for convolutions that need some."""
TOKENS_PER_SECOND = 40.0
"""No speech has more characters, 30 letters and the spaces of 8 words; each takes one token."""


@dataclass(kw_only=True, eq=False)
class Seq2Seq(SpeechModel):
    """Greedy, beam or teacher-forced decoding over one run of the encoder."""

    vocabulary: Vocabulary = field(init=False)

    def __post_init__(self) -> None:
        """Derive the vocabulary, less what is banned and was lifted."""
        found = self.own_vocabulary()
        suppressed = tuple(token for token in found.suppressed if token not in self.lifted)
        self.vocabulary = replace(found, suppressed=suppressed)

    def own_vocabulary(self) -> Vocabulary:
        """Start, end and banned tokens, as the model's generation config has them."""
        generation = self.network.generation_config
        start, eos, pad = (self._token(name) for name in ("decoder_start", "eos", "pad"))
        if eos is None:
            raise ModelError(no_token("eos_token_id"))
        every_eos = tuple(eos) if isinstance(eos, (list, tuple)) else (int(eos),)
        pad = every_eos[0] if pad is None else pad
        forced = generation.forced_bos_token_id
        size = self.network.get_output_embeddings().weight.shape[0]
        return Vocabulary(
            prefix=tuple(int(token) for token in (start, forced) if token is not None),
            eos=every_eos,
            pad=int(pad),
            suppressed=tuple(i for i in (generation.suppress_tokens or ()) if 0 <= i < size),
            suppressed_first=tuple(i for i in (generation.begin_suppress_tokens or ()) if 0 <= i < size),
        )

    def _token(self, name: str) -> Any:
        """The id of a special token; of the pad by config.json first, as the loss of its own training has it."""
        sources = [self.network.generation_config, self.network.config]
        for source in reversed(sources) if name == "pad" else sources:
            if getattr(source, f"{name}_token_id", None) is not None:
                return getattr(source, f"{name}_token_id")
        return None

    @classmethod
    def limits_of(cls, network: Any, processor: Any, facts: FamilyFacts) -> Limits:
        """By the positions of the decoder, one of which is the start token's and one EOS's."""
        config = getattr(network.config, "decoder", network.config)
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
            heard = np.pad(clip, (0, max(0, MINIMUM - len(clip))))
            one = extractor(heard, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
            name = "input_features" if "input_features" in one else "input_values"
            # a clip without any sound has no variance to be divided by
            rows.append(one[name][0].nan_to_num(0.0, 0.0, 0.0))
        values, mask = padded(rows)
        return {name: values.to(self.device), "attention_mask": mask.to(self.device)}

    def encode(self, features: dict[str, Tensor], languages: Sequence[str | None] | None = None) -> Encoded:
        """Encoder outputs, and what each clip's transcript begins with."""
        outputs = self.network.get_encoder()(**features, return_dict=True)
        prompts = self.prompts_of(len(next(iter(features.values()))), languages)
        return Encoded(outputs, features.get("attention_mask"), prompts)

    def prompts_of(self, clips: int, languages: Sequence[str | None] | None) -> tuple[tuple[int, ...], ...]:
        """What the decoder is given before it writes, for each clip."""
        return tuple(self.prompt(language) for language in languages or [None] * clips)

    def prompt(self, language: str | None = None) -> tuple[int, ...]:
        """What the decoder is given before it writes, for a clip in `language`; of one length for all languages."""
        if not self.vocabulary.prefix:
            raise ModelError(no_token("decoder_start_token_id"))
        return self.vocabulary.prefix

    def targets(self, text: str, language: str | None = None) -> list[int]:
        """Tokens of the text and EOS."""
        # a transcript that spells a special token means its letters, never the end of the text
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [*ids, self.vocabulary.eos[0]]

    def summed_loss(self, encoded: Encoded, targets: Sequence[Sequence[int]]) -> Tensor:
        """Cross-entropy of the tokens, each after the true ones before it."""
        return self.loss_of(self.predicted(encoded, targets), targets)

    def predicted(self, encoded: Encoded, targets: Sequence[Sequence[int]]) -> Predicted:
        """The logits of each token, after the true ones before it."""
        inputs, wanted, lengths = pad_targets(targets, encoded.prompts, self.vocabulary.pad)
        if not inputs.shape[1]:  # no target, and a prompt of one token: a decoder must hear something
            inputs = torch.tensor(encoded.prompts)
        logits = decoder_logits(self.network, encoded, inputs.to(self.device), use_cache=False).logits
        first = len(encoded.prompts[0]) - 1
        return Predicted(logits[:, first : first + wanted.shape[1]], lengths.to(self.device))

    def loss_of(self, predicted: Predicted, targets: Sequence[Sequence[int]]) -> Tensor:
        """Cross-entropy of the tokens."""
        _, wanted, _ = pad_targets(targets, [(0,)] * len(targets), self.vocabulary.pad)
        return summed_cross_entropy(predicted.logits, wanted.to(self.device), predicted.lengths)

    def decode(self, encoded: Encoded, caps: Sequence[int]) -> list[list[int]]:
        """The most likely token at each place, until EOS or the cap; or the best of some hypotheses."""
        if self.beams > 1:
            return beam_search(self.network, encoded, self.vocabulary, caps, self.beams)
        return greedy(self.network, encoded, self.vocabulary, caps)

    def allowing(self, tokens: Iterable[int]) -> Self:
        """The same model, that may write those of `tokens` which its generation config bans."""
        more = set(tokens).intersection(self.vocabulary.suppressed)
        return replace(self, lifted=tuple(sorted({*self.lifted, *more})))


@dataclass(kw_only=True, eq=False)
class ClipByClip(Seq2Seq):
    """The family of the encoder–decoders that have no module of their own."""

    def encode(self, features: dict[str, Tensor], languages: Sequence[str | None] | None = None) -> Encoded:
        """Encoder outputs of each clip alone, padded; the decoder is told where each ends."""
        from transformers.modeling_outputs import BaseModelOutput

        mask = features["attention_mask"]
        rows: list[Tensor] = []
        prompts: list[tuple[int, ...]] = []
        for row, length in enumerate(mask.sum(-1).tolist()):
            alone = {name: values[row : row + 1, :length] for name, values in features.items()}
            one = super().encode(alone, languages[row : row + 1] if languages else None)
            rows.append(one.outputs["last_hidden_state"][0])
            prompts += one.prompts
        hidden, _ = padded(rows)
        return Encoded(BaseModelOutput(last_hidden_state=hidden), mask, tuple(prompts))


FAMILY = ClipByClip
