"""Lucky averages: whether a manifest's WER depends on where in it one looks. Pure; chance is seeded.

Manifests are often sorted or joined from parts. If clips were in random order, the running WER would wander around
its end value within a band that shuffling shows, and surplus errors would drift no further than shuffling makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from core.scoring.units import ErrorCounts, total

SHUFFLES = 2000
SEED = 0
SURE = 0.01
"""A p-value below it is a position effect: the test is made for every set of every run."""
FLAT_PP = 0.2
"""A running WER has settled when it stays this close, in points, to its end value."""
BLOCKS = 10
_AT_ONCE = 4_000_000
"""Numbers in memory at once while shuffling."""


@dataclass(frozen=True, slots=True)
class ScoredClip:
    """One utterance in the manifest's order."""

    counts: ErrorCounts
    seconds: float
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """WER of a part of the manifest."""

    name: str
    clips: int
    counts: ErrorCounts


@dataclass(frozen=True, slots=True)
class PositionReport:
    """What the order of the manifest does to its WER. All WERs in percent."""

    running: tuple[float, ...]
    """WER of the first n clips, n = 1 …; 0 while there are no words."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    """The band that 95 of 100 shuffled orders keep to at each n."""
    p_value: float
    """How often a shuffled order drifts as far as this one."""
    settled_after: int
    """From this many clips on the running WER stays within 0.2 points of its end."""
    shuffled_settles_after: int
    """The same for the median shuffled order: what to expect of a fair one."""
    blocks: tuple[Slice, ...]
    durations: tuple[Slice, ...]
    speakers: tuple[Slice, ...]
    """Empty when fewer than two speakers are told."""

    @property
    def position_effect(self) -> bool:
        """Whether the order is not one that chance would give."""
        return self.p_value < SURE


def position_report(clips: Sequence[ScoredClip], shuffles: int = SHUFFLES, seed: int = SEED) -> PositionReport:
    """The report on `clips` in their order. ValueError without reference words."""
    errors = np.array([clip.counts.errors for clip in clips], np.float64)
    words = np.array([clip.counts.reference_words for clip in clips], np.float64)
    if not words.sum():
        raise ValueError("a position report needs reference words")
    wer = errors.sum() / words.sum()
    running = _running(errors, words)
    drift = float(np.abs(np.cumsum(errors - wer * words)).max())
    reached, settled = 0, []
    rng = np.random.default_rng(seed)
    shown = min(shuffles, max(40, _AT_ONCE // len(clips)))
    kept = np.empty((shown, len(clips)), np.float64)
    for number in range(shuffles):
        order = rng.permutation(len(clips))
        some_errors, some_words = errors[order], words[order]
        # A tie counts: rounding must not make an order special.
        reached += float(np.abs(np.cumsum(some_errors - wer * some_words)).max()) >= drift - 1e-9
        if number < shown:
            kept[number] = _running(some_errors, some_words)
            settled.append(_settled_after(kept[number]))
    low, high = np.quantile(kept, (0.025, 0.975), axis=0)
    return PositionReport(
        running=_rounded(running),
        low=_rounded(low),
        high=_rounded(high),
        p_value=(1 + reached) / (1 + shuffles),
        settled_after=_settled_after(running),
        shuffled_settles_after=int(np.median(settled)),
        blocks=_blocks(clips),
        durations=_durations(clips),
        speakers=_speakers(clips),
    )


def _running(errors: NDArray[np.float64], words: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(100 * np.cumsum(errors) / np.maximum(np.cumsum(words), 1), np.float64)


def _settled_after(running: NDArray[np.float64]) -> int:
    away = np.flatnonzero(np.abs(running - running[-1]) > FLAT_PP + 1e-9)
    return int(away[-1]) + 2 if len(away) else 1


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in values)


def _blocks(clips: Sequence[ScoredClip]) -> tuple[Slice, ...]:
    """Ten blocks of equally many clips, in order."""
    count = min(BLOCKS, len(clips))
    edges = [len(clips) * part // count for part in range(count + 1)]
    return tuple(_slice(f"{start + 1}–{stop}", clips[start:stop]) for start, stop in pairwise(edges))


def _durations(clips: Sequence[ScoredClip]) -> tuple[Slice, ...]:
    """Four parts of equally many clips, by length."""
    ordered = sorted(clips, key=lambda clip: clip.seconds)
    count = min(4, len(ordered))
    edges = [len(ordered) * part // count for part in range(count + 1)]
    parts = [ordered[start:stop] for start, stop in pairwise(edges)]
    return tuple(_slice(f"{part[0].seconds:.1f}–{part[-1].seconds:.1f} s", part) for part in parts)


def _speakers(clips: Sequence[ScoredClip]) -> tuple[Slice, ...]:
    by_name: dict[str, list[ScoredClip]] = {}
    for clip in clips:
        if clip.speaker is not None:
            by_name.setdefault(clip.speaker, []).append(clip)
    return tuple(_slice(name, by_name[name]) for name in sorted(by_name)) if len(by_name) > 1 else ()


def _slice(name: str, clips: Sequence[ScoredClip]) -> Slice:
    return Slice(name, len(clips), total(clip.counts for clip in clips))
