"""English number words and digits as one and the same: every number becomes its digits, a word each. Pure.

"eight eight one", "8, 8, 1" and "881" are `8 8 1`; "twenty-one" and "21" are `2 1`; "two thousand and five" and "2,005"
are `2 0 0 5`. A WER then counts wrong digits, whoever wrote them how.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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
