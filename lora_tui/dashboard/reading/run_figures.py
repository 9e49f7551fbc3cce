"""What a run's files say in figures: its row, what is left of it, how heldout changed. For the reader thread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from core.runs.judged import Judged
from core.runs.matrix import first_reason
from core.runs.paths import RunPaths
from core.runs.scores import read_score
from core.runs.snapshot import RunSnapshot, reason
from core.scoring.criteria import rise_points
from core.scoring.evidence import Interval
from core.system.files import stamp
from lora_tui.dashboard.reading.snapshots import BoardRow, IntervalChange

_CERTAINTY = 1.96
"""Standard errors in half a 95 % interval."""


def figures(row: BoardRow, judged: Judged) -> BoardRow:
    """The figures of a run, in a row. Pure."""
    snapshot, evidence, verdict = judged.snapshot, judged.evidence, judged.verdict
    best = next((i for i in snapshot.intervals if i.step == verdict.best_step), None)
    domain = evidence.tuned_domain or (best.domain.counts if best is not None else None)
    heldout = evidence.tuned_heldout or (best.heldout.counts if best is not None else None)
    wers = [None if c is None else c.wer_percent for c in (domain, heldout)]
    base = [None if c is None else c.wer_percent for c in (evidence.baseline_domain, evidence.baseline_heldout)]
    changes = [None if a is None or b is None else a - b for a, b in zip(wers, base, strict=True)]
    train = snapshot.settings.get("train")
    rate = train.get("learning_rate") if isinstance(train, dict) else None
    return replace(
        row,
        title=row.title or snapshot.title,
        run=snapshot.paths.name,
        state=str(snapshot.state).replace("_", " "),
        reason=evidence.failure or _detail(snapshot) or row.reason,
        steps=snapshot.steps_completed,
        steps_planned=snapshot.steps_planned,
        pace_s=snapshot.steps.seconds_per_step,
        eta_s=eta_s(snapshot) if snapshot.state.active else None,
        best_step=verdict.best_step,
        domain=wers[0],
        domain_change=changes[0],
        heldout=wers[1],
        heldout_change=changes[1],
        decision=verdict.word if snapshot.intervals or not snapshot.state.active else None,
        active=snapshot.state.active,
        learning_rate=rate if isinstance(rate, float) else None,
        baseline_domain=base[0],
        baseline_heldout=base[1],
        criteria=tuple((c.name, c.state.value) for c in verdict.criteria),
        note=evidence.failure or first_reason(verdict),
        duration_s=snapshot.duration_s if snapshot.attempts else None,
        adapter_hash=evidence.artifact.current_hash if evidence.artifact is not None else None,
        values=snapshot.settings or row.values,
    )


def _detail(snapshot: RunSnapshot) -> str:
    if snapshot.progress is not None and snapshot.state.active:
        return f"{snapshot.progress[0]}/{snapshot.progress[1]}"
    if snapshot.state.active:
        return snapshot.phase_detail
    # Where its machine is another one, the reason tells for how long it is silent, which goes on and on.
    return "" if snapshot.alive is None else reason(snapshot)


def eta_s(snapshot: RunSnapshot) -> float | None:
    """Seconds that are left of training, evaluations included; None before a step, or when nothing is left.

    What the attempt's time holds beside its steps was spent on its evaluations, interval 0 among them.
    """
    each = snapshot.steps.seconds_per_step
    left = snapshot.steps_planned - snapshot.steps_completed
    if each is None or left <= 0 or not snapshot.attempts:
        return None
    attempt = snapshot.attempts[-1]
    since = attempt.resumed_from or 0
    first = int(np.searchsorted(snapshot.steps.step, since, side="right"))
    stepping = float(np.nansum(snapshot.steps.seconds[first:]))
    scored = sum(1 for interval in snapshot.intervals if interval.step > since or attempt.resumed_from is None)
    an_evaluation = max(0.0, attempt.duration_s - stepping) / max(1, scored)
    train = snapshot.settings.get("train")
    every = train.get("eval_every") if isinstance(train, dict) else None
    every = every if isinstance(every, int) and every > 0 else snapshot.steps_planned
    to_come = math.ceil(snapshot.steps_planned / every) - snapshot.steps_completed // every
    return each * left + an_evaluation * to_come


def heldout_changes(paths: RunPaths, intervals: tuple[Interval, ...]) -> tuple[IntervalChange, ...]:
    """Heldout WER of each interval against interval 0, with its uncertainty by the utterances."""
    base = next((i for i in intervals if i.step == 0), None)
    if base is None:
        return ()
    before = _errors(paths.evaluation(0, "heldout"))
    changes = []
    for interval in intervals:
        rise = rise_points(base.heldout.counts, interval.heldout.counts)
        if rise is None:
            continue
        after = _errors(paths.evaluation(interval.step, "heldout")) if interval.step else before
        width = half_width(before, after, base.heldout.counts.reference_words)
        changes.append(IntervalChange(interval.step, float(rise), width))
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
