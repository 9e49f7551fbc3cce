"""The clips that an adapter broke and mended most, word by word beside their reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import RunFolderError
from core.runs.paths import RunPaths
from core.runs.scores import ClipChange
from core.runs.scores import compare as compare_scores
from core.sanitise import sanitise
from core.scoring.side_by_side import Cell, Clip, columns, compare
from core.scoring.text import normaliser
from core.scoring.units import Unit
from lora_tui.cells import width_of

SHOWN = 3
"""Clips of each kind and set."""
MOST_WORDS = 60
"""Longer clips would fill a report: theirs are only counted."""
_LABELS = ("ref", "base", "tuned")


@dataclass(frozen=True, slots=True)
class ClipReport:
    """One clip. `fixed` and `broken`: reference words that went right and wrong; `errors`: before and after."""

    dataset: str
    id: str
    kind: str
    """worst or best."""
    errors: tuple[int, int]
    fixed: int
    broken: int
    columns: tuple[tuple[Cell, Cell, Cell], ...]
    """(reference, base, tuned), sanitised; empty for a clip of more than MOST_WORDS."""
    unit: Unit = Unit.WORD


def chosen_clips(paths: RunPaths) -> tuple[ClipReport, ...]:
    """Of each set the clips that lost and that won the most words; none where there are no scores to compare."""
    found: list[ClipReport] = []
    for dataset in ("domain", "heldout"):
        try:
            changes = compare_scores(paths, dataset)
            apply = normaliser(changes.normaliser).apply
        except (RunFolderError, ValueError):
            continue  # the verdict's problems say what is missing
        for kind, sign in (("worst", 1), ("best", -1)):
            ranked = sorted(changes.clips, key=lambda clip: (-sign * _rise(clip), clip.id))
            for change in [clip for clip in ranked if sign * _rise(clip) > 0][:SHOWN]:
                texts = [apply(text) for text in (change.reference, change.before, change.after)]
                reference, before, after = texts
                short = max(len(changes.unit.cut(text)) for text in texts) <= MOST_WORDS
                clip = compare(change.id, reference, before, after, changes.unit) if short else None
                found.append(_report(dataset, kind, change, clip, changes.unit))
    return tuple(found)


def aligned_lines(columns: Sequence[tuple[Cell, Cell, Cell]], width: int = 100) -> list[list[list[Cell]]]:
    """Blocks of three lines (reference, base, tuned) of at most `width` columns, one cell above the other."""
    blocks: list[list[list[Cell]]] = []
    used = width + 1
    for cells in columns:
        size = max(width_of(text) for text, _ in cells) + 1
        if used + size > width:
            blocks.append([[(f"{label:<7}", "")] for label in _LABELS])
            used = 7
        for line, (text, role) in zip(blocks[-1], cells, strict=True):
            line += [(text, role), (" " * (size - width_of(text)), "")]
        used += size
    return blocks


def heading(clip: ClipReport) -> str:
    """`domain, best: clip-17 (3 → 0 errors, 3 words fixed, 0 broken)`."""
    words = f", {clip.fixed} {clip.unit.plural} fixed, {clip.broken} broken" if clip.columns else ""
    return f"{clip.dataset}, {clip.kind}: {clip.id} ({clip.errors[0]} → {clip.errors[1]} errors{words})"


def _rise(change: ClipChange) -> int:
    return change.counts_after.errors - change.counts_before.errors


def _report(dataset: str, kind: str, change: ClipChange, clip: Clip | None, unit: Unit) -> ClipReport:
    errors, name = (change.counts_before.errors, change.counts_after.errors), sanitise(change.id, 80)
    if clip is None:
        return ClipReport(dataset, name, kind, errors, 0, 0, (), unit)
    return ClipReport(dataset, name, kind, errors, clip.fixed, clip.broken, tuple(columns(clip)), unit)
