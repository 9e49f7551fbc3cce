"""Words that an adapter broke, fixed or never learnt: two transcripts of one reference, aligned word by word. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import jiwer


@dataclass(slots=True)
class WordChange:
    """What became of one reference word over a whole set."""

    word: str
    occurrences: int = 0
    broken: int = 0
    """Right before, wrong after."""
    fixed: int = 0
    never: int = 0
    """Wrong before and after."""
    heard: Counter[str] = field(default_factory=Counter)
    """What stands in its place afterwards; the empty string where it was left out."""


def heard_words(reference: str, hypothesis: str) -> list[tuple[str, str]]:
    """Each reference word with what was heard for it, the empty string for nothing. Both texts are normalised."""
    words, heard = reference.split(), hypothesis.split()
    if not words or not heard:
        return [(word, "") for word in words]
    output = jiwer.process_words([reference], [hypothesis], _words, _words)
    pairs: list[tuple[str, str]] = []
    for chunk in output.alignments[0]:
        for place in range(chunk.ref_start_idx, chunk.ref_end_idx):
            other = chunk.hyp_start_idx + place - chunk.ref_start_idx
            pairs.append((words[place], heard[other] if chunk.type != "delete" else ""))
    return pairs


def word_changes(texts: Iterable[tuple[str, str, str]]) -> list[WordChange]:
    """Over (reference, before, after), normalised: the words with any error, most broken first, then never learnt."""
    changes: dict[str, WordChange] = {}
    for reference, before, after in texts:
        then, now = heard_words(reference, before), heard_words(reference, after)
        for (word, first), (_, second) in zip(then, now, strict=True):
            change = changes.setdefault(word, WordChange(word))
            change.occurrences += 1
            change.broken += first == word != second
            change.fixed += first != word == second
            change.never += word not in (first, second)
            if second != word:
                change.heard[second] += 1
    wrong = [change for change in changes.values() if change.broken or change.never or change.fixed]
    return sorted(wrong, key=lambda c: (-c.broken, -c.never, -c.fixed, c.word))


def _words(sentences: list[str]) -> list[list[str]]:
    return [sentence.split() for sentence in sentences]
