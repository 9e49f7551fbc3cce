"""What an error rate counts: words, characters, or both by script; error counts. The one place that cuts a text. Pure.

A *word* is what white space parts. A *character* is a code point of the normalised text, as jiwer counts them; a space
is one, too, but not beside a script that writes words without spaces: there a normaliser puts it for a comma. *Mixed*
takes each character of such a script for a unit and words elsewhere, as texts that switch between languages are judged.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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
# Patterns are compiled when a text is cut: many a process names units, few cut texts.
_SPACE_OF_NONE = rf"(?<={_NO_SPACES})\s+|\s+(?={_NO_SPACES})"
_MIXED = rf"{_NO_SPACES}|(?:(?!{_NO_SPACES})\S)+"


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
            return re.findall(_MIXED, text)
        return list(re.sub(_SPACE_OF_NONE, "", text.strip()))


def unit_of(gate: object) -> Unit:
    """The unit in a `[gate]` as in `run.json`; words where it names none that there is, as older ones do not."""
    named = gate.get("unit") if isinstance(gate, Mapping) else None
    return Unit(named) if named in tuple(Unit) else Unit.WORD


# Error counts: what every error rate in the program is made of. Counts are stored; rates are views of them
#
# Names say words, as documents always did; what one is says the unit of whatever holds the counts.


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Errors of one utterance or, summed, of a whole manifest (micro average)."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference_words: int = 0

    @property
    def errors(self) -> int:
        """S + D + I."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float | None:
        """(S + D + I) / N as a fraction; None when there is no reference word (never 0)."""
        return self.errors / self.reference_words if self.reference_words else None

    @property
    def wer_percent(self) -> float | None:
        """WER in percent; differences of it are percentage points."""
        wer = self.wer
        return None if wer is None else 100.0 * wer

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_words + other.reference_words,
        )


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The sum over utterances."""
    # Gates read tens of thousands of them: one object, not one a clip.
    substitutions = deletions = insertions = words = 0
    for item in counts:
        substitutions += item.substitutions
        deletions += item.deletions
        insertions += item.insertions
        words += item.reference_words
    return ErrorCounts(substitutions, deletions, insertions, words)


# Texts in scripts that put no space between words: a word error rate takes their sentences for words

SHARE = 0.1
"""Of a set's texts, from which on its word error rate says nothing."""
LONGEST_WORD, LONGEST_SPELLED_WORD = 4, 12
"""Letters of a word in scripts with a sign for a syllable or more (Han, Hiragana), and in those that spell (Katakana,
Thai, Lao, Khmer, Burmese, Tibetan): texts whose words are longer on average have no spaces between words."""
LONGEST_OTHER_WORD = 50
"""Letters of a word in any script: no compound of a command is longer, and no sentence has such words on average."""

_MORE_SPELLED = "\u0f00-\u0fff\u1950-\u19df\uaa00-\uaa5f"
"""Tibetan, Tai and Cham, which `mixed` does not know."""
_RUN = f"[{SYLLABIC}{SPELLED}{_MORE_SPELLED}]+"
_HAS_DENSE = f"[{SYLLABIC}]"

WHAT = "without spaces between words (as Chinese, Japanese or Thai are)"
ADVICE = (
    "a word error rate would count whole sentences as words: set gate.unit to character, or to mixed where texts are "
    "in such and other scripts, or write the words apart in the texts of all sets"
)


def is_joined(text: str) -> bool:
    """Whether the words of a text are not parted. A text of one short word cannot tell."""
    most = LONGEST_OTHER_WORD * len(text.split())
    if len(text) > most and sum(unicodedata.category(character)[0] in "LN" for character in text) > most:
        return True
    letters = allowed = 0
    for run in re.findall(_RUN, text):
        letters += sum(unicodedata.category(character)[0] != "M" for character in run)
        allowed += LONGEST_WORD if re.search(_HAS_DENSE, run) else LONGEST_SPELLED_WORD
    return letters > allowed


def joined(texts: Iterable[str]) -> Iterator[int]:
    """Which of the texts are, by position."""
    return (index for index, text in enumerate(texts) if is_joined(text))


def joined_sentence(name: str, count: int, total: int) -> str | None:
    """What is wrong with an evaluation set of `total` texts; None where fewer than SHARE of them are joined."""
    if not count or count < SHARE * total:
        return None
    return f"{name}: {count} of {total} texts are written {WHAT}: {ADVICE}"
