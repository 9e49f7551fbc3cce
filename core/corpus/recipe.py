"""The recipe of the embedded speech: sentences, the TOML, checked whole, and the plan of utterances that follows."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from core.corpus.synth import Prosody
from core.errors import UserError

# Sentences, drawn by a seed from lists of words and patterns (`data/texts/*.toml`)
#
# Words are dealt from shuffled decks, not drawn, so that every word of a list is used about equally often.

WORD = re.compile(r"[a-z]+('[a-z]+)?")
SLOT = re.compile(r"\{(\w+)\}")
MIN_WORDS, MAX_WORDS = 4, 9
RANDOM_MIN_WORDS, RANDOM_MAX_WORDS = 3, 8
RANDOM_DEALS = 6
"""One deck in so many for random strings holds every word; the others even out what the patterns use seldom."""
TRIES_PER_SENTENCE = 200
"""After so many repeats in a row the patterns are taken to be used up."""


@dataclass(frozen=True)
class Vocabulary:
    """The word lists and sentence patterns of one file."""

    path: Path
    lists: dict[str, tuple[str, ...]]
    patterns: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """Every distinct word of the lists, in the order of the file."""
        return tuple(dict.fromkeys(word for words in self.lists.values() for word in words))


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of `path`, checked: known lists only, well-formed words, patterns of a fitting length."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: this file of texts is missing; restore it or mend [texts] in the recipe") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as TOML: {error}") from None
    words = _table(path, document, "words")
    lists = {name: tuple(_text(path, f"words.{name}", value).split()) for name, value in words.items()}
    sentences = _text(path, "patterns.sentences", _table(path, document, "patterns").get("sentences"))
    vocabulary = Vocabulary(path, lists, tuple(line for line in map(str.strip, sentences.splitlines()) if line))
    _check(vocabulary)
    return vocabulary


def _table(path: Path, document: dict[str, Any], key: str) -> dict[str, Any]:
    table = document.get(key)
    if not isinstance(table, dict):
        raise UserError(f"{path}: the table [{key}] is missing")
    return table


def _text(path: Path, key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{path}: {key} must be a text that holds at least one word")
    return value


def _check(vocabulary: Vocabulary) -> None:
    for name, words in vocabulary.lists.items():
        for word in words:
            if not WORD.fullmatch(word):
                raise UserError(f'{vocabulary.path}: words.{name}: "{word}" must be of a–z, one apostrophe inside')
    for pattern in vocabulary.patterns:
        for token in pattern.split():
            slot = SLOT.fullmatch(token)
            if slot and slot[1] not in vocabulary.lists:
                raise UserError(f'{vocabulary.path}: pattern "{pattern}": there is no list {slot[1]} in [words]')
            if not slot and not WORD.fullmatch(token):
                raise UserError(f'{vocabulary.path}: pattern "{pattern}": "{token}" is neither a word nor a {{list}}')
        if not MIN_WORDS <= len(pattern.split()) <= MAX_WORDS:
            raise UserError(f'{vocabulary.path}: pattern "{pattern}" must have {MIN_WORDS} to {MAX_WORDS} words')


class _Deck:
    """Deals its cards in random order, each once, then shuffles again."""

    def __init__(self, cards: Sequence[str], rng: np.random.Generator) -> None:
        self._cards = cards
        self._rng = rng
        self._left: list[str] = []

    def deal(self) -> str:
        if not self._left:
            self._left = [self._cards[i] for i in self._rng.permutation(len(self._cards))]
        return self._left.pop()


def make_texts(
    vocabulary: Vocabulary, count: int, random_share: float, rng: np.random.Generator, taken: set[str]
) -> list[str]:
    """`count` distinct texts, none of them in `taken`, which they are added to.

    The share `random_share` of them are random word strings, which even out how often each word is used.
    """
    random_count = round(count * random_share)
    sentences = _take(_pattern_sentences(vocabulary, rng), count - random_count, taken, vocabulary)
    used = Counter(word for sentence in sentences for word in sentence.split())
    strings = _take(_random_strings(vocabulary.words, used, rng), random_count, taken, vocabulary)
    texts = sentences + strings
    return [texts[i] for i in rng.permutation(count)]


def _take(source: Iterator[str], count: int, taken: set[str], vocabulary: Vocabulary) -> list[str]:
    texts: list[str] = []
    repeats = 0
    while len(texts) < count:
        text = next(source)
        if text in taken:
            repeats += 1
            if repeats > TRIES_PER_SENTENCE:
                raise UserError(f"{vocabulary.path}: too few words and patterns for {count} different texts: add some")
            continue
        repeats = 0
        taken.add(text)
        texts.append(text)
    return texts


def _pattern_sentences(vocabulary: Vocabulary, rng: np.random.Generator) -> Iterator[str]:
    patterns = _Deck(vocabulary.patterns, rng)
    decks = {name: _Deck(words, rng) for name, words in vocabulary.lists.items()}
    while True:
        words: list[str] = []
        for token in patterns.deal().split():
            slot = SLOT.fullmatch(token)
            word = decks[slot[1]].deal() if slot else token
            while slot and word in words and len(set(vocabulary.lists[slot[1]])) > MAX_WORDS:
                word = decks[slot[1]].deal()  # no "the fox and the fox"
            words.append(word)
        yield " ".join(_with_articles(words))


def _with_articles(words: Sequence[str]) -> Iterable[str]:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        yield "an" if word == "a" and _starts_with_vowel_sound(following) else word


def _starts_with_vowel_sound(word: str) -> bool:
    if word.startswith(("us", "uni", "once", "one")):
        return False
    return word.startswith(("a", "e", "i", "o", "u", "hon"))


def _random_strings(words: Sequence[str], used: Counter[str], rng: np.random.Generator) -> Iterator[str]:
    """Strings of 3–8 words; most decks hold only the third of the words that was used least."""
    used = Counter(used)
    deck: list[str] = []
    deals = 0
    while True:
        string: list[str] = []
        for _ in range(int(rng.integers(RANDOM_MIN_WORDS, RANDOM_MAX_WORDS + 1))):
            if not deck:
                rarest_first = sorted(words, key=lambda word: used[word])
                cards = rarest_first if deals % RANDOM_DEALS == 0 else rarest_first[: len(words) // 3]
                deck = [cards[i] for i in rng.permutation(len(cards))]
                deals += 1
            string.append(deck.pop())
        used.update(string)
        yield " ".join(string)


# The recipe

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
    more: int = 0
    """Utterances beyond `count`, made where they are asked for. They are planned after those of all sets, so that they
    change none of what was there without them."""
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


def plan_corpus(recipe: Recipe, more: bool = False) -> dict[str, list[Utterance]]:
    """The utterances of every set, with `more` those beyond its `count` too.

    Evaluation sets come first, so other sets' sizes never change them. What is beyond `count` comes last.
    """
    taken: set[str] = set()
    in_order = sorted(recipe.sets.values(), key=lambda one: not one.evaluation)
    plan: dict[str, list[Utterance]] = {one.name: [] for one in in_order}
    for sizes in [{one.name: one.count for one in in_order}] + [{one.name: one.more for one in in_order}] * more:
        rngs = {one.name: np.random.default_rng((*_seed(recipe, one), *_part(plan[one.name]))) for one in in_order}
        texts = {
            one.name: make_texts(
                recipe.vocabularies[one.texts],
                sizes[one.name] - _everyday(one, sizes[one.name]),
                one.random_share,
                rngs[one.name],
                taken,
            )
            for one in in_order
        }
        for one in in_order:
            # after all the others, so that a set's everyday share changes no other set
            if one.everyday and (everyday := _everyday(one, sizes[one.name])):
                rng = rngs[one.name]
                texts[one.name] += make_texts(recipe.vocabularies[one.everyday], everyday, 0.0, rng, taken)
                texts[one.name] = [texts[one.name][i] for i in rng.permutation(sizes[one.name])]
        for one in in_order:
            plan[one.name] += _plan_set(recipe, one, texts[one.name], rngs[one.name], len(plan[one.name]))
    return plan


def _seed(recipe: Recipe, one: SetRecipe) -> tuple[int, ...]:
    return (recipe.seed, zlib.crc32(one.name.encode()))


def _part(planned: Sequence[Utterance]) -> tuple[int, ...]:
    """What the seed of a set's further utterances has beside that of its first ones, which had none."""
    return (len(planned),) if planned else ()


def _everyday(one: SetRecipe, count: int) -> int:
    """How many of `count` utterances are made of everyday texts."""
    return round(count * one.everyday_share) if one.everyday else 0


def _plan_set(
    recipe: Recipe, one: SetRecipe, texts: list[str], rng: np.random.Generator, first: int
) -> list[Utterance]:
    """The utterances of the texts; `first`: how many the set has before them."""
    set_seed = _seed(recipe, one)
    speakers = [(accent, variant) for accent in one.accents for variant in recipe.voices[one.voices]]
    order = [i for _ in range(math.ceil(len(texts) / len(speakers))) for i in rng.permutation(len(speakers))]
    utterances = []
    for index, text in enumerate(texts, first):
        accent, variant = speakers[order[index - first]]
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


def read_recipe(path: Path) -> Recipe:
    """The recipe of `path` with its texts, checked."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe: name one with --recipe (shipped: data/recipe.toml)") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as TOML: {error}") from None
    _check_keys(path, "", document, {"seed", "texts", "voices", "sets"}, {"seed", "texts", "voices", "sets"})
    seed = document["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"{path}: seed must be a whole number of 0 or more, not {seed!r}")
    vocabularies = {
        name: read_vocabulary(path.parent / _typed(path, f"texts.{name}", str, file))
        for name, file in _typed(path, "texts", dict, document["texts"]).items()
    }
    voices = {
        name: _names(path, f"voices.{name}", group)
        for name, group in _typed(path, "voices", dict, document["voices"]).items()
    }
    sets = {
        name: _read_set(path, name, _typed(path, f"sets.{name}", dict, table))
        for name, table in _typed(path, "sets", dict, document["sets"]).items()
    }
    recipe = Recipe(path, seed, vocabularies, voices, sets)
    _check_references(recipe)
    _check_evaluation_voices(recipe)
    return recipe


def _read_set(path: Path, name: str, table: dict[str, Any]) -> SetRecipe:
    known = {field.name: field.default is MISSING for field in fields(SetRecipe) if field.name != "name"}
    where = f"sets.{name}"
    if not name.isidentifier() or not name.isascii():
        raise UserError(f'{path}: [{where}]: a set\'s name becomes a file name: use letters, digits and "_" only')
    _check_keys(path, where, table, set(known), {key for key, required in known.items() if required})
    values: dict[str, Any] = dict(table)
    for key, value in table.items():
        full = f"{where}.{key}"
        if key in LIMITS:
            values[key] = _range(path, full, value, LIMITS[key])
        elif key == "accents":
            values[key] = _names(path, full, value)
        elif key in ("count", "more"):
            values[key] = _typed(path, full, int, value)
            if not 0 <= value <= 99_999:
                raise UserError(f"{path}: {full} must be from 0 to 99999, not {value}")
        elif key in ("random_share", "everyday_share"):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise UserError(f"{path}: {full} must be a number from 0 to 1, not {value!r}")
        else:
            _typed(path, full, bool if key in ("evaluation", "on_request") else str, value)
    one = SetRecipe(name=name, **values)
    if not 1 <= one.count + one.more <= 99_999:
        raise UserError(f"{path}: {where}.count and .more together must be from 1 to 99999, not {one.count + one.more}")
    return one


def _check_keys(path: Path, where: str, table: dict[str, Any], known: set[str], required: set[str]) -> None:
    inside = f"[{where}]: " if where else ""
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, sorted(known), 1)
            hint = f'did you mean "{near[0]}"?' if near else f"known keys: {', '.join(sorted(known))}"
            raise UserError(f'{path}: {inside}unknown key "{key}": {hint}')
    missing = sorted(required - set(table))
    if missing:
        raise UserError(f"{path}: {inside}missing: {', '.join(missing)}")


def _typed(path: Path, key: str, kind: type, value: Any) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        wanted = {str: "a text", int: "a whole number", bool: "true or false", dict: "a table"}[kind]
        raise UserError(f"{path}: {key} must be {wanted}, not {value!r}")
    return value


def _names(path: Path, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise UserError(f"{path}: {key} must be a list of names, not {value!r}")
    if len(set(value)) < len(value):
        raise UserError(f"{path}: {key} names one twice")
    return tuple(value)


def _range(path: Path, key: str, value: object, limits: Range) -> Range:
    match value:
        case [int() | float() as low, int() | float() as high] if limits[0] <= low <= high <= limits[1]:
            return float(low), float(high)
    raise UserError(f"{path}: {key} must be [low, high] within {limits[0]:g} to {limits[1]:g}, not {value!r}")


def _check_references(recipe: Recipe) -> None:
    for one in recipe.sets.values():
        references = (
            ("texts", one.texts, recipe.vocabularies),
            ("everyday", one.everyday, recipe.vocabularies),
            ("voices", one.voices, recipe.voices),
        )
        for key, name, known in references:
            if name is not None and name not in known:
                there = ", ".join(known)
                raise UserError(f'{recipe.path}: sets.{one.name}.{key}: there is no "{name}" in [{key}], only {there}')


def _check_evaluation_voices(recipe: Recipe) -> None:
    for one in recipe.sets.values():
        for other in recipe.sets.values():
            common = set(recipe.voices[one.voices]) & set(recipe.voices[other.voices])
            if one.evaluation and other.name != one.name and common:
                raise UserError(
                    f"{recipe.path}: sets.{one.name} is an evaluation set, but shares the voice {min(common)} with "
                    f"sets.{other.name}: give it voices of its own"
                )
