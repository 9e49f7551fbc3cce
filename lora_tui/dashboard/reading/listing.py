"""Which run folders there are: listed again when one came or went. For the reader thread."""

from __future__ import annotations

import time
from collections.abc import Sequence

from core.runs.paths import RunPaths, RunsFolder

_EACH_S = 30.0
"""It is listed again so long after the last time, whatever happens."""
_YOUNG_S = 3.0
"""So long after it changed it is listed in every round: run.json comes a moment after its folder."""


class Listing:
    """The run folders of a runs folder, by name."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._names: Sequence[str] = ()
        self._paths: dict[str, RunPaths] = {}
        self._listed, self._changed = float("-inf"), -1

    def names(self) -> Sequence[str]:
        """All names, sorted; the same object as long as they are the same."""
        try:
            changed = self._runs.root.stat().st_mtime_ns
        except OSError:
            changed = 0
        young = time.time() - changed / 1e9 < _YOUNG_S
        if changed != self._changed or young or time.monotonic() - self._listed > _EACH_S:
            self._paths = {run.name: run for run in self._runs.runs()}
            names = tuple(self._paths)
            self._names = self._names if names == self._names else names
            self._listed, self._changed = time.monotonic(), changed
        return self._names

    def run(self, name: str) -> RunPaths:
        """The run folder of this name."""
        return self._paths[name]
