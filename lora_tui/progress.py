"""What the headless face says of a run while it goes on, and its verdict as a table. Pure: snapshots in, lines out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.runs.row import clock, duration, no_number, percent
from core.runs.run_figures import change, eta_s
from core.runs.snapshot import RunSnapshot
from core.scoring.certainty import short
from core.scoring.criteria import SIGNS
from core.scoring.evidence import Criterion, Interval, Verdict
from core.scoring.signs import MINUS, limit, signed
from core.scoring.signs import change as change_of
from core.scoring.units import ErrorCounts
from lora_tui.cells import table

TRAINING_LINE_S = 10.0
"""At most one line on training steps in this time."""
_LOSS_STEPS = 20
"""The loss that is shown is the mean over so many last steps: one step's alone jumps about."""


@dataclass(slots=True)
class RunProgress:
    """What was said of one run already. `label`: the row, as it begins each line."""

    label: str
    attempt: int = 0
    interval: int = -1
    phase: str = ""
    detail: str = ""
    training_said: float = float("-inf")
    progress_said: tuple[int, int] | None = None
    step_said: int = -1
    notices: int = 0

    def skip_to(self, snapshot: RunSnapshot) -> None:
        """Say nothing of what is there already: a run that is attached to while it goes on."""
        list(self.news(snapshot, float("nan")))

    def news(self, snapshot: RunSnapshot, now: float) -> Iterator[str]:
        """The lines that are new. `now`: seconds of a clock that is never set."""
        attempts = snapshot.attempts
        if attempts and attempts[-1].number != self.attempt:
            yield self._attempt(snapshot)
        for notice in snapshot.notices[self.notices :]:
            yield f"{self.label}  {notice.level}: {notice.message}"
        self.notices = len(snapshot.notices)
        for interval in snapshot.intervals:
            if interval.step > self.interval:
                self.interval = interval.step
                self.training_said = now if math.isfinite(now) else float("-inf")
                yield f"{self.label}  {interval_line(interval, snapshot)}"
        if not snapshot.state.active:
            return
        phase = snapshot.phase or ""
        if (phase, snapshot.phase_detail) != (self.phase, self.detail):
            self.phase, self.detail, self.progress_said = phase, snapshot.phase_detail, None
            if phase != "training":
                yield f"{self.label}  {phase}{_at_step(snapshot)}{_detail(snapshot)}"
        step = snapshot.steps_completed
        if phase == "training" and step != self.step_said and now - self.training_said >= TRAINING_LINE_S:
            self.training_said, self.step_said = now, step
            yield f"{self.label}  {training_line(snapshot)}"
        elif (done := snapshot.progress) not in (
            None,
            self.progress_said,
        ) and now - self.training_said >= TRAINING_LINE_S:
            self.training_said, self.progress_said = now, done
            yield f"{self.label}  {phase}{_at_step(snapshot)}{_detail(snapshot)}  {done[0]}/{done[1]}"

    def _attempt(self, snapshot: RunSnapshot) -> str:
        attempt = snapshot.attempts[-1]
        self.attempt, self.phase, self.detail = attempt.number, "", ""
        self.training_said = float("-inf")
        self.interval = max((i.step for i in snapshot.intervals if i.step <= (attempt.resumed_from or -1)), default=-1)
        where = f"on {attempt.device}, {attempt.precision}"
        if attempt.resumed_from is not None:
            return f"{self.label}  goes on from step {attempt.resumed_from} {where} (attempt {attempt.number})"
        return f"{self.label}  starts {where} ({snapshot.paths.name})"


def interval_line(interval: Interval, snapshot: RunSnapshot) -> str:
    """`step 400/1000  loss 0.512  domain WER 21.30 % (−9.40)  heldout WER 3.10 % (+0.05)  0.14 s/step  ETA 1:32`."""
    base = next((i for i in snapshot.intervals if i.step == 0), None)
    parts = [f"step {interval.step}/{snapshot.steps_planned}", *_loss(snapshot, interval.step)]
    for name in ("domain", "heldout"):
        counts = getattr(interval, name).counts
        before = getattr(base, name).counts if base is not None and interval.step else None
        parts.append(f"{name} {snapshot.unit.rate} {_rate(counts, before)}")
    return "  ".join([*parts, *_speed(snapshot)] if interval.step else [*parts, "(base model)"])


def training_line(snapshot: RunSnapshot) -> str:
    """`step 430/1000  loss 0.498  0.14 s/step  ETA 1:20`."""
    step = snapshot.steps_completed
    parts = [f"step {step}/{snapshot.steps_planned}", *_loss(snapshot, step)]
    return "  ".join([*parts, *_speed(snapshot)])


def verdict_lines(label: str, verdict: Verdict, duration_s: float | None, stands: str) -> list[str]:
    """The verdict as a table: state, criterion, number, threshold, how sure the number is, and the reason.

    `stands`: the headline of its row.
    """
    time = "" if duration_s is None else f" after {duration(duration_s)}"
    best = f", best {verdict.best}" if verdict.best else ""
    lines = [f"{label}  verdict: {verdict.word.upper()}{time}{best}", f"  {stands}"]
    lines += [f"  {remark}" for remark in verdict.remarks]
    cells = [(*criterion_cells(criterion), criterion.reason) for criterion in verdict.criteria]
    return [*lines, *(f"  {line}" for line in table(cells, right=(2,)))]


def criterion_cells(criterion: Criterion) -> tuple[str, str, str, str, str]:
    """State, title, measured number, threshold, and how sure the number is."""
    number, limit = _value(criterion), _threshold(criterion)
    return criterion.state.value, criterion.title, number, limit, _certainty(criterion)


def _value(criterion: Criterion) -> str:
    if criterion.value is None:
        return no_number(criterion)
    if criterion.unit != "points":
        return f"{criterion.value:.4g}".replace("-", MINUS)
    if criterion.kind == "stability":  # how far an error rate spans is no change
        return f"{criterion.value:.2f}"
    return signed(change_of(criterion.kind, criterion.value))


def _certainty(criterion: Criterion) -> str:
    return "" if criterion.certainty is None else short(criterion.certainty, criterion.name)


def _threshold(criterion: Criterion) -> str:
    if criterion.threshold is None or criterion.kind not in SIGNS:
        return ""
    return f"{SIGNS[criterion.kind]} {limit(change_of(criterion.kind, criterion.threshold))} {criterion.unit}"


def _rate(counts: ErrorCounts, before: ErrorCounts | None) -> str:
    rise = change(before, counts)
    return f"{percent(counts.wer_percent)} %{'' if rise is None else f' ({signed(rise)})'}"


def _loss(snapshot: RunSnapshot, step: int) -> list[str]:
    until = int(np.searchsorted(snapshot.steps.step, step, side="right"))
    last = snapshot.steps.loss[max(0, until - _LOSS_STEPS) : until]
    return [f"loss {float(np.mean(last)):.3f}"] if len(last) else []


def _speed(snapshot: RunSnapshot) -> list[str]:
    each, left = snapshot.steps.seconds_per_step, eta_s(snapshot)
    parts = [] if each is None else [f"{each:.2f} s/step"]
    return parts if left is None else [*parts, f"ETA {clock(left)}"]


def _at_step(snapshot: RunSnapshot) -> str:
    return "" if snapshot.phase_step is None else f" at step {snapshot.phase_step}"


def _detail(snapshot: RunSnapshot) -> str:
    return f": {snapshot.phase_detail}" if snapshot.phase_detail else ""
