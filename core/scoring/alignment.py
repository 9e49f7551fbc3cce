"""Hypotheses beside one reference, aligned: errors of one, and which words another fixed, broke or never learnt. Pure.

Also the segments of errors that MAPSSWE compares. What a word is here, the unit says (core.scoring.units).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core.scoring.text import NAMES, normaliser
from core.scoring.units import ErrorCounts, Unit, total

if TYPE_CHECKING:
    import jiwer

# Errors of one text by its reference
#
# By jiwer, as counts of words or other units. WER = (S + D + I) / N; the rate itself is a view of the counts. The
# table of the same transcripts under every text normaliser shows what of a WER is spelling.


def process(reference: str, hypothesis: str, unit: Unit) -> jiwer.WordOutput:
    """Both texts, already normalised, aligned by `unit`."""
    import jiwer  # with rapidfuzz, which whoever aligns nothing does without

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


# Two texts beside one reference

SEGMENT_GAP_WORDS = 2
"""Words in a row that both hypotheses have right end a MAPSSWE segment, as in NIST's sc_stats."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """One hypothesis aligned with its reference of N words."""

    wrong: tuple[bool, ...]
    """(N,) whether each reference word was substituted or deleted."""
    inserted: tuple[int, ...]
    """(N + 1,) words inserted before each reference word and, last, after all of them."""
    counts: ErrorCounts


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed between two hypotheses, by reference words."""

    fixed: int = 0
    """Reference words that were wrong and are right."""
    broken: int = 0
    """Reference words that were right and are wrong."""
    inserted_less: int = 0
    inserted_more: int = 0
    """Inserted words that went and that came, place by place."""

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            self.fixed + other.fixed,
            self.broken + other.broken,
            self.inserted_less + other.inserted_less,
            self.inserted_more + other.inserted_more,
        )


def align(references: Sequence[str], hypotheses: Sequence[str], unit: Unit = Unit.WORD) -> list[Alignment]:
    """The alignment of each pair of texts, which are already normalised."""
    found: list[Alignment] = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        if reference == hypothesis:
            words = len(unit.cut(reference))
            found.append(Alignment((False,) * words, (0,) * (words + 1), ErrorCounts(reference_words=words)))
        else:
            found.append(_align(reference, hypothesis, unit))
    return found


def compare(before: Alignment, after: Alignment) -> Comparison:
    """What changed. Both alignments are of the same reference."""
    words = list(zip(before.wrong, after.wrong, strict=True))
    gaps = [b - a for a, b in zip(before.inserted, after.inserted, strict=True)]
    return Comparison(
        fixed=sum(was and not now for was, now in words),
        broken=sum(now and not was for was, now in words),
        inserted_less=-sum(change for change in gaps if change < 0),
        inserted_more=sum(change for change in gaps if change > 0),
    )


def segments(before: Alignment, after: Alignment) -> Iterator[tuple[int, int]]:
    """The errors of both hypotheses in each segment that holds any.

    A segment is bounded on both sides by at least two words that both have right, or by the utterance's end.
    """
    errors: tuple[int, int] | None = None
    right = 0
    for gap in range(len(before.inserted)):
        inserted = before.inserted[gap], after.inserted[gap]
        wrong = (before.wrong[gap], after.wrong[gap]) if gap < len(before.wrong) else (False, False)
        for found in (inserted, (int(wrong[0]), int(wrong[1]))):
            if any(found):
                errors = (found[0] + (errors or (0, 0))[0], found[1] + (errors or (0, 0))[1])
                right = 0
        if not any(wrong) and gap < len(before.wrong):
            right += 1
            if right >= SEGMENT_GAP_WORDS and errors is not None:
                yield errors
                errors = None
    if errors is not None:
        yield errors


def _align(reference: str, hypothesis: str, unit: Unit) -> Alignment:
    output = process(reference, hypothesis, unit)
    words = output.hits + output.substitutions + output.deletions
    wrong, inserted = [False] * words, [0] * (words + 1)
    for chunk in output.alignments[0]:
        if chunk.type == "insert":
            inserted[chunk.ref_start_idx] += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            for index in range(chunk.ref_start_idx, chunk.ref_end_idx):
                wrong[index] = True
    counts = ErrorCounts(output.substitutions, output.deletions, output.insertions, words)
    return Alignment(tuple(wrong), tuple(inserted), counts)


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


def heard_words(reference: str, hypothesis: str, unit: Unit = Unit.WORD) -> list[tuple[str, str]]:
    """Each reference word with what was heard for it, the empty string for nothing. Both texts are normalised."""
    words, heard = unit.cut(reference), unit.cut(hypothesis)
    if not words or not heard:
        return [(word, "") for word in words]
    output = process(reference, hypothesis, unit)
    pairs: list[tuple[str, str]] = []
    for chunk in output.alignments[0]:
        for place in range(chunk.ref_start_idx, chunk.ref_end_idx):
            other = chunk.hyp_start_idx + place - chunk.ref_start_idx
            pairs.append((words[place], heard[other] if chunk.type != "delete" else ""))
    return pairs


def word_changes(texts: Iterable[tuple[str, str, str]], unit: Unit = Unit.WORD) -> list[WordChange]:
    """Over (reference, before, after), normalised: the words with any error, most broken first, then never learnt."""
    changes: dict[str, WordChange] = {}
    for reference, before, after in texts:
        then, now = heard_words(reference, before, unit), heard_words(reference, after, unit)
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
