"""What the reader keeps for the next time: long histories, figures of ended runs. Gone runs leave nothing behind."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from core.runs.paths import RunsFolder
from lora_tui.dashboard.reading.row_index import RowIndex
from lora_tui.dashboard.reading.watch import Watch

_SAVE_S = 20.0


class Caches:
    """In the state folder. Used by the reader thread, when everything is on the screen."""

    def __init__(self, runs: RunsFolder, index: RowIndex, *, kept: bool) -> None:
        """`kept`: whether anything may be written."""
        self._runs, self._index, self.kept = runs, index, kept
        self._saved = float("-inf")
        self._swept: Sequence[str] | None = None

    def write_down(self, watches: Mapping[str, Watch], awake: Iterable[str], names: Sequence[str]) -> None:
        """A long history, one in a round; the index, and what is left of gone runs, now and then.

        `names`: of the run folders there are, the same object as long as they are the same.
        """
        if any(watches[name].keep() for name in awake):
            return
        if not self.kept or time.monotonic() - self._saved <= _SAVE_S:
            return
        self._saved = time.monotonic()
        self._index.save(watches.keys())
        # A folder without any run may be one that is not mounted.
        if names and names is not self._swept:
            self._swept = names
            for path in self._runs.histories_of_gone_runs():
                with suppress(OSError):
                    path.unlink()
