"""The supervisor seen from outside: whether one works and of which version; starting one, and asking it to stop."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import core
from core.errors import ExitCode, RunFolderError
from core.queue import SUPERVISOR_COMMAND
from core.queue.executor import start_process
from core.queue.journal import records
from core.queue.requests import QueueDb, Submission, Target
from core.queue.state import QueueState
from core.runs.folder import write_text
from core.runs.paths import RunsFolder
from core.system.files import make_private, read_bytes, tail
from core.system.locks import is_held

_ROOMS = ("plan", "queue", "runs", "scoring", "system")
_MOST_BYTES = 4096
OLDER = (
    "{}: a supervisor of an older version of lora-tui is at work there, with a queue of its own: it ends when it has "
    "nothing left to do; `lora-tui queue stop --all` of that version ends it now"
)
ELSEWHERE = (
    "a supervisor on another machine works on {}, and does not hear what is asked for on this one: ask for it there, "
    "or end that one first"
)


def supervisor_note(runs: RunsFolder) -> str:
    """What people should know of the supervisor at work; empty: there is none, or it is of this version."""
    if is_held(runs.older_supervisor_lock):
        return OLDER.format(runs.root)
    if not is_held(runs.supervisor_lock):
        return ""
    owner, recorded = _words(runs.supervisor_lock), _words(runs.supervisor_code)
    if len(recorded) != 2 or owner[:1] != recorded[:1] or recorded[1] == code_id():
        return ""  # of one that has just begun nothing is said yet
    return (
        f"the supervisor at work (pid {recorded[0]}) was started by another version of lora-tui, and does what that "
        f"does until it ends: `kill {recorded[0]}` lets its trainers save and ends it, and the next command starts "
        "another"
    )


def say_code(runs: RunsFolder, pid: int) -> None:
    """Of the supervisor that has the lock."""
    write_text(runs.state.resolve(), runs.state.resolve() / runs.supervisor_code.name, f"{pid} {code_id()}\n")


@cache
def code_id() -> str:
    """Of the code that decides what the queue does, as it lies there when it is first asked for."""
    digest = hashlib.sha256()
    home = Path(core.__file__).parent
    for file in sorted(file for room in _ROOMS for file in (home / room).rglob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _words(path: Path) -> list[str]:
    try:
        return read_bytes(path, _MOST_BYTES).decode(errors="replace").split()
    except OSError:
        return []


START_WAIT_S = 60.0
"""From its start to its lock; a cold Python on a slow disk takes seconds."""
_STARTS = 3
"""One that is killed while it starts is replaced; killed so many times on end, it is not."""
_LOG_TAIL_BYTES = 4096
_JOURNAL_TAIL_BYTES = 1 << 16
"""A supervisor that was told to stop only tells how its trainers ended: a few lines."""


def told_to_stop(runs: RunsFolder) -> bool:
    """Whether a supervisor has said that it was told to stop, and none has said since that it starts or ends."""
    return QueueState(records(runs.decisions, _JOURNAL_TAIL_BYTES)).stopping


class QueueClient:
    """One face's view of the queue of a runs folder."""

    def __init__(self, runs: RunsFolder, command: Sequence[str] = SUPERVISOR_COMMAND) -> None:
        self.runs = runs
        self._command = tuple(command)
        self._db = QueueDb(runs.queue_db)
        self._child: subprocess.Popen[bytes] | None = None

    def submit(self, submission: Submission) -> Submission:
        """Queue it, and see to a supervisor. If the same work is queued already, that is returned instead."""
        queued = self._db.submit(submission)
        self.ensure_supervisor()
        return queued

    def ahead_of(self, submission: Submission) -> list[Submission]:
        """What the queue works on first."""
        queued = self._db.open_submissions()
        ids = [item.id for item in queued]
        return queued[: ids.index(submission.id)] if submission.id in ids else []

    def ask(self, kind: str, submission: str) -> None:
        """A request, `stop` or `kill`, for all that the submission started; and somebody who hears it."""
        self._db.ask(kind, [Target(submission)])
        self.ensure_supervisor()

    def supervisor_works(self) -> bool:
        """Whether a supervisor holds the lock."""
        if self._child is not None:
            self._child.poll()  # reaps it
        return is_held(self.runs.supervisor_lock)

    def ensure_supervisor(self) -> None:
        """Start one, detached from the terminal, unless one works. RunFolderError: it does not come up.

        Nor does one come up beside one of an older version, whose queue lies elsewhere: both would train the same runs.

        One that was told to stop, and whose trainers still save, hears of nothing new: the next one waits for its end.
        """
        if is_held(self.runs.older_supervisor_lock):
            raise RunFolderError(OLDER.format(self.runs.root))
        for _ in range(_STARTS):
            works = self.supervisor_works() and not told_to_stop(self.runs)
            if works or not self._must_start_again():
                return
        raise RunFolderError(
            f"the supervisor was ended from outside while it started, {_STARTS} times one after the other"
        )

    def _must_start_again(self) -> bool:
        """Start one. True: it was killed, or gave way to one that has ended since. RunFolderError: it failed."""
        make_private(self.runs.state)
        self.runs.root.mkdir(parents=True, exist_ok=True)
        state = Path(os.path.realpath(self.runs.state))  # it may be a link to another disk
        command = [*self._command, str(self.runs.root), "--state", str(self.runs.state)]
        self._child = start_process(command, state, state / self.runs.supervisor_log.name, {}, cwd=self.runs.root)
        deadline = time.monotonic() + START_WAIT_S
        while not is_held(self.runs.supervisor_lock):
            status = self._child.poll()
            if status == 0 or is_held(self.runs.supervisor_lock):
                return False  # it found nothing to do, or another face was quicker
            if status is not None and (status < 0 or status == ExitCode.BAD_USAGE):
                return True  # killed; or another one had the lock, and has let go of it by now
            if status == ExitCode.NOTHING_TO_JUDGE:
                raise RunFolderError(ELSEWHERE.format(self.runs.root))
            if status is not None or time.monotonic() > deadline:
                raise RunFolderError(f"the supervisor did not start: {self.log_tail() or 'it said nothing'}")
            time.sleep(0.02)
        return False

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of supervisor.log."""
        try:
            text = tail(self.runs.supervisor_log, _LOG_TAIL_BYTES).decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])
