"""Transcripts side by side: reference, base model, tuned; which words were fixed, which broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.runs.files import read_json
from core.runs.paths import RunPaths
from core.sanitise import sanitise
from core.scoring.side_by_side import Clip, columns, compare
from core.scoring.text import normaliser
from lora_tui.dashboard.lines_view import Pieces


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
        """Most fixed first (words fixed less words broken, then errors saved), or most broken first."""
        sign = -1 if broken_first else 1
        worse = {clip.id: (clip.broken - clip.fixed, clip.errors[1] - clip.errors[0]) for clip in self.clips}
        return sorted(self.clips, key=lambda c: (sign * worse[c.id][0], sign * worse[c.id][1], c.id))


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


def clip_lines(clip: Clip, width: int) -> list[Pieces]:
    """The clip as aligned lines, broken where the screen ends. Errors are marked: [substituted], +inserted, ---."""
    head: list[tuple[str, str]] = [(sanitise(clip.id, max(10, width - 30)), "muted"), ("  ", "")]
    head.append((f"{clip.fixed} fixed", "fixed" if clip.fixed else "muted"))
    head.append((f", {clip.broken} broken", "broken" if clip.broken else "muted"))
    lines: list[Pieces] = [head]
    block: list[list[tuple[str, str]]] = _block()
    used = _LABEL
    for cells in columns(clip):
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
