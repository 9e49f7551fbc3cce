"""How heldout changed at each interval, and how sure that is. For the reader thread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from core.runs.paths import RunPaths
from core.runs.scores import read_score
from core.runs.wers import change
from core.scoring.evidence import Interval
from core.system.files import stamp
from lora_tui.dashboard.reading.snapshots import IntervalChange

_CERTAINTY = 1.96
"""Standard errors in half a 95 % interval."""


def heldout_changes(paths: RunPaths, intervals: tuple[Interval, ...]) -> tuple[IntervalChange, ...]:
    """Heldout WER of each interval against interval 0, with its uncertainty by the utterances."""
    base = next((i for i in intervals if i.step == 0), None)
    if base is None:
        return ()
    before = _errors(paths.evaluation(0, "heldout"))
    changes = []
    for interval in intervals:
        rise = change(base.heldout.counts, interval.heldout.counts)
        if rise is None:
            continue
        after = _errors(paths.evaluation(interval.step, "heldout")) if interval.step else before
        width = half_width(before, after, base.heldout.counts.reference_words)
        changes.append(IntervalChange(interval.step, rise, width))
    return tuple(changes)


def half_width(before: Mapping[str, int], after: Mapping[str, int], words: int) -> float | None:
    """Half the 95 % interval of a change of WER in points: the paired differences' standard error (n ≥ 2)."""
    if len(before) < 2 or before.keys() != after.keys() or words <= 0:
        return None
    differences = [after[clip] - count for clip, count in before.items()]
    n = len(differences)
    mean = sum(differences) / n
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1)
    return _CERTAINTY * 100 * math.sqrt(n * variance) / words


def _errors(path: Path) -> Mapping[str, int]:
    try:
        return _errors_of(path, stamp(path.stat()))
    except OSError:
        return {}


@lru_cache(maxsize=512)
def _errors_of(path: Path, _stamp: tuple[int, ...]) -> Mapping[str, int]:
    """Errors by utterance; nothing if the document cannot be read."""
    score, _ = read_score(path)
    return {} if score is None else {utterance.id: utterance.errors for utterance in score.utterances}
