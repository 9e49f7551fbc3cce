"""Lines of steps, many at once: bytes in, columns out. A million of them take about a second."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.runs.events import MOST_SECONDS

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
