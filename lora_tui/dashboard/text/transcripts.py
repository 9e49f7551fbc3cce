"""Transcripts side by side: reference, base model, tuned; which words were fixed, which broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.runs.paths import RunPaths
from core.runs.scores import read_score
from core.sanitise import sanitise
from core.scoring.side_by_side import Clip, columns, compare
from core.scoring.text import normaliser
from core.system.files import exists
from lora_tui.cells import Pieces, cropped, padded, width_of


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
    if not exists(tuned_path) and best_step is not None:
        tuned_path, name = paths.evaluation(best_step, dataset), f"step {best_step}"
    first, second = read_score(paths.evaluation(0, dataset))[0], read_score(tuned_path)[0]
    if first is None or second is None:
        return Transcripts(problem=f"No {dataset} transcripts to compare yet: they come with the first interval.")
    later = {utterance.id: utterance.hypothesis for utterance in second.utterances}
    apply = _normaliser(first.normaliser.name)
    clips = [
        compare(clip.id, apply(clip.reference), apply(clip.hypothesis), apply(later[clip.id]))
        for clip in first.utterances
        if clip.id in later
    ]
    return Transcripts(tuple(clips), name)


def clip_lines(clip: Clip, width: int) -> list[Pieces]:
    """The clip as aligned lines, broken where the screen ends. Errors are marked: [substituted], +inserted, ---."""
    head: list[tuple[str, str]] = [(cropped(sanitise(clip.id), max(10, width - 30)), "muted"), ("  ", "")]
    head.append((f"{clip.fixed} fixed", "fixed" if clip.fixed else "muted"))
    head.append((f", {clip.broken} broken", "broken" if clip.broken else "muted"))
    lines: list[Pieces] = [head]
    block: list[list[tuple[str, str]]] = _block()
    used = _LABEL
    for cells in columns(clip):
        size = max(width_of(text) for text, _ in cells)
        if used + size + 1 > width and used > _LABEL:
            lines += block
            block, used = _block(), _LABEL
        for line, (text, role) in zip(block, cells, strict=True):
            line.append((padded(text, size) + " ", role))
        used += size + 1
    return [*lines, *block, []]


_LABEL = 8


def _block() -> list[list[tuple[str, str]]]:
    return [[(f"  {name:<6}", "muted")] for name in ("ref", "base", "tuned")]


def _normaliser(name: str) -> Callable[[str], str]:
    try:
        return normaliser(name).apply
    except ValueError:
        return normaliser("basic").apply  # of a later version: the words are worth seeing all the same
