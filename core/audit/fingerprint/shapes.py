"""The course of a whole clip in a few hundred bytes: equal for copies at another speed, pitch or tempo, with silence
put in, or backwards, since it is cut into parts by how much was said, not by how long it took.

Peaks do not stay in place when a clip is played faster. But each part of it keeps its place among the parts, and how
its energy is spread over the bands. Parts are compared band by band, also with the bands a little higher and lower; and
how long they are must be in one proportion, which tells the speed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from core.audit.fingerprint.peaks import COARSE_BINS, Powers
from core.audit.fingerprint.pictures import FASTEST, Course

PARTS = 24
"""Of equal sums of root loudness: silence takes no part."""
QUIET = 0.15
"""Of the greatest root loudness: what is below counts as silence."""
BANDS, LOWEST, HIGHEST = 10, 6.4, 52.0
"""Bands of equal ratios between these bins."""
APART = 1.035
"""Bands are looked at as they are, and higher and lower by this: within a tenth of speed, two are near enough."""
WAVES, TONES = 16, 6
"""Of the parts' bands, how many cosines are kept along the parts, but for their mean, and along the bands."""
_STEP = 1 / 40
VALUES = WAVES * TONES
_LENGTHS = np.dtype([("ends", np.uint16, (PARTS + 1,)), ("frames", np.uint16)])
_LAYOUT = np.dtype([("bands", np.int8, (3, VALUES)), *((name, _LENGTHS[name]) for name in ("ends", "frames"))])
SHAPE_BYTES = _LAYOUT.itemsize
NO_SHAPE = bytes(SHAPE_BYTES)
LEAST_FRAMES = 12

LEAST_LIKENESS = 0.7
"""Cosine of the angle between two clips' courses from which on they may be the same."""
EVEN = 0.2
"""The median of how far the parts' lengths are from one proportion, as a logarithm."""
LOOSELY = 1.2
"""That proportion may be this, or its inverse: it is not as exact as the line through all parts' ends."""
MOST_ALIKE = 10_000
"""The likeliest pairs are looked at."""
ALL_WITH_ALL = 6000
"""More clips than this are compared only with those around the same ones of so many clips, a fixed share of them."""
A_GROUP, GROUPS = 300, 16
"""Clips around each of those, on the average; and among how many groups a clip's like ones are looked for."""
_AT_ONCE, _PAIRS_AT_ONCE = 1 << 21, 1 << 14
"""Products that are made, and pairs that are looked at together: bounds the memory."""

Integers = NDArray[np.int64]


def _bands() -> NDArray[np.float32]:
    """(bins of COARSE_BINS, 3 * BANDS): how much of each is in which band."""
    bins = np.arange(*COARSE_BINS)[:, None]
    found = []
    for factor in (1 / APART, 1.0, APART):
        ends = LOWEST * factor * (HIGHEST / LOWEST) ** (np.arange(BANDS + 1) / BANDS)
        found.append(np.clip(np.minimum(bins + 0.5, ends[1:]) - np.maximum(bins - 0.5, ends[:-1]), 0, 1))
    return np.concatenate(found, axis=1).astype(np.float32)


_SHARES = _bands()


def shape(plane: Powers) -> bytes:
    """The course of a clip, from what its peaks are peaks of; NO_SHAPE of silence or hardly any sound."""
    powers = plane @ _SHARES
    loud = powers[:, BANDS : 2 * BANDS].sum(1)
    root = np.sqrt(np.sqrt(loud))
    mass = np.maximum(root - QUIET * root.max(initial=0.0), 0)
    if np.count_nonzero(mass) < LEAST_FRAMES:
        return NO_SHAPE
    sums = np.concatenate(([0.0], np.cumsum(mass, dtype=np.float64)))
    ends = np.interp(np.linspace(0, sums[-1], PARTS + 1), sums, np.arange(len(sums)))
    ends[0], ends[-1] = np.searchsorted(sums, 0, "right") - 1, np.searchsorted(sums, sums[-1])
    spread = np.sqrt(np.sqrt(powers)) * (mass / np.maximum(root, 1e-20))[:, None]
    total = np.zeros((len(sums), powers.shape[1]))
    np.cumsum(spread, axis=0, out=total[1:])
    at = np.minimum(ends.astype(np.int64), len(mass) - 1)
    part = (ends - at)[:, None]
    parts = np.diff(total[at] * (1 - part) + total[at + 1] * part, axis=0).reshape(PARTS, 3, BANDS)
    parts /= np.linalg.norm(parts, axis=2, keepdims=True) + 1e-20
    waves = scipy.fft.dctn(parts, axes=(0, 2), norm="ortho")[1 : 1 + WAVES, :, :TONES]
    found = np.zeros((), _LAYOUT)
    found["bands"] = np.clip(np.rint(waves.transpose(1, 0, 2).reshape(3, VALUES) / _STEP), -127, 127)
    found["frames"] = len(mass)
    found["ends"] = np.rint(ends * (65535 / len(mass)))
    return found.tobytes()


class Alike:
    """Pairs of clips that may be the same, by position in the list, and where in each other they are.

    Where they are the same is found when it is asked for: there are many pairs.
    """

    def __init__(self, pairs: Integers, lengths: NDArray[np.void]) -> None:
        """`pairs`, ascending: (pairs, 3), first < second, and 1 where one of them is backwards; `lengths`: of the parts
        of all clips."""
        self.pairs = pairs
        self._lengths = lengths

    def courses(self, first: int, second: int, backwards: bool) -> Iterator[Course]:
        """From the first one's frames to the second one's: evenly, and with pauses put in."""
        here, there, usual, _ = _ends(self._lengths, np.array([first]), np.array([second]), backwards)
        here, there = here[:, 1:-1], there[:, 1:-1]
        pace, start = _line(here, there)
        sign = -1 if backwards else 1
        if 1 / FASTEST <= sign * pace[0] <= FASTEST:
            yield Course.line(float(pace[0]), float(start[0]))
        if abs(usual[0]) <= np.log(FASTEST):
            yield Course(here[0], there[0], float(sign * np.exp(usual[0])))


def alike(shapes: bytes | bytearray) -> Alike:
    """Pairs of clips whose courses are alike. `shapes`: of all clips, joined; they may be let go afterwards."""
    table = np.frombuffer(shapes, _LAYOUT)
    heard = np.flatnonzero(table["frames"])
    lengths = np.empty(len(table), _LENGTHS)
    for name in lengths.dtype.names or ():
        lengths[name] = table[name]
    found = _Pairs(lengths, heard)
    usual, lower, higher = (_Courses(table["bands"], heard, at) for at in (1, 0, 2))
    _near(usual, usual, found)
    _near(usual, usual, found, backwards=True)
    _near(lower, higher, found, both_ways=True)
    return Alike(found.ordered(), lengths)


class _Courses:
    """One of the three looks at the bands of the clips that were heard, each of length 1. Only rows that are asked for
    are made numbers of four bytes."""

    def __init__(self, bands: NDArray[np.int8], heard: Integers, look: int) -> None:
        self._bands, self._heard, self._look = bands, heard, look

    def __len__(self) -> int:
        return len(self._heard)

    def __getitem__(self, rows: Integers | slice) -> NDArray[np.float32]:
        some: NDArray[np.float32] = self._bands[self._heard[rows], self._look].astype(np.float32)
        some /= np.linalg.norm(some, axis=1, keepdims=True) + 1e-9
        return some


def _ends(
    lengths: NDArray[np.void], first: Integers, second: Integers, backwards: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The frames where the parts of the first and of the second clips of pairs end; the usual proportion of the parts'
    lengths, and how far they are from it, as logarithms."""
    here, there = (
        lengths["ends"][one] * (lengths["frames"][one].astype(np.float64) / 65535)[:, None] - 0.5
        for one in (first, second)
    )
    if backwards:
        there = there[:, ::-1]
    ratios = np.log((np.abs(np.diff(there, axis=1)) + 0.05) / (np.diff(here, axis=1) + 0.05))
    usual = np.median(ratios, axis=1)
    return here, there, usual, np.median(np.abs(ratios - usual[:, None]), axis=1)


def _line(here: NDArray[np.float64], there: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(slope, value at 0) of the line through points (pairs, points) that most of them are near to."""
    weight = np.ones(here.shape)
    for _ in range(8):
        total = weight.sum(1, keepdims=True)
        middle, other = (weight * here).sum(1, keepdims=True) / total, (weight * there).sum(1, keepdims=True) / total
        slope = (weight * (here - middle) * (there - other)).sum(1, keepdims=True) / (
            (weight * np.square(here - middle)).sum(1, keepdims=True) + 1e-9
        )
        start = other - slope * middle
        weight = 1 / (np.abs(there - slope * here - start) + 0.25)
    return slope[:, 0], start[:, 0]


_BACKWARDS = np.repeat((-1.0) ** np.arange(1, WAVES + 1), TONES).astype(np.float32)
"""What turns the cosines of a clip into those of the clip backwards."""


class _Pairs:
    """The likeliest pairs so far whose parts are in one proportion."""

    def __init__(self, lengths: NDArray[np.void], heard: Integers) -> None:
        self.least = LEAST_LIKENESS
        self._lengths, self._heard = lengths, heard
        self._parts = [np.empty((4, 0))]
        """(first, second, likeness, whether one runs backwards) by pairs."""

    def add(self, first: Integers, second: Integers, likeness: NDArray[np.floating], backwards: bool) -> None:
        for start in range(0, len(first), _PAIRS_AT_ONCE):
            some = slice(start, start + _PAIRS_AT_ONCE)
            one, another = self._heard[first[some]], self._heard[second[some]]
            _, _, usual, far = _ends(self._lengths, one, another, backwards)
            part = np.stack([one, another, likeness[some], np.full(len(far), backwards)])
            self._parts.append(part[:, (far <= EVEN) & (np.abs(usual) <= np.log(LOOSELY))])
        if sum(part.shape[1] for part in self._parts) > 4 * MOST_ALIKE:
            self._cut()

    def _cut(self) -> None:
        every = np.concatenate(self._parts, axis=1)
        every = every[:, np.lexsort((-every[2], every[1], every[0]))]
        again = (np.diff(every[0], prepend=-1) == 0) & (np.diff(every[1], prepend=-1) == 0)
        every = every[:, ~again]
        if every.shape[1] > MOST_ALIKE:
            self.least = float(np.partition(every[2], -MOST_ALIKE)[-MOST_ALIKE])
            every = every[:, every[2] > self.least]
        self._parts = [every]

    def ordered(self) -> Integers:
        """(pairs, 3): first, second, whether one runs backwards; ascending, each pair once as it is likest."""
        self._cut()
        return self._parts[0][[0, 1, 3]].T.astype(np.int64)


def _near(
    some: _Courses,
    others: _Courses,
    found: _Pairs,
    *,
    backwards: bool = False,
    both_ways: bool = False,
) -> None:
    """Add the pairs of rows whose product is large enough; `both_ways`: one of either with one of either."""
    signs = _BACKWARDS if backwards else np.ones(1, np.float32)
    for rows, columns in _groups(some, others, signs):
        step, there = max(1, _AT_ONCE // len(columns)), others[columns]
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            products = some[block] * signs @ there.T
            row, column = np.nonzero(products > found.least)
            first, second = block[row], columns[column]
            # Among groups, one of a pair may look for the other and not the other for it.
            good = first != second if both_ways or len(columns) < len(some) else first < second
            first, second = first[good], second[good]
            found.add(np.minimum(first, second), np.maximum(first, second), products[row, column][good], backwards)


def _groups(some: _Courses, others: _Courses, signs: NDArray[np.float32]) -> Iterator[tuple[Integers, Integers]]:
    """(rows of `some`, rows of `others`) that are compared with each other."""
    count = len(some)
    if count <= ALL_WITH_ALL:
        if count:
            yield np.arange(count), np.arange(count)
        return
    middles = others[np.arange(0, count, A_GROUP)]
    member, asked = np.empty(count, np.int32), np.empty((count, GROUPS), np.int32)
    for start in range(0, count, 4096):
        block = slice(start, start + 4096)
        member[block] = (others[block] @ middles.T).argmax(1)
        asked[block] = np.argpartition(some[block] * signs @ middles.T, -GROUPS, axis=1)[:, -GROUPS:]
    order, asking = np.argsort(member, kind="stable"), np.argsort(asked.ravel(), kind="stable")
    members, asks = (np.append(0, np.cumsum(np.bincount(of.ravel(), minlength=len(middles)))) for of in (member, asked))
    for at in range(len(middles)):
        columns = order[members[at] : members[at + 1]]
        if len(columns):
            yield asking[asks[at] : asks[at + 1]] // GROUPS, columns
