"""Two hypotheses beside their reference, word by word or by another unit, for people to read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.sanitise import sanitise
from core.scoring.units import Unit

_GAP = "-"
_LONGEST_WORD = 40
_EDIT = 1000
"""Of equally many errors the alignment with the fewest substitutions is taken: it has the most words right."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One word of an alignment. `kind`: ok, sub, del, ins."""

    kind: str
    word: str


Cell = tuple[str, str]
"""What is shown of a word, sanitised; and `broken` where it is wrong. [substituted], +inserted, --- deleted."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance. A hypothesis has one list of slots for each reference word, insertions before it, and one more."""

    id: str
    reference: tuple[str, ...]
    base: tuple[tuple[Slot, ...], ...]
    tuned: tuple[tuple[Slot, ...], ...]
    fixed: int
    """Reference words that the base model got wrong and the tuned one right."""
    broken: int
    errors: tuple[int, int]
    """Of base and tuned, insertions among them."""


def compare(clip: str, reference: str, base: str, tuned: str, unit: Unit = Unit.WORD) -> Clip:
    """Align both with the reference. Texts are normalised already."""
    words = tuple(unit.cut(reference))
    first, second = align(words, unit.cut(base)), align(words, unit.cut(tuned))
    right = [[slots[-1].kind == "ok" for slots in aligned[: len(words)]] for aligned in (first, second)]
    fixed = sum(after and not before for before, after in zip(*right, strict=True))
    broken = sum(before and not after for before, after in zip(*right, strict=True))
    errors = tuple(sum(slot.kind != "ok" for slots in aligned for slot in slots) for aligned in (first, second))
    return Clip(clip, words, first, second, fixed, broken, (errors[0], errors[1]))


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[tuple[Slot, ...], ...]:
    """A cheapest alignment by words: for each reference word the insertions before it and itself; then the rest."""
    rows, columns = len(reference) + 1, len(hypothesis) + 1
    cost = [[_EDIT * max(i, j) if i == 0 or j == 0 else 0 for j in range(columns)] for i in range(rows)]
    for i in range(1, rows):
        for j in range(1, columns):
            other = 0 if reference[i - 1] == hypothesis[j - 1] else _EDIT + 1
            cost[i][j] = min(cost[i - 1][j - 1] + other, cost[i - 1][j] + _EDIT, cost[i][j - 1] + _EDIT)
    slots: list[list[Slot]] = [[] for _ in range(rows)]
    i, j = rows - 1, columns - 1
    while i or j:
        other = _EDIT + 1 if i and j and reference[i - 1] != hypothesis[j - 1] else 0
        if i and j and cost[i][j] == cost[i - 1][j - 1] + other:
            i, j = i - 1, j - 1
            slots[i].insert(0, Slot("ok" if reference[i] == hypothesis[j] else "sub", hypothesis[j]))
        elif i and cost[i][j] == cost[i - 1][j] + _EDIT:
            i -= 1
            slots[i].insert(0, Slot("del", ""))
        else:
            j -= 1
            slots[i].insert(0, Slot("ins", hypothesis[j]))
    return tuple(tuple(found) for found in slots)


def columns(clip: Clip) -> list[tuple[Cell, Cell, Cell]]:
    """(reference, base, tuned) cells, insertions in columns of their own."""
    found: list[tuple[Cell, Cell, Cell]] = []
    for index in range(len(clip.reference) + 1):
        inserted = [[s for s in aligned[index] if s.kind == "ins"] for aligned in (clip.base, clip.tuned)]
        for extra in range(max(len(slots) for slots in inserted)):
            base, tuned = (_cell(slots[extra]) if extra < len(slots) else ("", "") for slots in inserted)
            found.append((("", ""), base, tuned))
        if index < len(clip.reference):
            word = sanitise(clip.reference[index], _LONGEST_WORD)
            base, tuned = (_cell(aligned[index][-1], word) for aligned in (clip.base, clip.tuned))
            found.append(((word, ""), base, tuned))
    return found


def _cell(slot: Slot, reference: str = "") -> Cell:
    word = sanitise(slot.word, _LONGEST_WORD)
    match slot.kind:
        case "ok":
            return word, ""
        case "del":
            return _GAP * max(2, len(reference)), "broken"
        case "ins":
            return f"+{word}", "broken"
    return f"[{word}]", "broken"
