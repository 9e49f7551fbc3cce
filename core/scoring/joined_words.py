"""Texts in scripts that put no space between words: a word error rate takes their sentences for words. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from core.scoring.units import SPELLED, SYLLABIC

SHARE = 0.1
"""Of a set's texts, from which on its word error rate says nothing."""
LONGEST_WORD, LONGEST_SPELLED_WORD = 4, 12
"""Letters of a word in scripts with a sign for a syllable or more (Han, Hiragana), and in those that spell (Katakana,
Thai, Lao, Khmer, Burmese, Tibetan): texts whose words are longer on average have no spaces between words."""
LONGEST_OTHER_WORD = 50
"""Letters of a word in any script: no compound of a command is longer, and no sentence has such words on average."""

_MORE_SPELLED = "\u0f00-\u0fff\u1950-\u19df\uaa00-\uaa5f"
"""Tibetan, Tai and Cham, which `mixed` does not know."""
_RUN = re.compile(f"[{SYLLABIC}{SPELLED}{_MORE_SPELLED}]+")
_HAS_DENSE = re.compile(f"[{SYLLABIC}]")

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
    for run in _RUN.findall(text):
        letters += sum(unicodedata.category(character)[0] != "M" for character in run)
        allowed += LONGEST_WORD if _HAS_DENSE.search(run) else LONGEST_SPELLED_WORD
    return letters > allowed


def joined(texts: Iterable[str]) -> Iterator[int]:
    """Which of the texts are, by position."""
    return (index for index, text in enumerate(texts) if is_joined(text))


def joined_sentence(name: str, count: int, total: int) -> str | None:
    """What is wrong with an evaluation set of `total` texts; None where fewer than SHARE of them are joined."""
    if not count or count < SHARE * total:
        return None
    return f"{name}: {count} of {total} texts are written {WHAT}: {ADVICE}"
