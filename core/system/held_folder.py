"""A folder that a process works in, held open, so that it is noticed when the folder is moved or replaced."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class HeldFolder:
    """The folder that `path` leads to now. OSError when there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._folder = os.fstat(self._descriptor)

    @property
    def here(self) -> Path:
        """Where it is now. FileNotFoundError when it was deleted, or nobody can tell."""
        now = Path(f"/proc/self/fd/{self._descriptor}").readlink()
        if not os.path.samestat(now.stat(), self._folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        return now

    def lost(self) -> str:
        """What became of it, if its path leads there no longer; else empty, also where nobody can tell now."""
        try:
            if os.path.samestat(self.path.stat(), self._folder):
                return ""
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            return ""
        try:
            now = self.here
        except OSError:
            if not os.fstat(self._descriptor).st_nlink:
                return f"its folder {self.path} was deleted"
            if not os.path.lexists(self.path):
                return f"its folder {self.path} was deleted, or its disk was taken away"
            return f"its folder {self.path} is another one now: replaced, or its disk was taken away"
        return f"its folder {self.path} was moved to {now}"

    def close(self) -> None:
        """Close the folder."""
        os.close(self._descriptor)
