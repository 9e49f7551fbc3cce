"""What a new plan begins with for a model of some family, each value with its reason. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from core.plan.families import FamilyFacts
from core.plan.schema import TrainSettings

WINDOWS = 16
"""Clips of a family with windows that a batch begins with: 480 s of encoder input."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A value for a key, and why it is that."""

    key: str
    value: Any
    why: str


def family_defaults(
    facts: FamilyFacts,
    languages: Collection[str],
    max_seconds: float,
    train_s: Sequence[float],
    steps: int,
    epochs: float,
) -> list[Chosen]:
    """Values that fit the family, by dotted key.

    `languages`: those that the model can be told; `max_seconds`: the longest clip that it hears; `train_s`: seconds of
    the training clips, gone through `epochs` times in `steps`.
    """
    found = [
        Chosen("data.max_seconds", max_seconds, "The model hears no longer clip in one piece."),
        Chosen(
            "train.learning_rate",
            TrainSettings().learning_rate,
            "Adapters of speech models are trained at 1e-4 to 1e-3; from 2e-4 on, runs have forgotten ordinary speech.",
        ),
    ]
    if facts.language == "required" and not languages:
        why = "An English model that writes numbers in digits and short forms: no spelling of them counts as an error."
        found.append(Chosen("data.normaliser", "whisper_english", why))
    if facts.decoder is not None and facts.default_sites != "both":
        found.append(
            Chosen(
                "adapter.sites",
                facts.default_sites,
                "The other part has heard far more speech than an adapter could show it."
                if facts.default_sites == "decoder"
                else "The other part knows words only; sounds are learnt here.",
            )
        )
    if facts.windowed:
        every = f"Each clip costs the encoder {max_seconds:g} s, whatever its length"
        found.append(Chosen("train.eval_batch_seconds", WINDOWS * max_seconds, f"{every}: this is {WINDOWS} clips."))
        clips = math.ceil(len(train_s) * epochs / steps)
        if clips > WINDOWS:
            what = f"a step has {clips} clips of training speech, so that a micro-batch has at most {WINDOWS}."
            found.append(Chosen("train.accumulation", math.ceil(clips / WINDOWS), f"{every}: {what}"))
    return found
