"""Text normalisers: what happens to reference and hypothesis before words are compared.

A normaliser is named and versioned, and both are recorded with every score:
two WERs compare only under the same one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Normaliser:
    """A named text normalisation. Raise `version` whenever `apply` changes any output."""

    name: str
    version: int
    apply: Callable[[str], str]


_APOSTROPHES = dict.fromkeys(map(ord, "’‘‛ʼ＇´`"), "'")
# An apostrophe is inside a word when word characters touch it on both sides. \w would lack combining marks.
_LOOSE_APOSTROPHE = re.compile(r"(?<![^\s'])'|'(?![^\s'])")


class _Format(dict[int, str | None]):
    """Translation table: invisible format characters vanish; a zero-width space ends a word."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        invisible = unicodedata.category(character) == "Cf"
        self[code] = (" " if code == 0x200B else None) if invisible else character
        return self[code]


class _Punctuation(dict[int, str]):
    """Translation table: punctuation, symbols and control characters become a space: they part words."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        self[code] = " " if category[0] in "PS" or category == "Cc" else character
        return self[code]


_FORMAT = _Format(_APOSTROPHES)
_PUNCTUATION = _Punctuation({ord("'"): "'"})


def _basic(text: str) -> str:
    """Unicode NFKC, lower case, punctuation out (apostrophes inside words stay), white space folded."""
    text = unicodedata.normalize("NFKC", text.translate(_FORMAT))
    # Lower case can leave a letter decomposed (İ), so NFKC comes once more.
    text = unicodedata.normalize("NFKC", text.lower()).translate(_PUNCTUATION)
    return " ".join(_LOOSE_APOSTROPHE.sub(" ", text).split())


def _raw(text: str) -> str:
    """The text as it is. Words are still what white space parts."""
    return text


_HYPHENS = dict.fromkeys(map(ord, "‐‑−﹣－"), "-")
_JARGON_FORMAT = _Format(_APOSTROPHES | _HYPHENS)
_JARGON_PUNCTUATION = _Punctuation({ord(character): character for character in "'@/_.-"})
_LOOSE_JARGON = re.compile(r"(?<![^\s'@/_.-])['@/_.-]|['@/_.-](?![^\s'@/_.-])")


def _jargon(text: str) -> str:
    """Like `basic`, but @ / _ . and - stay where word characters touch them on both sides: v1.2, a/b, x@y.z, t_max."""
    text = unicodedata.normalize("NFKC", text.translate(_JARGON_FORMAT))
    text = unicodedata.normalize("NFKC", text.lower()).translate(_JARGON_PUNCTUATION)
    return " ".join(_LOOSE_JARGON.sub(" ", text).split())


def _whisper_english(text: str) -> str:
    """Whisper's own English normaliser: numbers as digits, contractions spelled out, British spelling made American."""
    return _whisper()(text)


@cache
def _whisper() -> Callable[[str], str]:
    # Here, because it reads its list of spellings, and most scores do not need it.
    from whisper_normalizer.english import EnglishTextNormalizer

    apply: Callable[[str], str] = EnglishTextNormalizer()
    return apply


_NORMALISERS = {
    n.name: n
    for n in (
        Normaliser("basic", 1, _basic),
        Normaliser("raw", 1, _raw),
        Normaliser("whisper_english", 1, _whisper_english),
        Normaliser("jargon", 1, _jargon),
    )
}
NAMES = tuple(_NORMALISERS)


def normaliser(name: str) -> Normaliser:
    """The normaliser called `name`. ValueError, naming those there are, if there is none."""
    if name not in _NORMALISERS:
        raise ValueError(f"unknown text normaliser {name!r}: use one of {', '.join(NAMES)}")
    return _NORMALISERS[name]
