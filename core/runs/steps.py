"""The steps of a run as columns: a million of them are parsed in about a second and drawn without copying."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.runs.events import MOST_SECONDS, Step

STEP_PREFIX = b'{"event": "step", '
"""How `events.encode` begins the line of a step."""
_NEW_LINE = 10
_PREFIX = np.frombuffer(STEP_PREFIX, np.uint8)

Buffer = bytes | bytearray | memoryview


class _Line(msgspec.Struct, tag_field="event", tag="step", gc=False):
    """A plain step: every field there, every number a number. Other lines go the careful way."""

    attempt: int
    time: float
    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    audio_s: float
    seconds: float


_DECODER = msgspec.json.Decoder(_Line)


@dataclass(frozen=True, slots=True, eq=False)
class StepBlock:
    """Columns of shape (lines,), in the order of the file."""

    attempt: int
    time: NDArray[np.float64]
    """Unix seconds."""
    step: NDArray[np.int64]
    values: tuple[NDArray[np.float64], ...]
    """loss, learning_rate, grad_norm, tokens, audio_s, seconds."""


def stretches(block: Buffer) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether all lines in it are steps) of the stretches that whole lines consist of, in order."""
    octets = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(octets == _NEW_LINE) + 1
    if not len(ends):
        return
    starts = np.concatenate([[0], ends[:-1]])
    long_enough = ends - starts > len(_PREFIX)
    are_steps = long_enough.copy()
    places = starts[long_enough][:, None] + np.arange(len(_PREFIX))
    are_steps[long_enough] = (octets[places] == _PREFIX).all(axis=1)
    changes = np.flatnonzero(np.diff(are_steps)) + 1
    for first, last in zip([0, *changes.tolist()], [*changes.tolist(), len(ends)], strict=True):
        yield int(starts[first]), int(ends[last - 1]), bool(are_steps[first])


def parse(lines: Buffer) -> StepBlock | None:
    """The steps in these lines; None unless all of them are plain steps of one attempt in rising order."""
    try:
        rows: list[Any] = _DECODER.decode_lines(lines)
        attempts = {row.attempt for row in rows}
        if len(attempts) != 1 or len(rows) != np.count_nonzero(np.frombuffer(lines, np.uint8) == _NEW_LINE):
            return None
        time = np.array(array("d", [row.time for row in rows]))
        step = np.array(array("q", [row.step for row in rows]), np.int64)
        values = (
            np.array(array("d", [row.loss for row in rows])),
            np.array(array("d", [row.learning_rate for row in rows])),
            np.array(array("d", [row.grad_norm for row in rows])),
            np.array(array("d", [row.tokens for row in rows])),
            np.array(array("d", [row.audio_s for row in rows])),
            np.array(array("d", [row.seconds for row in rows])),
        )
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    if np.any(np.diff(step) <= 0) or not (time >= 0).all() or not (time <= MOST_SECONDS).all():
        return None
    return StepBlock(attempts.pop(), time, step, values)


_FIELDS = ("loss", "learning_rate", "grad_norm", "tokens", "audio_s", "seconds")
_FIRST_CAPACITY = 1024
_GROWTH = 8
"""Columns grow by an eighth: a million steps must not reserve the memory of two."""


class Lineage:
    """Stands for one history that only ever grows: what was worked out for its first n steps stays true."""


@dataclass(frozen=True, slots=True, eq=False)
class StepSeries:
    """Columns of shape (steps,), read-only, in strictly rising order of `step`; non-finite values stay."""

    step: NDArray[np.int64]
    loss: NDArray[np.float64]
    """Nats per target token."""
    learning_rate: NDArray[np.float64]
    grad_norm: NDArray[np.float64]
    tokens: NDArray[np.float64]
    audio_s: NDArray[np.float64]
    seconds: NDArray[np.float64]
    """Wall time of each step."""
    lineage: Lineage = field(default_factory=Lineage)
    """The same as long as steps were only added."""

    def __len__(self) -> int:
        return len(self.step)

    @property
    def last_step(self) -> int:
        """The newest step; 0 before the first."""
        return int(self.step[-1]) if len(self.step) else 0

    @property
    def seconds_per_step(self) -> float | None:
        """The median over all steps, which pauses and first steps do not move; None without a step."""
        finite = self.seconds[np.isfinite(self.seconds)]
        if not len(finite):
            return None
        # np.median would import numpy.ma, which costs as much as reading a run.
        low, high = (len(finite) - 1) // 2, len(finite) // 2
        ordered = np.partition(finite, (low, high))
        return float((ordered[low] + ordered[high]) / 2)


class StepColumns:
    """Grows by appending. The views it has handed out never change."""

    def __init__(self) -> None:
        self._step = np.empty(_FIRST_CAPACITY, np.int64)
        self._values = [np.empty(_FIRST_CAPACITY, np.float64) for _ in _FIELDS]
        self._length = 0
        self._lineage = Lineage()
        self.expected = 0
        """So many steps may come in all: room is made for them at once."""

    @classmethod
    def of(cls, step: NDArray[np.int64], values: Sequence[NDArray[np.float64]]) -> StepColumns:
        """Columns that begin with these, which are taken over."""
        columns = cls()
        columns._step, columns._values, columns._length = step, list(values), len(step)
        return columns

    @property
    def last(self) -> int:
        """The newest step; 0 before the first."""
        return int(self._step[self._length - 1]) if self._length else 0

    @property
    def count(self) -> int:
        """How many there are."""
        return self._length

    def append(self, step: Step) -> None:
        """Add one step. What it does not follow is dropped: a repeated step supersedes the later ones."""
        row = [np.array([float(getattr(step, name))]) for name in _FIELDS]
        number = int(step.step)
        self.drop_after(number - 1)
        self._extend(np.array([number], np.int64), row)

    def append_block(self, block: StepBlock) -> bool:
        """Add many steps at once; False, with nothing added, unless they follow those that are there."""
        if not len(block.step) or block.step[0] <= self.last:
            return False
        self._extend(block.step, block.values)
        return True

    def drop_after(self, step: int) -> None:
        """Forget the steps after `step`."""
        kept = int(np.searchsorted(self._step[: self._length], step, side="right"))
        if kept < self._length:
            # Views of the old buffers are in readers' hands: go on in new ones.
            self._step, self._values = self._step.copy(), [column.copy() for column in self._values]
            self._length, self._lineage = kept, Lineage()

    def series(self) -> StepSeries:
        """The steps so far, as views."""
        step = self._step[: self._length]
        loss, rate, norm, tokens, audio_s, seconds = (column[: self._length] for column in self._values)
        for column in (step, loss, rate, norm, tokens, audio_s, seconds):
            column.flags.writeable = False
        return StepSeries(step, loss, rate, norm, tokens, audio_s, seconds, self._lineage)

    def _extend(self, steps: NDArray[np.int64], values: Sequence[NDArray[np.float64]]) -> None:
        needed = self._length + len(steps)
        if needed > len(self._step):
            capacity = max(needed, self._length + max(_FIRST_CAPACITY, self._length // _GROWTH), self.expected)
            # One column after the other: only one of them is in memory twice.
            self._step = _grown(self._step, self._length, capacity)
            for i, column in enumerate(self._values):
                self._values[i] = _grown(column, self._length, capacity)
        self._step[self._length : needed] = steps
        for column, new in zip(self._values, values, strict=True):
            column[self._length : needed] = new
        self._length = needed


def _grown(column: NDArray[Any], length: int, capacity: int) -> NDArray[Any]:
    grown = np.empty(capacity, column.dtype)
    grown[:length] = column[:length]
    return grown
