"""A folded history kept beside the runs, so that a run of a million steps opens at once. It may be deleted at any time.

Nothing but a reader's patience depends on it. It is believed only while it is whole, was written by this very code,
and the events that it was made of are still the beginning of the file. The gate never reads it.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.runs import events, fold, snapshot, steps
from core.runs import steps as step_lines
from core.runs.events import AdapterSaved, Notice, Phase
from core.runs.fold import History
from core.runs.snapshot import Attempt
from core.runs.steps import StepColumns
from core.scoring.evidence import Interval
from core.system.files import check_writing, open_regular

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
        history.attempts, history.intervals, list(history.checkpoints), list(history.adapters.values()),
        list(history.notices.values()), history.phase, history.progress, history.last_time, history.foreign,
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
    history.checkpoints = dict.fromkeys(rest.checkpoints)
    history.adapters = {adapter.step: adapter for adapter in rest.adapters}
    history.notices = {(notice.level, notice.message): notice for notice in rest.notices}
    history.phase, history.progress = rest.phase, rest.progress
    history.last_time, history.foreign = rest.last_time, rest.foreign
    return history


def _values(series: steps.StepSeries) -> Iterator[NDArray[np.float64]]:
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
    for module in (events, fold, snapshot, step_lines, steps):
        found.update(Path(str(module.__file__)).read_bytes())
    found.update(Path(__file__).read_bytes())
    return found.hexdigest()
