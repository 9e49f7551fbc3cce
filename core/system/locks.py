"""Kernel locks: they end with the process that holds them, so none is ever stale. A trainer inherits that of its run.

The run's lock tells whose a trainer is: what names a process in a run folder may come from elsewhere, but only who
holds the lock, which lies in the user's own state folder, works on the run here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import RunFolderError
from core.system.files import check_writing, make_private
from core.system.process import holders

_PROBES_PASS_S = 1.0
"""A probe holds the lock for microseconds; whoever wants it tries again for this long."""
_ASK_AGAIN_S = 0.2


class KernelLock:
    """An exclusive `flock` on a file. A child that inherits `descriptor` keeps it after `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path) -> KernelLock | None:
        """The lock; None when another process holds it. OSError when the folder cannot be written.

        RunFolderError where a link or a folder lies in its place.
        """
        descriptor = _opened(path)
        deadline = time.monotonic() + _PROBES_PASS_S
        while not _taken(descriptor):
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.05)
        return cls(path, descriptor)

    def write_owner(self, text: str) -> None:
        """Say in the file who holds the lock: for people; nothing is decided by it."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def release(self) -> None:
        """Let go of it, unless a child inherited it: then the lock is the child's."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def claimed(descriptor: int) -> bool:
    """Whether this process has the exclusive lock of an open file now, until it closes it.

    True, too, where the file system has no locks: then nobody can tell.
    """
    try:
        return _taken(descriptor)
    except OSError:
        return True


def is_claimed(path: Path) -> bool:
    """Whether a process, of whichever machine that shares the folder, has claimed the file; False where none can."""
    try:
        return is_held(path)
    except OSError:
        return False


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def inheritors(path: Path) -> list[int]:
    """Pids that hold the lock without having taken it themselves: a trainer, and what it started.

    A face that took it to delete something, waits for it or looks at it is none.
    """
    return [pid for pid in holders(path) if any(taker != pid for taker in _takers(pid, path))]


def holds(pid: int, path: Path) -> bool:
    """Whether the process holds the lock, inherited or taken by itself."""
    return bool(_takers(pid, path))


@contextmanager
def held(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock. Asks again rather than blocks, so that `waiting` can show life, or raise."""
    descriptor = _opened(path)
    try:
        while not _taken(descriptor):
            waiting()
            time.sleep(_ASK_AGAIN_S)
        yield
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    check_writing(path)
    make_private(path.parent)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise RunFolderError(f"{path}: {error.strerror}: it is no lock file; remove it") from error


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _takers(pid: int, path: Path) -> list[int]:
    """Who took the exclusive lock that the process holds through each of its descriptors: pids, 0 in a container."""
    found = []
    with suppress(OSError):  # it has ended
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed in this moment
                if os.path.samestat(descriptor.stat(), path.stat()):
                    # lock:  1: FLOCK  ADVISORY  WRITE 4711 fe:00:2146323 0 EOF
                    told = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text()
                    locks = [line.split() for line in told.splitlines() if line.startswith("lock:")]
                    found += [int(fields[5]) for fields in locks if fields[2] == "FLOCK" and fields[4] == "WRITE"]
    return found
