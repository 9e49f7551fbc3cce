"""Transcripts side by side: reference, base model, tuned; which words were fixed, which broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.runs.paths import RunPaths
from core.runs.store import read_json
from core.sanitise import sanitise
from core.scoring.text import normaliser
from lora_tui.dashboard.lines_view import Pieces

_GAP = "-"
_LONGEST_WORD = 40
_EDIT = 1000
"""Of equally many errors the alignment with the fewest substitutions is taken: it has the most words right."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One word of an alignment. `kind`: ok, sub, del, ins."""

    kind: str
    word: str


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


@dataclass(frozen=True, slots=True)
class Transcripts:
    """All clips of one manifest. `problem`: why there are none."""

    clips: tuple[Clip, ...] = ()
    tuned_name: str = ""
    problem: str = ""

    @property
    def fixed(self) -> int:
        """Words fixed, in total."""
        return sum(clip.fixed for clip in self.clips)

    @property
    def broken(self) -> int:
        """Words broken, in total."""
        return sum(clip.broken for clip in self.clips)

    def sorted(self, *, broken_first: bool) -> list[Clip]:
        """Most fixed first (words fixed less words broken), or most broken first."""
        sign = -1 if broken_first else 1
        return sorted(self.clips, key=lambda c: (sign * (c.errors[1] - c.errors[0]), c.id))


def read_transcripts(paths: RunPaths, dataset: str, best_step: int | None) -> Transcripts:
    """Of the base model and the tuned score; while there is none, of the best interval. Never raises."""
    tuned_path, name = paths.tuned(dataset), "tuned"
    if not tuned_path.exists() and best_step is not None:
        tuned_path, name = paths.evaluation(best_step, dataset), f"step {best_step}"
    base, tuned = _utterances(paths.evaluation(0, dataset)), _utterances(tuned_path)
    if not base[0] or not tuned[0]:
        return Transcripts(problem=f"No {dataset} transcripts to compare yet: they come with the first interval.")
    apply = base[1]
    clips = [
        compare(clip, apply(reference), apply(hypothesis), apply(tuned[0][clip][1]))
        for clip, (reference, hypothesis) in base[0].items()
        if clip in tuned[0]
    ]
    return Transcripts(tuple(clips), name)


def compare(clip: str, reference: str, base: str, tuned: str) -> Clip:
    """Align both with the reference. Texts are normalised already."""
    words = tuple(reference.split())
    first, second = align(words, base.split()), align(words, tuned.split())
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


def clip_lines(clip: Clip, width: int) -> list[Pieces]:
    """The clip as aligned lines, broken where the screen ends. Errors are marked: [substituted], +inserted, ---."""
    head: list[tuple[str, str]] = [(sanitise(clip.id, max(10, width - 30)), "muted"), ("  ", "")]
    head.append((f"{clip.fixed} fixed", "fixed" if clip.fixed else "muted"))
    head.append((f", {clip.broken} broken", "broken" if clip.broken else "muted"))
    lines: list[Pieces] = [head]
    block: list[list[tuple[str, str]]] = _block()
    used = _LABEL
    for cells in _columns(clip):
        size = max(len(text) for text, _ in cells)
        if used + size + 1 > width and used > _LABEL:
            lines += block
            block, used = _block(), _LABEL
        for line, (text, role) in zip(block, cells, strict=True):
            line.append((text.ljust(size) + " ", role))
        used += size + 1
    return [*lines, *block, []]


_LABEL = 8


def _block() -> list[list[tuple[str, str]]]:
    return [[(f"  {name:<6}", "muted")] for name in ("ref", "base", "tuned")]


def _columns(clip: Clip) -> list[tuple[tuple[str, str], ...]]:
    """(reference, base, tuned) cells, insertions in columns of their own."""
    columns: list[tuple[tuple[str, str], ...]] = []
    for index in range(len(clip.reference) + 1):
        inserted = [[s for s in aligned[index] if s.kind == "ins"] for aligned in (clip.base, clip.tuned)]
        for extra in range(max(len(slots) for slots in inserted)):
            pair = [_cell(slots[extra]) if extra < len(slots) else ("", "") for slots in inserted]
            columns.append((("", ""), *pair))
        if index < len(clip.reference):
            word = sanitise(clip.reference[index], _LONGEST_WORD)
            hypotheses = [_cell(aligned[index][-1], word) for aligned in (clip.base, clip.tuned)]
            columns.append(((word, ""), *hypotheses))
    return columns


def _cell(slot: Slot, reference: str = "") -> tuple[str, str]:
    word = sanitise(slot.word, _LONGEST_WORD)
    match slot.kind:
        case "ok":
            return word, ""
        case "del":
            return _GAP * max(2, len(reference)), "broken"
        case "ins":
            return f"+{word}", "broken"
    return f"[{word}]", "broken"


def _utterances(path: Path) -> tuple[Mapping[str, tuple[str, str]], Callable[[str], str]]:
    """(clip → (reference, hypothesis), the normaliser that the document names)."""
    document, _ = read_json(path)
    found: dict[str, tuple[str, str]] = {}
    utterances: Any = (document or {}).get("utterances")
    for item in utterances if isinstance(utterances, list) else ():
        if isinstance(item, dict):
            found[str(item.get("id"))] = (str(item.get("reference", "")), str(item.get("hypothesis", "")))
    named: Any = (document or {}).get("normaliser")
    try:
        apply = normaliser(str(named["name"])).apply
    except (ValueError, KeyError, TypeError):
        apply = normaliser("basic").apply
    return found, apply
