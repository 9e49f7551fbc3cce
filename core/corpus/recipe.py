"""The recipe of the synthetic speech corpus, and the plan of utterances that follows from it."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.corpus.synth import Prosody
from core.corpus.texts import Vocabulary, make_texts

Range = tuple[float, float]

LIMITS: dict[str, Range] = {
    "rate_wpm": (80, 450),
    "pitch": (0, 100),
    "pitch_range": (0, 100),
    "snr_db": (-20, 100),
    "level_rms": (0.001, 0.5),
    "band_hz": (1, 8000),
}
"""What espeak-ng and a 16-bit file can take."""


@dataclass(frozen=True)
class SetRecipe:
    """How one set is made. Ranges are drawn from uniformly, once an utterance."""

    name: str
    count: int
    texts: str
    accents: tuple[str, ...]
    voices: str
    rate_wpm: Range
    pitch: Range
    pitch_range: Range
    snr_db: Range
    level_rms: Range
    random_share: float = 0.0
    band_hz: Range | None = None
    """The band that the set's microphones pass, noise included: radios and intercoms cut the lows. None: all of it."""
    everyday: str | None = None
    """Other texts, of which the share `everyday_share` of the utterances is made: nobody talks shop all day."""
    everyday_share: float = 0.0
    evaluation: bool = False
    """Shares no text and no voice variant with any other set."""
    on_request: bool = False


@dataclass(frozen=True)
class Recipe:
    """A checked recipe with its texts read."""

    path: Path
    seed: int
    vocabularies: dict[str, Vocabulary]
    voices: dict[str, tuple[str, ...]]
    sets: dict[str, SetRecipe]


@dataclass(frozen=True)
class Utterance:
    """Everything that decides the bytes of one audio file."""

    id: str
    text: str
    accent: str
    speaker: str
    prosody: Prosody
    snr_db: float
    level_rms: float
    seed: tuple[int, ...]
    band_hz: Range | None = None


def plan_corpus(recipe: Recipe) -> dict[str, list[Utterance]]:
    """The utterances of every set. Evaluation sets come first, so other sets' sizes never change them."""
    taken: set[str] = set()
    in_order = sorted(recipe.sets.values(), key=lambda one: not one.evaluation)
    rngs = {one.name: np.random.default_rng(_seed(recipe, one)) for one in in_order}
    texts = {
        one.name: make_texts(
            recipe.vocabularies[one.texts], one.count - _everyday(one), one.random_share, rngs[one.name], taken
        )
        for one in in_order
    }
    for one in in_order:
        # after all the others, so that a set's everyday share changes no other set
        if one.everyday and _everyday(one):
            rng = rngs[one.name]
            texts[one.name] += make_texts(recipe.vocabularies[one.everyday], _everyday(one), 0.0, rng, taken)
            texts[one.name] = [texts[one.name][i] for i in rng.permutation(one.count)]
    return {one.name: _plan_set(recipe, one, texts[one.name], rngs[one.name]) for one in in_order}


def _seed(recipe: Recipe, one: SetRecipe) -> tuple[int, ...]:
    return (recipe.seed, zlib.crc32(one.name.encode()))


def _everyday(one: SetRecipe) -> int:
    """How many utterances are made of everyday texts."""
    return round(one.count * one.everyday_share) if one.everyday else 0


def _plan_set(recipe: Recipe, one: SetRecipe, texts: list[str], rng: np.random.Generator) -> list[Utterance]:
    set_seed = _seed(recipe, one)
    speakers = [(accent, variant) for accent in one.accents for variant in recipe.voices[one.voices]]
    order = [i for _ in range(math.ceil(one.count / len(speakers))) for i in rng.permutation(len(speakers))]
    utterances = []
    for index, text in enumerate(texts):
        accent, variant = speakers[order[index]]
        rate, pitch, pitch_range = (round(rng.uniform(*drawn)) for drawn in (one.rate_wpm, one.pitch, one.pitch_range))
        utterances.append(
            Utterance(
                id=f"{one.name}_{index + 1:05d}",
                text=text,
                accent=accent,
                speaker=f"{accent}+{variant}",
                prosody=Prosody(rate, pitch, pitch_range),
                snr_db=round(rng.uniform(*one.snr_db), 1),
                level_rms=round(rng.uniform(*one.level_rms), 4),
                seed=(*set_seed, index),
                band_hz=one.band_hz,
            )
        )
    return utterances
