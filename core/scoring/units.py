"""What an error rate counts: words, characters, or both by script. The one place that cuts a text. Pure.

A *word* is what white space parts. A *character* is a code point of the normalised text, as jiwer counts them; a space
is one, too, but not beside a script that writes words without spaces: there a normaliser puts it for a comma. *Mixed*
takes each character of such a script for a unit and words elsewhere, as texts that switch between languages are judged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

SYLLABIC = "\u3005-\u3007\u3021-\u3029\u3038-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
"""Han and Hiragana: a sign for a syllable or more."""
SPELLED = (
    "\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001aff0-\U0001b16f"  # Katakana, and what was added to both kana
    "\u0e00-\u0eff\u1780-\u17ff\u19e0-\u19ff"  # Thai, Lao, Khmer
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Burmese
)
"""Katakana, Thai, Lao, Khmer and Burmese: a sign for a sound, and no spaces between words either."""
_NO_SPACES = f"[{SYLLABIC}{SPELLED}]"
_SPACE_OF_NONE = re.compile(rf"(?<={_NO_SPACES})\s+|\s+(?={_NO_SPACES})")
_MIXED = re.compile(rf"{_NO_SPACES}|(?:(?!{_NO_SPACES})\S)+")


class Unit(StrEnum):
    """What counts as one: `[gate] unit`, and `unit` in a score document."""

    WORD = "word"
    CHARACTER = "character"
    MIXED = "mixed"

    @property
    def rate(self) -> str:
        """What every label calls the error rate. The mixed one is no match error rate, which jiwer calls MER."""
        return {Unit.WORD: "WER", Unit.CHARACTER: "CER", Unit.MIXED: "MER"}[self]

    @property
    def long_rate(self) -> str:
        """The same in full."""
        return f"{self.value} error rate"

    @property
    def plural(self) -> str:
        """What is counted, in a sentence with a number."""
        return {Unit.WORD: "words", Unit.CHARACTER: "characters", Unit.MIXED: "words and characters"}[self]

    def cut(self, text: str) -> list[str]:
        """The units of a text that is already normalised."""
        if self is Unit.WORD:
            return text.split()
        if self is Unit.MIXED:
            return _MIXED.findall(text)
        return list(_SPACE_OF_NONE.sub("", text.strip()))


def unit_of(gate: object) -> Unit:
    """The unit in a `[gate]` as in `run.json`; words where it names none that there is, as older ones do not."""
    named = gate.get("unit") if isinstance(gate, Mapping) else None
    return Unit(named) if named in tuple(Unit) else Unit.WORD
