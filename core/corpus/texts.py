"""Seeded sentences from lists of words and patterns (`data/texts/*.toml`).

Words are dealt from shuffled decks, not drawn, so that every word of a list is used about equally often.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError

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
