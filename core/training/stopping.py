"""When a trainer is to stop. A module of its own, because a signal must be heard while torch is being imported."""

from __future__ import annotations

from core.errors import Interrupted
from core.runs.paths import RunPaths
from core.system.files import HeldFolder
from core.system.process import StopSignals


class StopFlag(StopSignals):
    """Set by SIGTERM and SIGINT, and when the run's folder is no longer at its path. Asked between units of work.

    A trainer that went on would write into whatever lies at the path now, beside another one that works there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder: HeldFolder | None = None

    def install(self) -> None:
        """Take over the signals of this process, until its end."""
        self.__enter__()

    def ask(self) -> None:
        """Stop, as if a signal had come: it came to another process of the run."""
        self.count += 1

    def watch(self, folder: HeldFolder) -> None:
        """The run's folder, from now on."""
        self._folder = folder

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.count > 0 or bool(self.lost())

    def lost(self) -> str:
        """What became of the run's folder, if it is no longer at its path; else empty."""
        return "" if self._folder is None else self._folder.lost()

    def check(self) -> None:
        """Raise Interrupted when asked to stop."""
        self.check_folder()
        if self():
            raise Interrupted("stopped before the next step; it goes on from the last checkpoint")

    def check_folder(self) -> None:
        """Raise Interrupted when the run's folder is no longer at its path: before something is written there."""
        if lost := self.lost():
            raise Interrupted(lost)

    def last_place(self, paths: RunPaths) -> RunPaths:
        """Where the run's folder is: at its path, or, for this process, where it was moved to."""
        return paths if self._folder is None or not self.lost() else RunPaths(self._folder.here)
