"""WER of the same transcripts under every text normaliser: what of a WER is spelling. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from core.scoring.counts import total
from core.scoring.text import NAMES, normaliser
from core.scoring.wer import count_errors


def wer_table(texts: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each normaliser over (reference, hypothesis), as they are; both always pass the same one."""
    pairs = list(texts)
    lines = [f"{'normaliser':<18} {'WER %':>8} {'S':>6} {'D':>6} {'I':>6} {'words':>8}"]
    for name in NAMES:
        chosen = normaliser(name)
        counts = total(count_errors(chosen.apply(reference), chosen.apply(heard)) for reference, heard in pairs)
        wer = "no words" if counts.wer_percent is None else f"{counts.wer_percent:.2f}"
        errors = f"{counts.substitutions:>6} {counts.deletions:>6} {counts.insertions:>6}"
        lines.append(f"{f'{name} {chosen.version}':<18} {wer:>8} {errors} {counts.reference_words:>8}")
    return lines
