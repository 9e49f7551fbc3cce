"""Text normalisers: what happens to reference and hypothesis before words are compared.

A normaliser is named and versioned, and both are recorded with every score: two WERs compare only under the same one.

Some of them write every English number as its digits, a word each: "eight eight one", "8, 8, 1" and "881" are `8 8 1`;
"twenty-one" and "21" are `2 1`; "two thousand and five" and "2,005" are `2 0 0 5`. A WER then counts wrong digits,
whoever wrote them how.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SMALL = {word: value for value, word in enumerate(_UNITS)} | {"nought": 0, "naught": 0}
TENS = {word: 10 * value for value, word in enumerate(_TENS, 2)} | {"fourty": 40}
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_IRREGULAR = {"first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight", "ninth": "nine"}
_IRREGULAR |= {"twelfth": "twelve"}
NUMBERS = frozenset((*SMALL, *TENS, *SCALES))
_ORDINALS = _IRREGULAR | {
    f"{word.removesuffix('y')}{'ieth' if word.endswith('y') else 'th'}": word
    for word in NUMBERS - set(_IRREGULAR.values())
}
"""`twentieth` → `twenty`."""
_DIGITS = re.compile(r"\d+")
_WRITTEN_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_POINT = re.compile(r"(?<=\d)\.(?=\d)")
_LONGEST_FACTOR = 9
"""Digits of a number in front of a scale word; more are a string of digits."""
_AFTER_ORDINAL = "th"
_ZERO = "oh"


def mark_numbers(text: str) -> str:
    """The text as it is, with what punctuation means between digits in words: 2,005 is one number, 3.5 has a point."""
    return _POINT.sub(" point ", _GROUPED.sub("", text)).replace("%", " percent ")


def digits_apart(words: Sequence[str]) -> list[str]:
    """Normalised words, with every number as its digits, one word each. An ordinal ends in `th`, in words or digits."""
    found: list[str] = []
    reader = _Reader(words)
    while reader.place < len(words):
        number = reader.number()
        if number is None:
            found.append(words[reader.place])
            reader.place += 1
            continue
        found += number
        if reader.ordinal[reader.place - 1]:
            found.append(_AFTER_ORDINAL)
    return _zeros(found)


class _Reader:
    """Reads numbers out of words, from `place` on."""

    def __init__(self, words: Sequence[str]) -> None:
        self.place = 0
        written = [_WRITTEN_ORDINAL.fullmatch(word) for word in words]
        self._words = [
            found[1] if found else _ORDINALS.get(word, word) for word, found in zip(words, written, strict=True)
        ]
        self.ordinal = [found is not None or word in _ORDINALS for word, found in zip(words, written, strict=True)]

    def number(self) -> str | None:
        """The digits of the number that begins here, which is passed; None, and nothing passed, where none begins."""
        word = self._at(self.place)
        if _DIGITS.fullmatch(word) and (self._at(self.place + 1) not in SCALES or len(word) > _LONGEST_FACTOR):
            self.place += 1
            return "".join(str(int(digit)) for digit in word)  # as it is written: 007 keeps its zeros
        if word in SCALES:
            self.place += 1
            return str(SCALES[word])
        total, last = 0, 0
        while (part := self._thousand(self.place, last)) is not None:
            value, after = part
            scale = SCALES.get(self._at(after), 0) if not self.ordinal[after - 1] else 0
            if last and scale >= last:
                break  # of the next number: "two thousand five thousand"
            self.place = after + (1 if scale else 0)
            total, last = total + value * (scale or 1), scale
            if not last or self.ordinal[self.place - 1]:
                return str(total)
        return str(total) if last else None

    def _thousand(self, place: int, last: int) -> tuple[int, int] | None:
        """(a number below a thousand, where it ends), if one is at `place`. `last`: of the scale word before it."""
        place += 1 if last and self._at(place) == "and" else 0
        first = self._hundred(place, digits=not last)
        if first is None:
            return None
        value, after = first
        if self._at(after) != "hundred" or self.ordinal[after - 1] or value >= 100:
            return first
        value, after = 100 * value, after + 1
        if self.ordinal[after - 1]:
            return value, after
        rest = self._hundred(after + (1 if self._at(after) == "and" else 0))
        # "two hundred three hundred" are two
        return (value, after) if rest is None or self._at(rest[1]) == "hundred" else (value + rest[0], rest[1])

    def _hundred(self, place: int, *, digits: bool = False) -> tuple[int, int] | None:
        """(a number below a hundred, or one in digits, where it ends), if one is at `place`."""
        word = self._at(place)
        if digits and _DIGITS.fullmatch(word):
            return int(word), place + 1
        if word in SMALL:
            return SMALL[word], place + 1
        if word == "a" and self._at(place + 1) in SCALES:
            return 1, place + 1
        if word not in TENS:
            return None
        unit = 0 if self.ordinal[place] else SMALL.get(self._at(place + 1), 0)
        return (TENS[word] + unit, place + 2) if 0 < unit < 10 else (TENS[word], place + 1)

    def _at(self, place: int) -> str:
        return self._words[place] if place < len(self._words) else ""


def _zeros(words: list[str]) -> list[str]:
    """ "oh" beside a digit is a zero; elsewhere it is a sigh."""

    def digit(place: int) -> bool:
        return 0 <= place < len(words) and words[place].isdigit()

    # Both ways, for "oh oh seven" and "seven oh oh".
    for place in (*range(len(words)), *reversed(range(len(words)))):
        if words[place] == _ZERO and (digit(place - 1) or digit(place + 1)):
            words[place] = "0"
    return words


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
    """The two tables of the normaliser: spellings, and words that stand for others."""
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
