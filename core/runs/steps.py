"""The steps of a run as columns: a million of them are read in seconds and drawn without copying."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.runs.events import Step

STEP_PREFIX = b'{"event": "step", '
"""How `events.encode` begins the line of a step."""
_FIELDS = ("loss", "learning_rate", "grad_norm", "tokens", "audio_s", "seconds")
_FIRST_CAPACITY = 1024


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
        return float(np.median(finite)) if len(finite) else None


class StepColumns:
    """Grows by appending. The views it has handed out never change."""

    def __init__(self) -> None:
        self._step = np.empty(_FIRST_CAPACITY, np.int64)
        self._values = np.empty((len(_FIELDS), _FIRST_CAPACITY), np.float64)
        self._length = 0

    @property
    def last(self) -> int:
        """The newest step; 0 before the first."""
        return int(self._step[self._length - 1]) if self._length else 0

    def append(self, step: Step) -> None:
        """Add one step. What it does not follow is dropped: a repeated step supersedes the later ones."""
        row = [float(getattr(step, name)) for name in _FIELDS]
        number = int(step.step)
        self.drop_after(number - 1)
        self._extend(np.array([number], np.int64), np.array(row, np.float64)[:, None])

    def append_lines(self, lines: Sequence[bytes], attempt: int) -> float | None:
        """Add the steps of many lines at once and return the last one's time.

        None, with nothing added, unless every line is a plain step of `attempt` and the steps go on rising.
        """
        try:
            rows = json.loads(b"[" + b",".join(lines) + b"]")
            if len(rows) != len(lines) or any(row["attempt"] != attempt for row in rows):
                return None
            # array() takes numbers only, so a line with any other type goes the careful way.
            steps = np.array(array("q", [row["step"] for row in rows]), np.int64)
            values = np.array([array("d", [row[name] for row in rows]) for name in _FIELDS], np.float64)
            time = float(rows[-1]["time"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None
        if steps[0] <= self.last or np.any(np.diff(steps) <= 0):
            return None
        self._extend(steps, values)
        return time

    def drop_after(self, step: int) -> None:
        """Forget the steps after `step`."""
        kept = int(np.searchsorted(self._step[: self._length], step, side="right"))
        if kept < self._length:
            # Views of the old buffers are in readers' hands: go on in new ones.
            self._step, self._values = self._step.copy(), self._values.copy()
            self._length = kept

    def series(self) -> StepSeries:
        """The steps so far, as views."""
        columns = [self._step[: self._length], *self._values[:, : self._length]]
        for column in columns:
            column.flags.writeable = False
        return StepSeries(*columns)

    def _extend(self, steps: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        needed = self._length + len(steps)
        if needed > len(self._step):
            capacity = max(needed, 2 * len(self._step))
            grown_step, grown = np.empty(capacity, np.int64), np.empty((len(_FIELDS), capacity), np.float64)
            grown_step[: self._length] = self._step[: self._length]
            grown[:, : self._length] = self._values[:, : self._length]
            self._step, self._values = grown_step, grown
        self._step[self._length : needed] = steps
        self._values[:, self._length : needed] = values
        self._length = needed
