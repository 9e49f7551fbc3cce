"""Folding events: an attempt supersedes what earlier ones wrote past the checkpoint that it went on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from core.plan.schema import MOST_NUMBER
from core.runs.events import (
    AdapterSaved,
    AttemptStarted,
    CheckpointSaved,
    Event,
    Final,
    Heartbeat,
    IntervalScored,
    Notice,
    Phase,
    Record,
    Step,
    decode,
)
from core.runs.snapshot import STALLED_S, Attempt
from core.runs.steps import Buffer, StepColumns, parse, stretches
from core.scoring.counts import ErrorCounts
from core.scoring.evidence import Interval, SetScore
from core.system.process import identity_from_json

_BEFORE_ALL = -1
_COUNTS = ("substitutions", "deletions", "insertions", "reference_words")


class History:
    """The folded history of one run, fed with lines as they come."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.steps = StepColumns()
        self.intervals: dict[int, Interval] = {}
        self.checkpoints: dict[int, None] = {}
        self.adapters: dict[int, AdapterSaved] = {}
        self.notices: dict[tuple[str, str], Notice] = {}
        self.phase: Phase | None = None
        self.progress: tuple[int, int] | None = None
        self.last_time: float | None = None
        self.foreign = 0

    def add_block(self, block: Buffer) -> None:
        """Fold whole lines, each with its line end. Lines that are no event of this schema are counted."""
        for start, end, are_steps in stretches(block):
            lines = block[start:end]
            if not (are_steps and self._add_steps(lines)):
                for line in bytes(lines).split(b"\n"):
                    self._add_line(line)

    def add(self, record: Record) -> None:
        """Fold one event. ValueError, and no change, if its attempt was superseded or a count is missing."""
        event = record.event
        newest = self.attempts[-1].number if self.attempts else None
        if newest is not None and record.attempt < newest:
            raise ValueError("written by an attempt that was superseded")
        scored = interval_of(event) if isinstance(event, IntervalScored) else None
        if isinstance(event, AttemptStarted):
            self._start(record, event, again=record.attempt == newest)
        elif record.attempt != newest:
            # The line that began this attempt was lost: what it superseded shows when steps repeat.
            self.attempts.append(Attempt(record.attempt, record.time, record.time, None, None, "", ""))
        self._apply(event if scored is None else scored)
        newest_event = self.attempts[-1].last_event
        self._seen(record.time, min(max(record.time - newest_event, 0.0), STALLED_S))

    def _add_line(self, line: bytes) -> None:
        if not line.strip():
            return
        record = decode(line.decode("utf-8", "replace"))
        try:
            if record is None:
                raise ValueError("no event of this schema")
            self.add(record)
        except (ValueError, OverflowError):
            self.foreign += 1

    def _add_steps(self, lines: Buffer) -> bool:
        """Whether they are what a trainer writes in one go; else nothing of them was taken."""
        block = parse(lines)
        if block is None or not self.attempts or block.attempt != self.attempts[-1].number:
            return False
        if not self.steps.append_block(block):
            return False
        self._in_phase("training")
        gaps = np.diff(block.time, prepend=self.attempts[-1].last_event)
        self._seen(float(block.time[-1]), float(np.clip(gaps, 0.0, STALLED_S).sum()))
        return True

    def _start(self, record: Record, event: AttemptStarted, again: bool) -> None:
        if again:
            self.attempts.pop()
        started = Attempt(
            number=record.attempt,
            started=record.time,
            last_event=record.time,
            process=identity_from_json(event.process),
            resumed_from=event.resumed_from,
            device=event.device,
            precision=event.precision,
            versions=dict(event.versions),
        )
        self.attempts.append(started)
        self._drop_after(_BEFORE_ALL if event.resumed_from is None else event.resumed_from)
        self.phase, self.progress = None, None

    def _drop_after(self, step: int) -> None:
        self.steps.drop_after(step)
        for kept in (self.intervals, self.checkpoints, self.adapters):
            for late in [s for s in kept if s > step]:
                del kept[late]

    def _apply(self, event: Event | Interval) -> None:
        match event:
            case Step():
                if event.step <= self.steps.last:
                    self._drop_after(event.step - 1)
                self.steps.append(event)
                self._in_phase("training")
            case Interval():
                self.intervals[event.step] = event
            case CheckpointSaved():
                self.checkpoints[event.step] = None
            case AdapterSaved():
                # Removed first, so that the order is that of writing and the newest `best` is the last.
                self.adapters.pop(event.step, None)
                self.adapters[event.step] = event
            case Phase():
                self.phase, self.progress = event, None
            case Heartbeat():
                self._in_phase(event.phase)
                if event.done is not None and event.total is not None:
                    self.progress = event.done, event.total
            case Notice():
                self.notices[event.level, event.message] = event
            case Final():
                self.attempts[-1] = replace(self.attempts[-1], final=event)

    def _in_phase(self, name: str) -> None:
        if self.phase is None or self.phase.phase != name:
            self.phase, self.progress = Phase(name), None

    def _seen(self, time: float, spent_s: float) -> None:
        newest, self.last_time = self.attempts[-1], time
        self.attempts[-1] = replace(newest, last_event=time, duration_s=newest.duration_s + spent_s)


def interval_of(event: IntervalScored) -> Interval:
    """The event as scoring sees it. ValueError when a set or one of its counts is missing."""
    sets = {name: _set_score(values) for name, values in event.sets.items()}
    if "domain" not in sets or "heldout" not in sets:
        raise ValueError("an interval without domain or heldout")
    return Interval(event.step, sets["domain"], sets["heldout"], sets.get("selection"))


def _set_score(values: dict[str, Any]) -> SetScore:
    loss = values.get("loss")
    if type(loss) is int and abs(loss) > MOST_NUMBER:
        raise ValueError("a loss beyond all measure")
    return SetScore(counts_of(values), float(loss) if isinstance(loss, (int, float)) else None)


def counts_of(values: Mapping[str, Any]) -> ErrorCounts:
    """The counts in an event or a score document. ValueError if one is missing or no whole number ≥ 0."""
    substitutions, deletions, insertions, words = map(values.get, _COUNTS)
    for count in (substitutions, deletions, insertions, words):
        if type(count) is not int or not 0 <= count <= MOST_NUMBER:
            raise ValueError("a count is missing or is no whole number")
    return ErrorCounts(substitutions, deletions, insertions, words)  # type: ignore[arg-type]
