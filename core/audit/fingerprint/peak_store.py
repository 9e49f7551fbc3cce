"""Peaks of very many clips in little memory: joined, without an array of its own for each clip."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from core.audit.fingerprint.peaks import Peaks


class ClipPeaks(Protocol):
    """The peaks of clips by position: a list of them, or what gives them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Peaks: ...

    def __iter__(self) -> Iterator[Peaks]: ...


class PeakStore:
    """A list of clips' peaks that can only grow. What it gives are views of what it holds."""

    def __init__(self) -> None:
        self._parts = [np.empty(PART, np.uint32)]
        self._used = 0
        """Of the last part. Parts are filled one by one, so that growing never copies what is there."""
        self._part, self._start, self._size = array("I"), array("I"), array("I")

    def append(self, peaks: Peaks) -> None:
        """Add the next clip's peaks."""
        if self._used + len(peaks) > len(self._parts[-1]):
            self._parts.append(np.empty(max(PART, len(peaks)), np.uint32))
            self._used = 0
        self._part.append(len(self._parts) - 1)
        self._start.append(self._used)
        self._size.append(len(peaks))
        self._parts[-1][self._used : self._used + len(peaks)] = peaks
        self._used += len(peaks)

    def __len__(self) -> int:
        return len(self._size)

    def __getitem__(self, index: int, /) -> Peaks:
        start = self._start[index]
        return self._parts[self._part[index]][start : start + self._size[index]]

    def __iter__(self) -> Iterator[Peaks]:
        return map(self.__getitem__, range(len(self)))


PART = 1 << 20
"""Peaks, of 4 bytes each, that stand in one array; a longer clip has one of its own."""
