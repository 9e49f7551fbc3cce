"""Kernel locks: they end with the process that holds them, so none is ever stale."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from core.runs.process import holders

_PROBES_PASS_S = 1.0
"""A probe holds the lock for microseconds; whoever wants it tries again for this long."""


class KernelLock:
    """An exclusive `flock` on a file. A child that inherits `descriptor` keeps it after `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path) -> KernelLock | None:
        """The lock; None when another process holds it. OSError when the folder cannot be written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _PROBES_PASS_S
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return cls(path, descriptor)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return None
                time.sleep(0.05)

    def write_owner(self, text: str) -> None:
        """Say in the file who holds the lock: for people; nothing is decided by it."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def release(self) -> None:
        """Let go of it, unless a child inherited it: then the lock is the child's."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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
    return [pid for pid in holders(path) if _inherited(pid, path)]


def _inherited(pid: int, path: Path) -> bool:
    """Whether the process holds the lock, and the kernel names another one (0: dead, in a container) that took it."""
    with suppress(OSError):  # it has ended
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed in this moment
                if os.path.samestat(descriptor.stat(), path.stat()):
                    # lock:  1: FLOCK  ADVISORY  WRITE 4711 fe:00:2146323 0 EOF
                    told = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text()
                    locks = [line.split() for line in told.splitlines() if line.startswith("lock:")]
                    if any(fields[2] == "FLOCK" and fields[5] != str(pid) for fields in locks):
                        return True
    return False
