"""How many runs were judged on the same domain and heldout sets, for the chance that luck had one of them accepted."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from core.runs.documents import read_config
from core.runs.paths import RunPaths
from core.scoring.data_health import RESERVES
from core.scoring.luck import Tried
from core.system.files import exists

_Sets = tuple[str | None, str | None]


class JudgedSets:
    """Runs by what they were judged on. `hashes` are those of a run's `run.json`: set → hash of its content."""

    def __init__(self) -> None:
        self._on: dict[_Sets, dict[str, bool]] = {}
        """Sets → identity → whether the run has a reserve: one that has none could be accepted without."""

    def add(self, run: RunPaths, hashes: Mapping[str, str]) -> None:
        """Count a run, if it was judged: that it is once both sets are scored.

        Copies of a run, by its identity, are no other chance.
        """
        if all(name in hashes and exists(run.tuned(name)) for name in ("domain", "heldout")):
            reserve = set(RESERVES.values()) <= hashes.keys()
            self._on.setdefault(_sets(hashes), {})[run.name.rpartition("-")[2]] = reserve

    def tried(self, hashes: Mapping[str, str], confidence: float | None) -> Tried | None:
        """Of a run of these sets; None: none was judged on them. `confidence` of its gate."""
        runs = self._on.get(_sets(hashes), {})
        return Tried(len(runs), confidence, all(runs.values())) if runs else None


class JudgedFolders:
    """The runs of a folder, a few of which are looked at in each round."""

    def __init__(self) -> None:
        self._hashes: dict[str, Mapping[str, str]] = {}
        """Of each run that was looked at: they never change."""
        self._names: Sequence[str] = ()
        self._sets, self._open = JudgedSets(), list[str]()

    def look(
        self, names: Sequence[str], run: Callable[[str], RunPaths], changed: Collection[str], until: float
    ) -> None:
        """Count what was not looked at yet or has `changed`, until `time.monotonic()` is `until`.

        `names` of the folders, the same object as long as they are the same; `run` of a name.
        """
        if names is not self._names:
            # A run that is gone is no longer counted.
            self._names, self._sets, self._open = names, JudgedSets(), list(names)
        self._open += [name for name in changed if name in self._hashes]
        while self._open and time.monotonic() < until:
            path = run(self._open.pop())
            self._sets.add(path, self._hashes_of(path))

    def tried(self, run: RunPaths, confidence: float | None) -> Tried | None:
        """Of the sets of a run; None as long as not all were looked at."""
        return None if self._open else self._sets.tried(self._hashes_of(run), confidence)

    def _hashes_of(self, run: RunPaths) -> Mapping[str, str]:
        if run.name not in self._hashes:
            found = (read_config(run)[0] or {}).get("hashes")
            texts = found.items() if isinstance(found, dict) else ()
            self._hashes[run.name] = {str(key): value for key, value in texts if isinstance(value, str)}
        return self._hashes[run.name]


def _sets(hashes: Mapping[str, str]) -> _Sets:
    return hashes.get("domain"), hashes.get("heldout")
