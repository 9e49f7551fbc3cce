"""Word errors by jiwer, as counts. WER = (S + D + I) / N; the rate itself is a view of the counts."""

from __future__ import annotations

import jiwer

from core.scoring.counts import ErrorCounts


def _words(sentences: list[str]) -> list[list[str]]:
    # Not jiwer's default transform, which would normalise a second time.
    return [sentence.split() for sentence in sentences]


def count_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Errors of one utterance, on text that is already normalised. Words are parted by white space.

    An empty hypothesis is all deletions. An empty reference makes every hypothesis word an insertion; N is 0.
    """
    output = jiwer.process_words([reference], [hypothesis], _words, _words)
    return ErrorCounts(
        substitutions=output.substitutions,
        deletions=output.deletions,
        insertions=output.insertions,
        reference_words=output.hits + output.substitutions + output.deletions,
    )
