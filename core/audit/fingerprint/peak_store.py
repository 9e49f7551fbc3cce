"""The peaks and shapes of very many clips, joined in a few arrays, so that they take little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from core.audit.fingerprint.peaks import Peaks
from core.audit.fingerprint.shapes import NO_SHAPE

DIGEST_BYTES = 28
NO_DIGEST = bytes(DIGEST_BYTES)


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

    def forget(self, index: int) -> None:
        """From now on that clip has no peaks."""
        self._size[index] = 0

    def __len__(self) -> int:
        return len(self._size)

    def __getitem__(self, index: int, /) -> Peaks:
        start = self._start[index]
        return self._parts[self._part[index]][start : start + self._size[index]]

    def __iter__(self) -> Iterator[Peaks]:
        return map(self.__getitem__, range(len(self)))


PART = 1 << 20
"""Peaks, of 4 bytes each, that stand in one array; a longer clip has one of its own."""


class Fingerprints:
    """The digests, peaks and courses of clips, in order: about 900 bytes for each one of 3 s."""

    def __init__(self) -> None:
        self.digests, self.peaks, self.shapes = bytearray(), PeakStore(), bytearray()

    def __len__(self) -> int:
        return len(self.peaks)

    def append(self, digest: bytes, peaks: Peaks, shape: bytes) -> None:
        """Add the next clip's; nothing equals an empty digest."""
        self.digests += digest or NO_DIGEST
        self.peaks.append(peaks)
        self.shapes += shape

    def take_equal_samples(self) -> list[list[int]]:
        """The clips, by position, of each digest that more than one has, ordered by the first of them. Of the others
        nothing is kept: what is like one of them is like the first, too."""
        table = np.frombuffer(self.digests, f"V{DIGEST_BYTES}")
        order = np.argsort(table, kind="stable")
        new = np.append(True, table[order[1:]] != table[order[:-1]])[: len(order)]
        groups = [group.tolist() for group in np.split(order, np.flatnonzero(new)[1:]) if len(group) > 1]
        groups = sorted(group for group in groups if table[group[0]].tobytes() != NO_DIGEST)
        self.digests = bytearray()
        for group in groups:
            for clip in group[1:]:
                self.peaks.forget(clip)
                self.shapes[clip * len(NO_SHAPE) : (clip + 1) * len(NO_SHAPE)] = NO_SHAPE
        return groups
