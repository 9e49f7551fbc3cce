"""The error tree and the exit codes of both commands (docs/design.md, "The verdict")."""

from __future__ import annotations

import errno
import os
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells CI. The output format never changes it."""

    ACCEPTED = 0
    """Accepted; without `--gate`: everything asked for was done."""
    REJECTED = 1
    INTERRUPTED = 2
    INTERNAL = 3
    BAD_USAGE = 4
    """Bad configuration, bad input or bad usage: the message says what to change."""
    NOTHING_TO_JUDGE = 5
    UNDECIDED = 6


class UserError(Exception):
    """Something the user can mend: one clear sentence that names file, line or key, what is wrong and what to do."""


class PlanError(UserError):
    """The plan cannot be run. Carries every problem that was found, one a line."""


class ManifestError(UserError):
    """A manifest or a file that it names cannot be used."""


class AudioError(UserError):
    """An audio file is missing, unreadable, empty, cut off or holds NaN; `kind` says which, in one word."""

    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def of_a_line(self) -> str:
        """The message where a line of a manifest names the file: a clip that holds nothing usable may go."""
        return f"{self} or remove its line" if self.kind in ("empty", "nan") else str(self)


class ModelError(UserError):
    """A model or an adapter cannot be loaded, or does not fit what was asked."""


class RunFolderError(UserError):
    """A run folder cannot be read or written."""


class Interrupted(Exception):
    """The user or the supervisor asked to stop; what was done so far is saved."""


def exit_code_for(error: BaseException) -> ExitCode:
    """The exit code that an uncaught `error` ends a command with."""
    if isinstance(error, UserError):
        return ExitCode.BAD_USAGE
    if isinstance(error, (KeyboardInterrupt, Interrupted)):
        return ExitCode.INTERRUPTED
    return ExitCode.INTERNAL


def forbidden(error: BaseException) -> UserError | None:
    """What to change where a file or folder may not be read or written; None: it is not that."""
    if isinstance(error, PermissionError) and isinstance(error.filename, (str, os.PathLike)):
        return UserError(f"{os.fspath(error.filename)}: {error.strerror}: give yourself permission to use it")
    return None


_PASSING = {
    *(errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETXTBSY),
    *(errno.ECONNABORTED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    *(errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT),
}


def may_pass(error: OSError) -> bool:
    """Whether `error` may be over by itself: a network disk that is away, no process or memory to be had, a lock."""
    return error.errno in _PASSING


def is_disk_full(error: BaseException) -> bool:
    """Whether `error` says that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
