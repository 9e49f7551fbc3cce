"""The event schema of `events.jsonl`, version 1. Other tools may read it: docs/events.md describes each line.

One JSON object a line: `{"event": NAME, "attempt": 1, "time": UNIX_SECONDS, …fields}`. Times are wall clock,
for people; nothing is decided by comparing them. Floats that are not finite are written as the strings "nan",
"inf" and "-inf", so that every line is strict JSON. This module does no I/O.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from core.plan.schema import MOST_NUMBER
from core.sanitise import LONGEST_TEXT

SCHEMA_VERSION = 1
HEARTBEAT_S = 10.0
"""A trainer writes at least one event in this many seconds, in every phase."""


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """A trainer process began. Everything that earlier attempts wrote past `resumed_from` is superseded."""

    NAME: ClassVar[str] = "attempt_started"
    schema: int
    process: dict[str, Any]
    """machine, boot, pid_namespace, pid, start_time: see core.system.process."""
    resumed_from: int | None
    """Step of the checkpoint it goes on from; None: from the beginning."""
    device: str
    precision: str
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Phase:
    """What the trainer does: loading, baseline, training, evaluating, checkpointing, saving, finishing."""

    NAME: ClassVar[str] = "phase"
    phase: str
    step: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Alive. `done` of `total` (utterances, usually) where the phase can count."""

    NAME: ClassVar[str] = "heartbeat"
    phase: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser update. `loss`: nats per target token over the whole step, without what `kl` adds to it."""

    NAME: ClassVar[str] = "step"
    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    audio_s: float
    seconds: float
    kl: float | None = None
    """With `train.kl`: nats of divergence from the base model, per target token of the step's replay speech."""


@dataclass(frozen=True, slots=True)
class IntervalScored:
    """One full evaluation. Sets: {"substitutions", "deletions", "insertions", "reference_words", "loss"}."""

    NAME: ClassVar[str] = "interval"
    step: int
    sets: dict[str, dict[str, Any]]
    seconds: float


@dataclass(frozen=True, slots=True)
class CandidateScored:
    """An adapter made of intervals is on disk and scored. Sets as of an interval: those that were scored."""

    NAME: ClassVar[str] = "candidate_scored"
    name: str
    """Of its folder in `adapters/` and `evals/`."""
    made_of: tuple[int, ...]
    """Steps of the intervals whose weights it is the average of."""
    alpha: float
    """How much of the way from the base model to that it goes."""
    hash: str
    sets: dict[str, dict[str, Any]]
    seconds: float
    best: bool = False
    """Whether it was chosen: `lora_adapter_best` points at it now."""


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A whole, resumable checkpoint is on disk."""

    NAME: ClassVar[str] = "checkpoint"
    step: int


@dataclass(frozen=True, slots=True)
class AdapterSaved:
    """An adapter is on disk. `best`: lora_adapter_best points at it now."""

    NAME: ClassVar[str] = "adapter"
    step: int
    hash: str
    best: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know: clips left out, silence, clipping, a fallback."""

    NAME: ClassVar[str] = "notice"
    level: str
    """info or warning."""
    message: str


@dataclass(frozen=True, slots=True)
class Final:
    """The trainer's last word. An attempt without one was killed or crashed."""

    NAME: ClassVar[str] = "final"
    outcome: str
    """done, stopped, diverged, stopped_early, out_of_memory, disk_full, error."""
    message: str = ""
    step: int | None = None
    result: str = ""
    """SHA-256 of result.json, after `done`."""


Event = (
    AttemptStarted
    | Phase
    | Heartbeat
    | Step
    | IntervalScored
    | CandidateScored
    | CheckpointSaved
    | AdapterSaved
    | Notice
    | Final
)
_TYPES: dict[str, type[Any]] = {
    t.NAME: t
    for t in (
        AttemptStarted,
        Phase,
        Heartbeat,
        Step,
        IntervalScored,
        CandidateScored,
        CheckpointSaved,
        AdapterSaved,
        Notice,
        Final,
    )
}


@dataclass(frozen=True, slots=True)
class Record:
    """An event as it stands in the file."""

    attempt: int
    time: float
    event: Event


def _plain(value: Any) -> Any:
    """Strict JSON: non-finite floats become strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_FLOATS = {"loss", "grad_norm", "learning_rate", "audio_s", "seconds", "kl"}


def _restore(name: str, value: Any) -> Any:
    if isinstance(value, str) and name in _FLOATS and value in _NON_FINITE:
        return _NON_FINITE[value]
    if isinstance(value, dict):
        return {key: _restore(key, item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


MOST_SECONDS = 1e11
"""Of a time stamp: beyond the year 5000."""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST_NUMBER


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


_HOLDS: dict[str, Callable[[Any], bool]] = {
    "int": _is_int,
    "int | None": lambda value: value is None or _is_int(value),
    "tuple[int, ...]": lambda value: isinstance(value, tuple) and all(map(_is_int, value)),
    "float | None": lambda value: value is None or isinstance(value, float) or _is_int(value),
    "float": lambda value: isinstance(value, float) or _is_int(value),
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "dict[str, str]": _is_texts,
    "dict[str, Any]": lambda value: isinstance(value, dict),
    "dict[str, dict[str, Any]]": lambda value: (
        isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())
    ),
}
"""A field's annotation → whether a value of the file is of that type."""


def encode(record: Record) -> str:
    """One line of `events.jsonl`, without the line end."""
    head = {"event": record.event.NAME, "attempt": record.attempt, "time": round(record.time, 3)}
    told = asdict(record.event)
    if told.get("kl", 0.0) is None:
        del told["kl"]  # the line of a step without it is what it always was
    return json.dumps(head | _plain(told), ensure_ascii=True, allow_nan=False)


def decode(line: str) -> Record | None:
    """The record of a line; None for a torn, foreign or endless line, a field of another type, an unknown event."""
    if len(line) > LONGEST_TEXT:
        return None
    try:
        raw = json.loads(line)
        kind = _TYPES[raw.pop("event")]
        attempt, time = int(raw.pop("attempt")), float(raw.pop("time"))
        fields = {name: item for name, item in kind.__dataclass_fields__.items() if name in raw}
        known = {name: _restore(name, raw[name]) for name in fields}
        if not all(_HOLDS[item.type](known[name]) for name, item in fields.items()):
            return None
        if not (0 <= time <= MOST_SECONDS and 0 <= attempt <= MOST_NUMBER):
            return None
        return Record(attempt, time, kind(**known))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
