"""`decisions.jsonl`: what the supervisor did and why. Append-only, one writer, one JSON object a line.

Each line is one of the records below: `{"schema": 1, "time": UNIX_SECONDS, "decision": KIND, …}`, where KIND is the
class's tag. What they come to is `core.queue.state`'s business, and nobody else's.
"""

from __future__ import annotations

import errno
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec

from core.errors import RunFolderError
from core.plan import next_action
from core.runs.events import MOST_SECONDS
from core.runs.folder import open_append
from core.system.files import HeldFolder, append_whole, cut_torn_line, fsync_folder, lines, open_regular
from core.system.locks import claimed

SCHEMA_VERSION = 1
_UNWRITTEN = -1.0
_Moment = Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)]
"""Unix seconds."""
_PROBES_PASS_S = 1.0
"""Faces look whether the file is claimed, by which it is theirs for a moment."""


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="decision"):
    """One line of the file."""

    schema: int = SCHEMA_VERSION
    time: _Moment = _UNWRITTEN
    """At which it was written."""

    @property
    def kind(self) -> str:
        """The word for it in the file."""
        return str(self.__struct_config__.tag)


class OfSubmission(Record, frozen=True):
    """One that is on a submission."""

    submission: str = ""


class _OfRun(OfSubmission, frozen=True):
    run: str = ""
    """Name of the run folder."""

    def __post_init__(self) -> None:
        _check_run(self.run)


class SupervisorStarted(Record, frozen=True, tag="supervisor_started"):
    """A supervisor begins to work."""

    process: dict[str, Any] | None = None
    """As core.system.process tells it."""


class SupervisorStopping(Record, frozen=True, tag="supervisor_stopping"):
    """It was told to stop, and told its trainers so."""


class SupervisorEnded(Record, frozen=True, tag="supervisor_ended"):
    """It ends."""

    reason: str = ""


class Submitted(OfSubmission, frozen=True, tag="submitted"):
    """A submission is taken."""

    plan: str = ""
    overrides: list[str] = []
    only: list[str] = []


class Named(_OfRun, frozen=True, tag="run"):
    """The run folder that a row of the plan is."""

    row: str = ""


class Devices(Record, frozen=True, tag="devices"):
    """What trainers may run on, when that is found or has changed."""

    gpus: dict[str, Any] = {}
    """UUID → name."""
    note: str = ""


class Start(_OfRun, frozen=True, tag="start"):
    """A trainer was started."""

    row: str = ""
    reason: str = ""
    inputs: dict[str, Any] = {}
    """What the row's condition was decided by."""
    attempts_before: int = 0
    """Attempts in the run folder by then."""
    process: dict[str, Any] | None = None
    gpu: str | None = None
    """UUID; of a trainer on several GPUs theirs, with commas."""
    job: str | None = None
    """Number of its job on a cluster; None: a process of the supervisor's machine."""


class Adopt(Start, frozen=True, tag="adopt"):
    """A trainer was found alive, or goes on for another submission than before."""


class Job(_OfRun, frozen=True, tag="job"):
    """How the job of a trainer stands, by what its cluster says, when that has changed."""

    job: str = ""
    state: str = ""
    """PENDING, RUNNING, …"""
    reason: str = ""
    """Why it has not started."""
    expected: _Moment | None = None
    """At which it is expected to start."""
    attempts: int = 0
    """Attempts in the run folder that were over when it was queued last."""


class Exit(_OfRun, frozen=True, tag="exit"):
    """A trainer has ended."""

    outcome: str = ""
    """As in the trainer's last event; or crashed, rebooted, unkillable, lost (its folder was moved or deleted). Of a
    job also interrupted (preempted, its node failed), cancelled (by somebody else)."""
    asked: bool = False
    """Whether the queue had told it to end."""
    message: str = ""
    status: int | None = None
    """Exit status; None of an adopted trainer."""
    attempts: int = 0
    """Of a job: attempts in the run folder by then, none of which lives, whatever their last events are."""


class Skip(OfSubmission, frozen=True, tag="skip"):
    """A row will not run."""

    row: str = ""
    status: str | None = None
    """`skipped` by its condition, or `failed`."""
    reason: str = ""
    inputs: dict[str, Any] = {}


class Wait(OfSubmission, frozen=True, tag="wait"):
    """Why nothing is started for it at the moment: the fields of `core.plan.next_action.Wait`.

    Earlier versions put all of it into `reason`, in words.
    """

    reason: str = ""
    over: bool = False
    dependent: dict[str, tuple[str, ...]] = {}
    held: tuple[str, ...] = ()

    @property
    def wait(self) -> next_action.Wait:
        """What the supervisor waits for."""
        return next_action.Wait(self.reason, self.over, self.dependent, self.held)


class Request(Record, frozen=True, tag="wish"):
    """What somebody asked for was taken, for a submission or for one row of it. See docs/queue.md.

    `stop`: finish the step, save, end resumable. `kill`: end now. `retry`: once more. `add`: a removed row is asked for
    again. `hold`, `release`, `remove` and `move` are here only to be told: `core.queue.requests` has them in effect.
    """

    request: str = msgspec.field(default="", name="wish")
    submission: str | None = None
    row: str | None = None
    """None: all of the submission."""
    run: str | None = None
    """The run alone, as older versions could be asked."""


class Halve(_OfRun, frozen=True, tag="halve"):
    """The run ran out of memory; its row goes on with another one."""

    row: str = ""
    accumulation: int = 0
    """Of the run that takes its place."""


class Stop(_OfRun, frozen=True, tag="stop"):
    """The queue asked a run to end, for the plan's own sake."""

    row: str = ""
    reason: str = ""


class Pause(Record, frozen=True, tag="pause"):
    """The queue starts nothing more by itself."""

    cause: str = ""
    """`failures` or `disk`."""
    reason: str = ""
    bytes: int = 0
    """That the run will take for which it paused."""


class Resume(Record, frozen=True, tag="resume"):
    """It starts runs again."""

    reason: str = ""


class Finish(OfSubmission, frozen=True, tag="finish"):
    """Nothing is left to do for a submission, or it was stopped."""

    complete: bool = False
    reason: str = ""
    not_run: dict[str, Any] = {}
    """Row → why it has no result."""


class Sink(Record, frozen=True, tag="sink"):
    """The process that tells a tracker of a run cannot do so; the run goes on without it."""

    run: str = ""
    sink: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        _check_run(self.run)


AnyRecord = (
    SupervisorStarted | SupervisorStopping | SupervisorEnded | Submitted | Named | Devices | Start | Adopt | Job | Exit
    | Skip | Wait | Request | Halve | Stop | Pause | Resume | Finish | Sink
)  # fmt: skip
KINDS: tuple[type[Record], ...] = get_args(AnyRecord)
_DECODER: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


def _check_run(name: str) -> None:
    """ValueError for what cannot be the name of a folder in the runs folder: decisions may come from anywhere."""
    if "/" in name or not name.isprintable() or name in (".", ".."):
        raise ValueError("not the name of a run folder")


def _no_number(word: str) -> float:
    """ValueError for NaN and Infinity, which no limit keeps out."""
    raise ValueError(f"{word} is no number")


def encode(record: Record) -> bytes:
    """One line of the file."""
    fields = msgspec.to_builtins(record)
    head = {name: fields.pop(name) for name in ("schema", "time", "decision")}
    return (json.dumps(head | fields, allow_nan=False) + "\n").encode()


def decode(line: bytes) -> Record | None:
    """The record in a line; None for what is none, or is of no known kind."""
    try:
        record: Record = _DECODER.decode(line)
    except (msgspec.MsgspecError, RecursionError):
        # Strict JSON has no half of a surrogate pair; names of files that are not UTF-8 are written with such.
        try:
            raw = {
                name: value for name, value in json.loads(line, parse_constant=_no_number).items() if value is not None
            }
            record = msgspec.convert(raw, AnyRecord)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return None
    return record if record.time >= 0 else None


class Journal:
    """The supervisor's end of the file. A torn last line, left by a kill or a full disk, is cut off first."""

    def __init__(
        self, path: Path, home: HeldFolder | None = None, on_append: Callable[[Record], None] = lambda record: None
    ) -> None:
        """`home`: the runs folder, which is written to wherever it is moved; FileNotFoundError where it was deleted.

        `on_append` is given each record once it is written: the state of who writes it.
        """
        self.path = path
        self._home = home
        self._on_append = on_append
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as file:
            cut_torn_line(file)
        fsync_folder(path.parent)

    def _open(self) -> io.FileIO:
        # A runs folder may be a link to another disk.
        folder = Path(os.path.realpath(self.path.parent)) if self._home is None else self._home.here
        return open_append(folder, folder / self.path.name)

    def append(self, record: Record) -> Record:
        """Write it durably, with the time. OSError (disk full) leaves the file as it was."""
        record = msgspec.structs.replace(record, time=round(time.time(), 3))
        data = encode(record)
        with self._open() as file:
            append_whole(file, data)
            os.fsync(file.fileno())
        self._on_append(record)
        return record


def claim(path: Path) -> io.FileIO | None:
    """The file of a runs folder's decisions, open and locked: only one supervisor may write it, of all machines that
    share the folder. None: another one does. It lasts until the file is closed.

    Locks of the state folder are seen by processes of one machine only; a runs folder may be on a shared disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(os.path.realpath(path.parent))
    file = open_append(folder, folder / path.name)
    deadline = time.monotonic() + _PROBES_PASS_S
    while not claimed(file.fileno()):
        if time.monotonic() > deadline:
            file.close()
            return None
        time.sleep(0.05)
    return file


class JournalReader:
    """Reads what was appended since the last call; a torn last line waits until it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.anew = False
        """Whether the last call began at the beginning of a file that shrank: it holds another past by now."""
        self._offset = 0

    def read(self) -> list[Record]:
        """The records since the last call."""
        self.anew = False
        found = []
        try:
            with _opened(self.path) as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset, self.anew = 0, True
                file.seek(self._offset)
                for line in _whole_lines(file):
                    self._offset += len(line)
                    if (record := decode(line)) is not None:
                        found.append(record)
        except FileNotFoundError:
            return []
        return found


def records(path: Path, last_bytes: int | None = None) -> Iterator[Record]:
    """All of the file, one by one: a folder may hold thousands of runs. None when it is not there.

    `last_bytes`: only those that lie whole in so many bytes at its end.
    """
    try:
        with _opened(path) as file:
            if last_bytes is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - last_bytes))
            yield from filter(None, map(decode, _whole_lines(file)))
    except FileNotFoundError:
        return


def _whole_lines(file: io.BufferedReader) -> Iterator[bytes]:
    return (line for line in lines(file) if line.endswith(b"\n"))


def _opened(path: Path) -> io.BufferedReader:
    """OSError where there is no file, or the disk is away; RunFolderError for what is no regular file."""
    try:
        return open_regular(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        what = "move it away: results are in the run folders, and this is only what the queue did"
        raise RunFolderError(f"{path}: {error.strerror}: {what}") from error
