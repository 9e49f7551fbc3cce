"""`decisions.jsonl`: what the supervisor did and why. Append-only, one writer, one JSON object a line.

Each line: `{"schema": 1, "time": UNIX_SECONDS, "decision": KIND, …}`. Kinds and their fields:

- `supervisor_started` process · `supervisor_stopping`: it was told to stop, and told its trainers so ·
  `supervisor_ended` reason
- `submitted` submission, plan, overrides, only
- `run` submission, row, run: the run folder that a row of the plan is
- `devices` gpus (UUID → name), note: what trainers may run on, when that is found or has changed
- `start` submission, row, run, reason, inputs, attempts_before, process, gpu (UUID or null): a trainer was
  started (`adopt`: was found alive, or goes on for another submission than before)
- `exit` submission, run, outcome, asked, message, status (null for an adopted trainer); outcome: as in the trainer's
  last event, or crashed, rebooted, unkillable, lost (its run folder was moved or deleted)
- `skip` submission, row, status, reason, inputs: a row will not run: `skipped` by its condition, or `failed`
- `wait` submission, reason, over: why nothing is started for it at the moment; empty: something is. `over`: nothing
  will be either, whatever becomes of what runs
- `wish` wish (stop, kill, retry, add, hold, release, remove, move), submission, row, run: a wish was taken
- `halve` submission, row, run, accumulation: the run ran out of memory; its row goes on with another one
- `stop` submission, row, run, reason: the queue asked a run to end, for the plan's own sake
- `pause` cause (failures, disk), reason: the queue starts nothing more by itself · `resume` reason
- `finish` submission, complete, reason, not_run: nothing is left to do for it, or it was stopped
"""

from __future__ import annotations

import errno
import io
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import RunFolderError
from core.runs.events import MOST_SECONDS
from core.runs.folder import open_append
from core.system.files import append_whole, cut_torn_line, fsync_folder, lines, open_regular
from core.system.held_folder import HeldFolder

SCHEMA_VERSION = 1
_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("submission", "row", "run", "reason", "wish", "outcome", "message", "plan", "gpu"), str),
    **dict.fromkeys(("attempts_before", "accumulation"), int),
    **dict.fromkeys(("process", "gpus", "inputs", "not_run"), dict),
}
"""Of fields, where they are not null."""
TRAINER_KINDS = ("start", "adopt", "exit")
"""What happens to a trainer, which matters to every submission with a row that is its run."""
_TRAINER_KINDS = frozenset(kind.encode() for kind in TRAINER_KINDS)


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of the file. `fields` holds all but kind and time."""

    kind: str
    time: float
    fields: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """A field, or None."""
        return self.fields.get(name)


_TAIL_BYTES = 1 << 16
"""A supervisor that was told to stop only tells how its trainers ended: a few lines."""


class DecisionLog:
    """The supervisor's end of the file. A torn last line, left by a kill or a full disk, is cut off first."""

    def __init__(self, path: Path, home: HeldFolder | None = None) -> None:
        """`home`: the runs folder, which is written to wherever it is moved; FileNotFoundError where it was deleted."""
        self.path = path
        self._home = home
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as file:
            cut_torn_line(file)
        fsync_folder(path.parent)

    def _open(self) -> io.FileIO:
        # A runs folder may be a link to another disk.
        folder = Path(os.path.realpath(self.path.parent)) if self._home is None else self._home.here
        return open_append(folder, folder / self.path.name)

    def append(self, kind: str, **fields: Any) -> Decision:
        """Write one decision durably. OSError (disk full) leaves the file as it was."""
        decision = Decision(kind, round(time.time(), 3), fields)
        head = {"schema": SCHEMA_VERSION, "time": decision.time, "decision": kind}
        data = (json.dumps(head | fields, allow_nan=False) + "\n").encode()
        with self._open() as file:
            append_whole(file, data)
            os.fsync(file.fileno())
        return decision


class DecisionReader:
    """Reads what was appended since the last call; a torn last line waits until it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def read(self) -> list[Decision]:
        """The decisions since the last call. A file that shrank is read again from its beginning."""
        try:
            with _opened(self.path) as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return list(_decode(whole))


def _opened(path: Path) -> io.BufferedReader:
    """OSError where there is no file, or the disk is away; RunFolderError for what is no regular file."""
    try:
        return open_regular(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        what = "move it away: results are in the run folders, and this is only what the queue did"
        raise RunFolderError(f"{path}: {error.strerror}: {what}") from error


def read_decisions(path: Path) -> list[Decision]:
    """All decisions of the file; none when it is not there."""
    return DecisionReader(path).read()


def told_to_stop(path: Path) -> bool:
    """Whether a supervisor has said that it was told to stop, and none has said since that it starts or ends."""
    try:
        with _opened(path) as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            kinds = [decision.kind for decision in _decode(file.read()) if decision.kind.startswith("supervisor_")]
    except FileNotFoundError:
        return False
    return kinds[-1:] == ["supervisor_stopping"]


def each_decision(path: Path) -> Iterator[Decision]:
    """All decisions, one by one."""
    try:
        with _opened(path) as file:
            for line in lines(file):
                if line.endswith(b"\n"):
                    yield from _decode(line)
    except FileNotFoundError:
        return


def decisions_about(path: Path, submissions: Collection[str]) -> Iterator[Decision]:
    """The decisions on these submissions, and those on none, one by one: a folder may hold thousands of runs.

    With them the `TRAINER_KINDS` on runs that a row of these submissions is by then, whoever had the trainer started.
    Other lines are passed over before they are parsed.
    """
    wanted = tuple(json.dumps(name).encode() for name in submissions)
    runs: set[bytes] = set()
    try:
        with _opened(path) as file:
            for line in lines(file):
                _, found, rest = line.partition(b'"submission": ')
                if not line.endswith(b"\n"):
                    continue
                if not found or rest.startswith(wanted):
                    if run := _word_in(line, b"run"):
                        runs.add(run)
                    yield from _decode(line)
                elif runs and _word_in(line, b"run") in runs and _word_in(line, b"decision") in _TRAINER_KINDS:
                    yield from _decode(line)
    except FileNotFoundError:
        return


def decisions_on(path: Path, runs: Collection[str]) -> Iterator[Decision]:
    """The decisions on these runs, and all wishes, one by one. Other lines are passed over before they are parsed."""
    wanted = frozenset(name.encode() for name in runs)
    try:
        with _opened(path) as file:
            for line in lines(file):
                if line.endswith(b"\n") and (_word_in(line, b"run") in wanted or b'"decision": "wish"' in line):
                    yield from _decode(line)
    except FileNotFoundError:
        return


def decisions_of(path: Path, kinds: Collection[str]) -> Iterator[Decision]:
    """The decisions of these kinds, one by one. Other lines are passed over before they are parsed."""
    wanted = frozenset(kind.encode() for kind in kinds)
    try:
        with _opened(path) as file:
            for line in lines(file):
                if line.endswith(b"\n") and _word_in(line, b"decision") in wanted:
                    yield from _decode(line)
    except FileNotFoundError:
        return


def _word_in(line: bytes, name: bytes) -> bytes:
    """The value of a field that is a word, without parsing the line; empty where it has none."""
    return line.partition(b'"' + name + b'": "')[2].partition(b'"')[0]


def _decode(data: bytes) -> Iterator[Decision]:
    for line in data.splitlines():
        try:
            raw = json.loads(line)
            kind, when = str(raw.pop("decision")), float(raw.pop("time"))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
        if 0 <= when <= MOST_SECONDS and _as_documented(raw):
            yield Decision(kind, when, raw)


def _as_documented(raw: Mapping[str, Any]) -> bool:
    """Whether the fields can be what they should be: a folder of runs may come from anywhere, with its decisions."""
    for name, value in raw.items():
        if value is not None and not isinstance(value, _TYPES.get(name, object)):
            return False
    run = raw.get("run")
    return run is None or ("/" not in run and run.isprintable())  # the name of a folder in this one
