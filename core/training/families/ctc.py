"""CTC: an encoder with a head that writes a unit or nothing (blank) at each frame; wav2vec2, HuBERT, Parakeet-CTC, ….

The blank is the tokenizer's padding token, as in transformers. A transcript is the most likely unit of each frame,
repeated ones once, without blanks.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from core.audio.samples import SAMPLE_RATE_HZ
from core.errors import ModelError
from core.plan.families import LANGUAGE_MISSING, FamilyFacts, no_weights_of, wrong_blank
from core.training.families.base import Limits, Samples, SpeechModel, padded
from core.training.loss import Predicted
from core.training.padding import hear_own_frames

MINIMUM_SAMPLES = 640
"""40 ms: shorter clips are followed by silence, so that every encoder makes a frame of them."""
MEASURED_SECONDS = 10
"""Of silence, whose frames tell how many a second has."""


class Spelling:
    """How a text is written in the characters of a vocabulary."""

    def __init__(self, tokenizer: Any, units: int) -> None:
        self.tokenizer, self.units = tokenizer, units
        special = set(tokenizer.all_special_tokens)
        self.characters = {c for token in tokenizer.get_vocab() if token not in special for c in token} | {" "}
        self.delimiter = getattr(tokenizer, "word_delimiter_token", None)
        self.characters -= set(self.delimiter or "")
        self.unknown = tokenizer.unk_token_id
        # not all_special_ids: the word delimiter is one of them
        self.silent = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}

    def character(self, character: str) -> str:
        """The character as the vocabulary has it, a space for what separates words, nothing for other signs.

        A letter, digit or mark that the vocabulary lacks stays: its unit is the unknown one.
        """
        known = self.characters
        forms = (character, character.lower(), character.upper(), unicodedata.normalize("NFKC", character))
        for form in (*forms, {"’": "'", "ʼ": "'", "‘": "'"}.get(character, "")):
            if form and set(form) <= known:
                return form
        kind = unicodedata.category(character)
        if kind[0] in "LNM":
            return character
        return " " if kind[0] == "Z" or kind == "Pd" or character in "/|_\n\t" else ""

    def ids(self, text: str) -> list[int]:
        """The units of a text; signs that the vocabulary lacks have none, letters that it lacks the unknown one."""
        spelt = " ".join("".join(map(self.character, unicodedata.normalize("NFC", text))).split())
        # a transcript that spells a special token means its letters, never a blank
        ids = self.tokenizer(spelt, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        kept = (self.unknown if i is None or i >= self.units else i for i in ids)
        return [int(i) for i in kept if i is not None and i not in self.silent]

    def problem(self, ids: Sequence[int]) -> str | None:
        """Why these units cannot be learnt; None: they can."""
        if self.unknown in ids:
            return "letters or digits that the model's vocabulary lacks"
        return None if ids else "no character that the model's vocabulary has"

    def text(self, ids: Sequence[int]) -> str:
        """The transcript that units spell; equal neighbours are two units."""
        spoken = [i for i in ids if i not in self.silent and i != self.unknown]
        special = self.delimiter is None  # which is one of them, and a space
        return str(self.tokenizer.decode(spoken, group_tokens=False, skip_special_tokens=special)).strip()


@dataclass(kw_only=True, eq=False)
class Ctc(SpeechModel):
    """One run of the encoder and its head gives loss and transcript."""

    spelling: Spelling = field(init=False)
    blank: int = field(init=False)

    def __post_init__(self) -> None:
        """Read blank and vocabulary off the tokenizer. Raises ModelError when the model means another blank."""
        config, blank = self.network.config, self.tokenizer.pad_token_id
        if wrong := wrong_blank(config.pad_token_id, config.vocab_size, blank):
            raise ModelError(wrong)
        self.blank = int(blank)
        self.spelling = Spelling(self.tokenizer, config.vocab_size)

    @classmethod
    def take_language(cls, network: Any, processor: Any, language: str | None) -> None:
        """Where a model has weights and a vocabulary for each language (MMS), it takes those of `language`."""
        take_language(network, processor.tokenizer, language)

    @classmethod
    def prepare(cls, network: Any) -> None:
        """No convolution or norm over time may see padding."""
        hear_own_frames(network)

    @classmethod
    def limits_of(cls, network: Any, processor: Any, facts: FamilyFacts) -> Limits:
        """A frame writes one unit at most, so that nothing is ever cut off."""
        longest = facts.max_seconds()
        rate = frame_rate(network, processor)
        return Limits(rate, max_tokens=int(rate * longest) + 1, max_seconds=longest)

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """Samples or log-mel frames, of each clip alone, right-padded with zeros, with the mask."""
        return {name: tensor.to(self.device) for name, tensor in alone(self.processor.feature_extractor, clips).items()}

    def encode(self, features: dict[str, Tensor], languages: Sequence[str | None] | None = None) -> Predicted:
        """Logits of all units at each frame."""
        return Predicted(self.network(**features).logits, frames_of(self.network, features["attention_mask"]))

    def targets(self, text: str, language: str | None = None) -> list[int]:
        """The text's units, in the letters that the vocabulary has."""
        return self.spelling.ids(text)

    def unfit(self, targets: Sequence[int], samples: int) -> str | None:
        """No alignment has fewer frames than units, and one more between two equal ones."""
        if problem := self.spelling.problem(targets):
            return problem
        needed = len(targets) + sum(one == other for one, other in pairwise(targets))
        # a clip is measured only where a low estimate leaves it open
        low = 0.8 * self.limits.tokens_per_second * samples / SAMPLE_RATE_HZ - 4
        if needed > low and needed > self._frames(samples):
            return "more target units than frames, so that no CTC alignment exists"
        return None

    def _frames(self, samples: int) -> int:
        silence = np.zeros(samples, dtype=np.float32)
        mask = alone(self.processor.feature_extractor, [silence])["attention_mask"]
        return int(frames_of(self.network, mask))

    def summed_loss(self, encoded: Predicted, targets: Sequence[Sequence[int]]) -> Tensor:
        """Minus the log of the probability of all alignments.

        On the CPU: the backward pass of CUDA's ctc_loss is not deterministic, and its share of a step is small.
        """
        return self.loss_of(self.predicted(encoded, targets), targets)

    def predicted(self, encoded: Predicted, targets: Sequence[Sequence[int]]) -> Predicted:
        """The logits of each frame, which no targets move."""
        return encoded

    def loss_of(self, predicted: Predicted, targets: Sequence[Sequence[int]]) -> Tensor:
        """Minus the log of the probability of all alignments."""
        rows = [row for row, ids in enumerate(targets) if ids]
        logits = predicted.logits[rows].float()
        if not rows:
            return logits.sum()
        wanted, mask = padded([torch.tensor(targets[row]) for row in rows])
        with torch.autocast("cpu", enabled=False):
            losses = ctc_loss(
                logits.log_softmax(-1).transpose(0, 1).cpu(),
                wanted,
                predicted.lengths[rows].cpu(),
                mask.sum(-1),
                blank=self.blank,
                reduction="sum",
                zero_infinity=True,  # of a clip that augmentation played too fast for its text
            )
        return losses.to(logits.device)

    def decode(self, encoded: Predicted, caps: Sequence[int]) -> list[list[int]]:
        """The most likely unit of each of a clip's frames, repeated ones once, without blanks."""
        best = encoded.logits.argmax(-1).cpu()
        written = []
        for row, frames, cap in zip(best, encoded.lengths.tolist(), caps, strict=True):
            units = torch.unique_consecutive(row[:frames])
            written.append(units[units != self.blank][:cap].tolist())
        return written

    def text(self, ids: Sequence[int]) -> str:
        """The transcript that units spell; equal neighbours are meant, since a blank stood between them."""
        return self.spelling.text(ids)


def take_language(network: Any, tokenizer: Any, language: str | None) -> None:
    """Give network and tokenizer the weights and units of a language, in place. ModelError: they lack them."""
    now = getattr(tokenizer, "target_lang", None)
    several = all(isinstance(units, dict) for units in getattr(tokenizer, "vocab", {"": 0}).values())
    if not several or (now is not None and language in (None, now)):
        return
    if language is None:
        raise ModelError(LANGUAGE_MISSING)
    tokenizer.set_target_lang(language)
    try:
        network.load_adapter(language, use_safetensors=True, revision=getattr(network.config, "_commit_hash", None))
    except (OSError, ValueError) as error:
        raise ModelError(f"{no_weights_of(str(language))} ({' '.join(str(error).split())[:200]})") from error
    network.requires_grad_(False).eval()


def alone(extractor: Any, clips: Sequence[Samples]) -> dict[str, Tensor]:
    """What the feature extractor makes of each clip alone, right-padded with zeros, and the mask of its own frames.

    In a batch the last digits of Parakeet's features differ. Frames that an extractor adds and masks are left out.
    """
    rows, name = [], ""
    for clip in clips:
        whole = np.pad(clip, (0, max(0, MINIMUM_SAMPLES - len(clip))))
        one = extractor([whole], sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", return_attention_mask=True)
        name = "input_features" if "input_features" in one else "input_values"
        rows.append(one[name][0, : int(one["attention_mask"].sum())])
    values, mask = padded(rows)
    return {name: values, "attention_mask": mask}


def frames_of(network: Any, mask: Tensor) -> Tensor:
    """Encoder frames of clips with this mask of features (clips, …), as transformers counts them: (clips,)."""
    mel = hasattr(network, "_get_subsampling_output_length")
    count = network._get_subsampling_output_length if mel else network._get_feat_extract_output_lengths
    frames: Tensor = count(mask.sum(-1))
    return frames.long()


def frame_rate(network: Any, processor: Any) -> float:
    """Encoder frames of a second, rounded up."""
    silence = np.zeros(MEASURED_SECONDS * SAMPLE_RATE_HZ, dtype=np.float32)
    frames = frames_of(network, alone(processor.feature_extractor, [silence])["attention_mask"])
    return float(math.ceil(int(frames) / MEASURED_SECONDS))


FAMILY = Ctc
