"""Text normalisers: what happens to reference and hypothesis before words are compared.

A normaliser is named and versioned, and both are recorded with every score:
two WERs compare only under the same one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from core.scoring.number_words import digits_apart, mark_numbers


@dataclass(frozen=True, slots=True)
class Normaliser:
    """A named text normalisation. Raise `version` whenever `apply` changes any output."""

    name: str
    version: int
    apply: Callable[[str], str]


_APOSTROPHES = dict.fromkeys(map(ord, "’‘‛ʼʻʽʹˈ＇′‵´`｀ꞌ՚᾽᾿"), "'")
_HYPHENS = dict.fromkeys(map(ord, "‐‑−﹣－"), "-")
_IGNORED = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200C, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
"""What Unicode calls default ignorable: fillers, joiners, variation selectors. They are drawn as nothing."""
_ZERO_WIDTH_SPACE = 0x200B
_APOSTROPHE = re.compile(f"[{''.join(map(chr, _APOSTROPHES))}]")
_DOTTED_I = re.compile("i\u0307+")
_BASIC_INSIDE, _JARGON_INSIDE = "'", "'@/_.-"


class _Visible(dict[int, str]):
    """Translation table: invisible characters vanish; a zero-width space and control characters part words."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if code == _ZERO_WIDTH_SPACE or (category == "Cc" and not character.isspace()):
            self[code] = " "
        elif category == "Cf" or any(first <= code <= last for first, last in _IGNORED):
            self[code] = ""
        else:
            self[code] = character
        return self[code]


class _Punctuation(dict[int, str]):
    """Translation table: punctuation, symbols and control characters become a space: they part words."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        self[code] = " " if category[0] in "PS" or category == "Cc" else character
        return self[code]


_VISIBLE = _Visible(_HYPHENS)
_PLAIN = _Visible(_HYPHENS | _APOSTROPHES)


def _alike(text: str) -> str:
    """NFKC with one apostrophe, one hyphen and nothing invisible: what differs between editors, not between words."""
    # Before NFKC, which takes an acute accent apart into a space and a mark; after it, because it brings others.
    return unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)


def _lower(text: str) -> str:
    """Lower case; of İ, the plain letter i, which Unicode leaves with a dot of its own."""
    return _DOTTED_I.sub("i", unicodedata.normalize("NFKC", text.lower()))


class _Words:
    """Parts a text into words without punctuation; a character of `inside` stays within a word, one at a time."""

    def __init__(self, inside: str) -> None:
        self._inside = inside
        self._table = _Punctuation({ord(one): one for one in inside})
        self._runs = re.compile(f"[{re.escape(inside)}]{{2,}}")

    def __call__(self, text: str) -> str:
        found = self._runs.sub(" ", text.translate(self._table)).split()
        return " ".join(word for word in map(self._trimmed, found) if word)

    def _trimmed(self, word: str) -> str:
        word = word.rstrip(self._inside)
        start = 0
        # NFKC makes a space and a mark of an accent that stands alone; no word begins with a mark.
        while start < len(word) and (word[start] in self._inside or unicodedata.category(word[start]) in ("Mn", "Me")):
            start += 1
        return word[start:]


_BASIC_WORDS, _JARGON_WORDS = _Words(_BASIC_INSIDE), _Words(_JARGON_INSIDE)


def _basic(text: str) -> str:
    """Unicode NFKC, lower case, punctuation out (apostrophes inside words stay), white space folded."""
    return _BASIC_WORDS(_lower(_alike(text)))


def _raw(text: str) -> str:
    """Case, punctuation and spaces as they are. Characters that only an editor tells apart are one, as everywhere."""
    for _ in range(2):  # NFKC brings some of them
        text = unicodedata.normalize("NFKC", _APOSTROPHE.sub(_plain_inside, text).translate(_VISIBLE))
    return text


def _plain_inside(found: re.Match[str]) -> str:
    """A plain apostrophe where letters, digits or their marks touch it on both sides: elsewhere it is a quote."""
    before, after = found.string[found.start() - 1 : found.start()], found.string[found.end() : found.end() + 1]
    inside = before and after and all(unicodedata.category(one)[0] in "LNM" for one in (before, after))
    return "'" if inside else found[0]


def _jargon(text: str) -> str:
    """Like `basic`, but @ / _ . and - stay where word characters touch them on both sides: v1.2, a/b, x@y.z, t_max."""
    return _JARGON_WORDS(_lower(_alike(text)))


def _digits(text: str) -> str:
    """Like `basic`, and English number words and digits are the same: each number becomes its digits, a word each."""
    return " ".join(digits_apart(_BASIC_WORDS(mark_numbers(_lower(_alike(text)))).split()))


def _whisper_english(text: str) -> str:
    """Whisper's own English normaliser: numbers as digits, contractions spelled out, British spelling made American."""
    return _whisper()(_alike(text))


def contractions_apart(text: str) -> str:
    """Words of `basic` with contractions spelled out and British spelling made American, each as Whisper's has it."""
    if not text:
        return text
    spellings, abbreviated = _whisper_words()
    return " ".join(
        _whisper_word(word) if "'" in word or word in abbreviated else spellings.get(word, word)
        for word in text.split()
    )


@cache
def _whisper_word(word: str) -> str:
    return _whisper()(word).strip()


@cache
def _whisper_words() -> tuple[Mapping[str, str], frozenset[str]]:
    """(spellings, words that stand for others)."""
    whisper: Any = _whisper()
    plain = (pattern.removeprefix(r"\b").removesuffix(r"\b") for pattern in whisper.replacers)
    return whisper.standardize_spellings.mapping, frozenset(word for word in plain if word.isalpha())


@cache
def _whisper() -> Callable[[str], str]:
    # Here, because it reads its list of spellings, and most scores do not need it.
    from whisper_normalizer.english import EnglishTextNormalizer

    apply: Callable[[str], str] = EnglishTextNormalizer()
    return apply


_NORMALISERS = {
    n.name: n
    for n in (
        Normaliser("basic", 2, _basic),
        Normaliser("raw", 2, _raw),
        Normaliser("whisper_english", 2, _whisper_english),
        Normaliser("jargon", 2, _jargon),
        Normaliser("digits", 1, _digits),
    )
}
NAMES = tuple(_NORMALISERS)


def normaliser(name: str) -> Normaliser:
    """The normaliser called `name`. ValueError, naming those there are, if there is none."""
    if name not in _NORMALISERS:
        raise ValueError(f"unknown text normaliser {name!r}: use one of {', '.join(NAMES)}")
    return _NORMALISERS[name]
