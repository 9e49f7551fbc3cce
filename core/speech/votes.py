"""Pairs of clips that have triples of peaks in common at one offset: counted in pieces, so that memory stays small.

Beside the peaks themselves: 8 bytes for each of at most MOST_TRIPLES triples, then of MOST_KEYS pairs of equal ones.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from core.speech.peak_store import ClipPeaks
from core.speech.triples import FRAME, HASH, Triples, triples_of_all

MOST_KEYS = 6_000_000
"""Pairs of equal triples that are counted: bounds the memory where very many clips are alike."""
GROUP = 48
"""Neighbours in a group of equal hashes that are compared: a triple that hundreds of clips share tells little."""
LEAST_VOTES, MOST_CANDIDATES = 2, 60_000
"""Pairs with so many triples at one offset are looked at; with more, if there would be too many pairs."""
PEAKS_A_VOTE = 20
"""And one for so many peaks of the sparser clip: between long clips, chance gives more than two."""

Keys = NDArray[np.uint64]
"""(pairs,): first << 40 | second << 16 | offset, which is 0x8000 for two clips that begin together."""
_CLIP = np.uint64(0xFFFFFF0000)
_SECOND = np.uint64(16)
_PIECE = 1 << 18
"""Numbers that are worked on at once: bounds the memory, and stays in the processor's cache."""


def votes(clips: ClipPeaks) -> tuple[Keys, NDArray[np.int32]]:
    """The pairs of clips that share triples at one offset, ascending, and how many they share."""
    table, every = triples_of_all(clips)
    keys = _pairs(table)
    del table
    keys.sort()
    sizes = np.fromiter(map(len, clips), np.int32, len(clips))
    pieces = [_counted(keys[start:stop], sizes, every) for start, stop in _whole_pairs(keys)]
    voted = np.concatenate([piece[0] for piece in pieces]) if pieces else keys
    counts = np.concatenate([piece[1] for piece in pieces]) if pieces else np.empty(0, np.int32)
    if len(voted) > MOST_CANDIDATES:
        some = counts > np.partition(counts, -MOST_CANDIDATES)[-MOST_CANDIDATES]
        voted, counts = voted[some], counts[some]
    return voted, counts


def _pairs(table: Triples) -> Keys:
    """A key for each two equal hashes of different clips, nearest neighbours first; at most MOST_KEYS."""
    keys = np.empty(min(MOST_KEYS, GROUP * len(table)), np.uint64)
    used = 0
    every = np.arange(len(table), dtype=np.uint32)
    rows = [every[start : start + _PIECE] for start in range(0, len(table), _PIECE)]
    for distance in range(1, GROUP + 1):
        # Neighbours that are equal at this distance were so at every smaller one.
        rows = [_equal(table, some, distance) for some in rows]
        count = sum(map(len, rows))
        if not count or used + count > len(keys):
            break
        for some in rows:
            here, there = table[some], table[some + distance]
            offset = (here & FRAME) + np.uint64(0x8000) - (there & FRAME)
            first, second = here & _CLIP, there & _CLIP
            found = (first << (HASH - _SECOND) | second | offset & FRAME)[first != second]
            keys[used : used + len(found)] = found
            used += len(found)
    return keys[:used]


def _equal(table: Triples, rows: NDArray[np.uint32], distance: int) -> NDArray[np.uint32]:
    """Those of `rows` that have the same hash as the triple `distance` behind them."""
    rows = rows[: np.searchsorted(rows, len(table) - distance)]
    alike: NDArray[np.bool_] = (table[rows] ^ table[rows + distance]) >> HASH == 0
    return rows[alike]


def _whole_pairs(keys: Keys) -> list[tuple[int, int]]:
    """Pieces of ascending keys, none of which ends within a pair of clips."""
    cuts = [0]
    while cuts[-1] < len(keys):
        last = keys[min(cuts[-1] + _PIECE, len(keys)) - 1] | FRAME
        cuts.append(int(np.searchsorted(keys, last, "right")))
    return list(pairwise(cuts))


def _counted(keys: Keys, sizes: NDArray[np.int32], every: int) -> tuple[Keys, NDArray[np.int32]]:
    """Each of ascending keys once with how often it is there, where that is often enough."""
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    voted, counts = keys[starts], np.diff(starts, append=len(keys)).astype(np.int32)
    split = voted[1:] - voted[:-1] == 1  # a cut between frames shares its votes out
    counts[:-1][split] += counts[1:][split]
    some = counts >= LEAST_VOTES
    voted, counts = voted[some], counts[some]
    fewer = np.minimum(sizes[voted >> HASH], sizes[voted >> _SECOND & np.uint64(0xFFFFFF)])
    some = counts >= fewer / (PEAKS_A_VOTE * every)
    return voted[some], counts[some]
