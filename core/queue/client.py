"""What a face does with the queue: submit, see to it that a supervisor works, and ask it to stop."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from core.errors import ExitCode, RunFolderError
from core.queue import SUPERVISOR_COMMAND
from core.queue.executor import child_environment
from core.queue.journal import last_records
from core.queue.other_version import OLDER
from core.queue.requests import QueueDb, Submission, Target
from core.queue.state import QueueState
from core.runs.folder import open_append
from core.runs.paths import RunsFolder
from core.system.files import make_private, tail
from core.system.locks import is_held

START_WAIT_S = 60.0
"""From its start to its lock; a cold Python on a slow disk takes seconds."""
_STARTS = 3
"""One that is killed while it starts is replaced; killed so many times on end, it is not."""
_LOG_TAIL_BYTES = 4096


def told_to_stop(runs: RunsFolder) -> bool:
    """Whether a supervisor has said that it was told to stop, and none has said since that it starts or ends."""
    return QueueState(last_records(runs.decisions)).stopping


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
        with open_append(state, state / self.runs.supervisor_log.name) as log:
            self._child = subprocess.Popen(
                [*self._command, str(self.runs.root), "--state", str(self.runs.state)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.runs.root,
                env=child_environment({}),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_WAIT_S
        while not is_held(self.runs.supervisor_lock):
            status = self._child.poll()
            if status == 0 or is_held(self.runs.supervisor_lock):
                return False  # it found nothing to do, or another face was quicker
            if status is not None and (status < 0 or status == ExitCode.BAD_USAGE):
                return True  # killed; or another one had the lock, and has let go of it by now
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
