"""Folding events: an attempt supersedes what earlier ones wrote past the checkpoint that it went on from."""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.plan.schema import MOST_NUMBER
from core.runs import events, snapshot
from core.runs import steps as step_lines
from core.runs.events import (
    AdapterSaved,
    AttemptStarted,
    CandidateScored,
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
from core.runs.paths import adapter_name
from core.runs.snapshot import STALLED_S, Attempt
from core.runs.steps import Buffer, StepColumns, parse, stretches
from core.scoring.evidence import CandidateScore, Interval, SetScore
from core.scoring.units import ErrorCounts
from core.system.files import check_writing, open_regular
from core.system.process import identity_from_json

_BEFORE_ALL = -1
_COUNTS = ("substitutions", "deletions", "insertions", "reference_words")


class History:
    """The folded history of one run, fed with lines as they come."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.steps = StepColumns()
        self.intervals: dict[int, Interval] = {}
        self.candidates: dict[str, CandidateScore] = {}
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
        scored: Interval | CandidateScore | None = None
        if isinstance(event, IntervalScored):
            scored = interval_of(event)
        elif isinstance(event, CandidateScored):
            scored = candidate_of(event)
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
        for name in [name for name, one in self.candidates.items() if one.step > step]:
            del self.candidates[name]

    def _apply(self, event: Event | Interval | CandidateScore) -> None:
        match event:
            case Step():
                if event.step <= self.steps.last:
                    self._drop_after(event.step - 1)
                self.steps.append(event)
                self._in_phase("training")
            case Interval():
                self.intervals[event.step] = event
            case CandidateScore():
                self.candidates[event.name] = event
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
    return Interval(event.step, sets["domain"], sets["heldout"], sets.get("selection"), sets.get("selection_heldout"),
                    event.seconds if 0 <= event.seconds < MOST_NUMBER else None)  # fmt: skip


def candidate_of(event: CandidateScored) -> CandidateScore:
    """The event as scoring sees it. ValueError for what no trainer makes, or a count that is missing."""
    steps, alpha = event.made_of, event.alpha
    if not steps or steps[0] < 1 or any(a >= b for a, b in pairwise(steps)) or not 0 < alpha <= 1:
        raise ValueError("a candidate that is made of nothing")
    if len(steps) == 1 and alpha == 1:
        raise ValueError("an interval, which has an event of its own")
    if event.name != adapter_name(steps, alpha):
        raise ValueError("a candidate whose name does not say what it is made of")
    if not event.sets.keys() <= {"domain", "heldout", "selection", "selection_heldout"}:
        raise ValueError("a candidate scored on a set that no run has")
    sets = {name: _set_score(values) for name, values in event.sets.items()}
    return CandidateScore(event.name, steps, alpha, event.hash, event.best, **sets)


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


# A folded history kept beside the runs, so that a run of a million steps opens at once
#
# It may be deleted at any time: nothing but a reader's patience depends on it. It is believed only while it is whole,
# was written by this very code, and the events that it was made of are still the beginning of the file. The gate never
# reads it.

_MAGIC = b"lora-tui history\n"
_BLOCK = 1 << 20
_COLUMNS = 7
_WIDTH = 8
"""Bytes of a number."""
_SETTLED_NS = 2_000_000_000
"""A file as old as this when it was read cannot have changed since without another time stamp."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """A history without its steps."""

    attempts: list[Attempt]
    intervals: dict[int, Interval]
    candidates: list[CandidateScore]
    checkpoints: list[int]
    adapters: list[AdapterSaved]
    notices: list[Notice]
    phase: Phase | None
    progress: tuple[int, int] | None
    last_time: float | None
    foreign: int


@dataclass(frozen=True, slots=True)
class _Header:
    code: str
    inode: int
    size: int
    changed_ns: int
    saved_ns: int
    offset: int
    prefix: bytes
    """Hash of the file's first `offset` bytes."""
    count: int
    checksum: int
    """CRC-32 of the columns."""
    rest: _Rest


@dataclass(frozen=True, slots=True)
class Kept:
    """What a cache held: the history of the first `offset` bytes of the file `inode`."""

    history: History
    offset: int
    inode: int


def save(path: Path, source: Path, history: History, offset: int) -> bool:
    """Keep `history`, folded from the first `offset` bytes of `source`. False when that cannot be done."""
    series = history.steps.series()
    columns = (series.step, *_values(series))
    rest = _Rest(
        history.attempts, history.intervals, list(history.candidates.values()), list(history.checkpoints),
        list(history.adapters.values()), list(history.notices.values()), history.phase, history.progress,
        history.last_time, history.foreign,
    )  # fmt: skip
    try:
        saved = time.time_ns()
        with open_regular(source) as file:
            status = os.fstat(file.fileno())
            prefix = _hash(file, offset)
        checksum = 0
        for column in columns:
            checksum = zlib.crc32(column.data, checksum)
        header = _Header(
            _code(), status.st_ino, status.st_size, status.st_mtime_ns, saved, offset, prefix, len(series), checksum,
            rest,
        )  # fmt: skip
        check_writing(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as out:
            try:
                encoded = msgspec.msgpack.encode(header)
                out.write(_MAGIC + len(encoded).to_bytes(8, "little") + encoded)
                for column in columns:
                    out.write(column.data)
                out.close()
                Path(out.name).replace(path)
            except BaseException:
                Path(out.name).unlink(missing_ok=True)
                raise
    except (OSError, TypeError, ValueError, OverflowError):
        return False
    return True


def load(path: Path, source: Path) -> Kept | None:
    """What is kept in `path` of the events in `source`, if it is to be believed. Never raises."""
    try:
        with open_regular(path) as file:
            header = _read_header(file)
            if header is None or not _still_true(header, source):
                return None
            step = np.fromfile(file, np.int64, header.count)
            values = [np.fromfile(file, np.float64, header.count) for _ in range(_COLUMNS - 1)]
    except (OSError, ValueError, OverflowError, MemoryError, msgspec.MsgspecError):
        return None
    checksum = zlib.crc32(step.data)
    for column in values:
        checksum = zlib.crc32(column.data, checksum)
    if checksum != header.checksum:
        return None
    return Kept(_history(header.rest, StepColumns.of(step, values)), header.offset, header.inode)


def _read_header(file: BinaryIO) -> _Header | None:
    if file.read(len(_MAGIC)) != _MAGIC:
        return None
    length = int.from_bytes(file.read(8), "little")
    left = os.fstat(file.fileno()).st_size - file.tell()
    if length > left:
        return None
    header = msgspec.msgpack.decode(file.read(length), type=_Header)
    whole = left - length == header.count * _COLUMNS * _WIDTH
    return header if whole and header.code == _code() else None


def _still_true(header: _Header, source: Path) -> bool:
    """Whether the events that were folded are the beginning of the file as it is now."""
    with open_regular(source) as file:
        status = os.fstat(file.fileno())
        if status.st_ino != header.inode or status.st_size < header.offset:
            return False
        same = (status.st_size, status.st_mtime_ns) == (header.size, header.changed_ns)
        if same and header.saved_ns - header.changed_ns > _SETTLED_NS:
            return True
        return _hash(file, header.offset) == header.prefix


def _history(rest: _Rest, columns: StepColumns) -> History:
    history = History()
    history.attempts, history.steps, history.intervals = rest.attempts, columns, rest.intervals
    history.candidates = {one.name: one for one in rest.candidates}
    history.checkpoints = dict.fromkeys(rest.checkpoints)
    history.adapters = {adapter.step: adapter for adapter in rest.adapters}
    history.notices = {(notice.level, notice.message): notice for notice in rest.notices}
    history.phase, history.progress = rest.phase, rest.progress
    history.last_time, history.foreign = rest.last_time, rest.foreign
    return history


def _values(series: step_lines.StepSeries) -> Iterator[NDArray[np.float64]]:
    yield from (series.loss, series.learning_rate, series.grad_norm, series.tokens, series.audio_s, series.seconds)


def _hash(file: BinaryIO, length: int) -> bytes:
    """Of the first `length` bytes; of what is there, where they are fewer."""
    found = hashlib.blake2b(digest_size=32)
    while length > 0 and (block := file.read(min(_BLOCK, length))):
        found.update(block)
        length -= len(block)
    return found.digest()


@cache
def _code() -> str:
    """Another way of folding gives another history: the code is part of the key."""
    found = hashlib.blake2b(digest_size=16)
    for module in (events, snapshot, step_lines):
        found.update(Path(str(module.__file__)).read_bytes())
    found.update(Path(__file__).read_bytes())
    return found.hexdigest()
