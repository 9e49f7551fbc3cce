"""Error counts: what every error rate in the program is made of. Counts are stored; rates are views of them.

Names say words, as documents always did; what one is says the unit (core.scoring.units) of whatever holds the counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


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
