"""Errors by jiwer, as counts of words or other units. WER = (S + D + I) / N; the rate itself is a view of the counts.

The table of the same transcripts under every text normaliser shows what of a WER is spelling.
"""

from __future__ import annotations

from collections.abc import Iterable

import jiwer

from core.scoring.counts import ErrorCounts, total
from core.scoring.text import NAMES, normaliser
from core.scoring.units import Unit


def process(reference: str, hypothesis: str, unit: Unit) -> jiwer.WordOutput:
    """Both texts, already normalised, aligned by `unit`."""

    def cut(texts: list[str]) -> list[list[str]]:
        # Not jiwer's default transform, which would normalise a second time.
        return [unit.cut(text) for text in texts]

    return jiwer.process_words([reference], [hypothesis], cut, cut)


def count_errors(reference: str, hypothesis: str, unit: Unit = Unit.WORD) -> ErrorCounts:
    """Errors of one utterance, on text that is already normalised.

    An empty hypothesis is all deletions. An empty reference makes every hypothesis unit an insertion; N is 0.
    """
    output = process(reference, hypothesis, unit)
    return ErrorCounts(
        substitutions=output.substitutions,
        deletions=output.deletions,
        insertions=output.insertions,
        reference_words=output.hits + output.substitutions + output.deletions,
    )


def wer_table(texts: Iterable[tuple[str, str]], unit: Unit = Unit.WORD) -> list[str]:
    """A line for each normaliser over (reference, hypothesis), as they are; both always pass the same one."""
    pairs = list(texts)
    column = "units" if unit is Unit.MIXED else unit.plural
    lines = [f"{'normaliser':<18} {f'{unit.rate} %':>8} {'S':>6} {'D':>6} {'I':>6} {column:>10}"]
    for name in NAMES:
        chosen = normaliser(name)
        counts = total(count_errors(chosen.apply(reference), chosen.apply(heard), unit) for reference, heard in pairs)
        wer = "no words" if counts.wer_percent is None else f"{counts.wer_percent:.2f}"
        errors = f"{counts.substitutions:>6} {counts.deletions:>6} {counts.insertions:>6}"
        lines.append(f"{f'{name} {chosen.version}':<18} {wer:>8} {errors} {counts.reference_words:>10}")
    return lines
