"""What a clip sounds like, as a picture (frames, bands) of its loudness; and how much of one clip another one explains.

Peaks say that two clips have something in common. Whether that is the speech, or only what stands behind it, is seen
where most of the energy is: pieces of a quarter of a second are laid over the other clip's and compared band by band.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray

from core.audio.sound_file import Samples
from core.audit.fingerprint.peaks import FRAME_S, LONGEST_S, window

HOP_S = 0.025
PICTURE_HZ = (8_000, 16_000)
"""Clips of these rates are looked at as they are; others are brought to the first."""
EDGES = np.concatenate([np.arange(6, 64, 2), np.arange(64, 256, 4)])
"""Of bands, in bins of 15.625 Hz: 31 Hz wide up to 1 kHz, then 62 Hz, as far as 3.9 kHz."""
BANDS = len(EDGES) - 1
COMPARED = slice(1, 1 + int(np.searchsorted(EDGES, 228)) - 1)
"""125 to 3560 Hz: what a telephone and a bad codec keep, and what is still there at another speed."""
PIECE = 10
"""Frames that are compared together: a quarter of a second."""
REACH = 2
"""Frames that a piece may lie beside its place."""
STEADY = 0.2
"""Of each band, what is there in all but this share of the frames is taken away: hum is no speech."""
ALIKE, LESS_ALIKE = 0.7, 0.5
"""Correlation of two pieces from which on they are the same sound, and more so than by chance."""
AUDIBLE = 0.01
"""Of the loudest piece's amplitude."""
BOTH = 0.73
"""Two clips are one recording, however badly damaged, when the mean correlation of both with each other is this."""
PART, PART_ALIKE = 0.87, 0.95
PART_BY_CHANCE, PART_FEW, PART_SURE = 0.78, 0.38, 0.96
"""One clip is a part of another when the first is its mean correlation, and so much of it is alike; and for few pieces
the mean must be the third, and the fourth divided by their number, or the last."""
LEAST_ALIKE, LEAST_TIME = 0.9, 0.5
"""Of the pieces of both, where the speed is chosen, and of their time."""
WHOLE = 0.85
"""Two clips are one recording at another speed when the mean correlation of both is this: the speed is chosen freely,
so that others come nearer by chance."""
BY_CHANCE, FEW = 0.68, 0.65
"""And the mean correlation must be this, and more by the second divided by the number of pieces: where one speaker says
some words twice in short clips, few pieces are alike by chance."""
FASTEST = 1.13
"""How much faster or slower, higher or lower a copy may be, and some room."""
PITCHES = tuple(round(1 + step / 100, 2) for step in range(-11, 12) if step)
TUNED_BY = 6
"""Pieces by which the pitch is found."""
_BLOCK = 4096

Picture = NDArray[np.uint8]
"""(frames, BANDS): the root of each amplitude, 255 at the loudest place."""
Likeness = tuple[NDArray[np.float64], NDArray[np.float64]]
NO_PICTURE = np.empty((0, BANDS), np.uint8)


def picture(samples: Samples, rate_hz: int) -> Picture:
    """The picture of a clip (samples,); none of silence or less than a frame."""
    samples = samples[: int(LONGEST_S * rate_hz)]
    if rate_hz not in PICTURE_HZ:
        samples, rate_hz = np.asarray(soxr.resample(samples, rate_hz, PICTURE_HZ[0])), PICTURE_HZ[0]
    width, hop = round(FRAME_S * rate_hz), int(HOP_S * rate_hz)
    if len(samples) < width:
        return NO_PICTURE
    frames = np.lib.stride_tricks.sliding_window_view(np.ascontiguousarray(samples, np.float32), width)[::hop]
    parts = []
    for start in range(0, len(frames), _BLOCK):
        spectrum = scipy.fft.rfft(frames[start : start + _BLOCK] * window(width), axis=1)[:, EDGES[0] : EDGES[-1]]
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        parts.append(np.sqrt(np.add.reduceat(power, EDGES[:-1] - EDGES[0], axis=1)))
    loud = np.concatenate(parts)
    most = float(loud.max())
    if not most > 0:
        return NO_PICTURE
    found: Picture = np.rint(255 * np.sqrt(loud / most)).astype(np.uint8)
    return found


@dataclass(frozen=True, slots=True)
class Course:
    """Where the frames of one clip are in another."""

    here: NDArray[np.float64]
    there: NDArray[np.float64]
    """Frames of both that belong together; between them, and beyond, the clip runs on evenly."""
    pace: float
    """Frames there for each one here; below 0 the other clip runs backwards."""

    def __call__(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        """The frames there, of pieces' middles."""
        low, high = self.here[0], self.here[-1]
        inside = np.interp(frames, self.here, self.there)
        beyond = np.minimum(frames - low, 0) + np.maximum(frames - high, 0)
        places: NDArray[np.float64] = inside + self.pace * beyond
        return places

    @classmethod
    def line(cls, pace: float, start: float) -> Course:
        """Evenly from frame `start` of the other clip on."""
        return cls(np.array([0.0, 1.0]), np.array([start, start + pace]), pace)

    def turned(self) -> Course:
        """From the other clip to this one."""
        order = slice(None) if self.pace > 0 else slice(None, None, -1)
        return Course(self.there[order], self.here[order], 1 / self.pace)


class Sound:
    """A clip's picture, and what follows from it, made when it is asked for."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    @cached_property
    def loud(self) -> NDArray[np.float32]:
        """(frames, BANDS): amplitudes without what is always there."""
        loud = np.square(self.picture.astype(np.float32))
        steady = np.partition(loud, int(STEADY * (len(loud) - 1)), axis=0)[int(STEADY * (len(loud) - 1))]
        return np.asarray(np.maximum(loud - steady, 0), np.float32)

    @cached_property
    def plain(self) -> Bands:
        """Give the picture unchanged."""
        return Bands(self.loud[:, COMPARED])

    def higher(self, pitch: float) -> Bands:
        """As it would be with all frequencies divided by `pitch`."""
        if pitch == 1.0:
            return self.plain
        return Bands(np.sqrt(self._power @ _moved(pitch)))

    @cached_property
    def _power(self) -> NDArray[np.float32]:
        return np.square(self.loud)


class Bands:
    """Amplitudes (frames, bands), with their sums by frame."""

    def __init__(self, loud: NDArray[np.float32]) -> None:
        self.loud = np.ascontiguousarray(loud)
        self.sums = self.loud.sum(1, dtype=np.float64)
        self.squares = np.einsum("nb,nb->n", self.loud, self.loud).astype(np.float64)


@lru_cache(maxsize=64)  # the pitches that are tried, and few of the others: nearly every pair has one of its own
def _moved(pitch: float) -> NDArray[np.float32]:
    """(BANDS, compared bands): how much of the power of each band comes into each, when frequencies are divided."""
    low, high = EDGES[:-1, None].astype(float), EDGES[1:, None].astype(float)
    edges = EDGES * pitch
    shares = (np.minimum(high, edges[None, 1:]) - np.maximum(low, edges[None, :-1])) / (high - low)
    found: NDArray[np.float32] = np.clip(shares, 0, 1)[:, COMPARED].astype(np.float32)
    return found


def likeness(here: Bands, there: Bands, course: Course, some: NDArray[np.int64] | None = None) -> Likeness:
    """(energy, correlation by shift) of the pieces of one clip with where they should be in another, up to REACH frames
    beside it; 0 where it has nothing. `some`: only of those pieces."""
    count = len(here.loud)
    length = min(PIECE, count)
    starts = np.arange(max(1, count // PIECE)) * PIECE if some is None else some * PIECE
    frames = starts[:, None] + np.arange(length)
    middle = (length - 1) / 2
    places = course(starts.astype(np.float64) + middle)[:, None] + course.pace * (np.arange(length) - middle)
    size = length * here.loud.shape[1]
    mine, squares = here.sums[frames].sum(1), here.squares[frames].sum(1)
    energy = np.maximum(squares - mine * mine / size, 0)
    found = np.zeros((2 * REACH + 1, len(starts)))
    piece = here.loud[frames]
    for number, shift in enumerate(range(-REACH, REACH + 1)):
        at = np.rint(places + shift).astype(np.int64)
        inside = (at >= 0) & (at < len(there.loud))
        at[~inside] = 0
        both = (np.einsum("pnb,pnb->pn", piece, there.loud[at]) * inside).sum(1, dtype=np.float64)
        theirs = (there.sums[at] * inside).sum(1)
        their_energy = np.maximum((there.squares[at] * inside).sum(1) - theirs * theirs / size, 0)
        found[number] = (both - mine * theirs / size) / (np.sqrt(energy * their_energy) + 1e-9)
    return energy, np.maximum(found, 0)


def tuned(here: Sound, there: Sound, course: Course) -> float:
    """The second clip's pitch against the first one's: where the loudest pieces are most alike."""
    count = len(here.plain.loud)
    pieces = max(1, count // PIECE)
    loudest = np.argsort(here.plain.squares[: pieces * PIECE].reshape(pieces, -1).sum(1))[-TUNED_BY:]
    best, pitch = -1.0, 1.0
    for one in (1.0, 1 / abs(course.pace), *PITCHES):
        energy, found = likeness(here.plain, there.higher(one), course, loudest)
        score = float((energy * found.max(0)).sum() / max(energy.sum(), 1e-12))
        if score > best:
            best, pitch = score, one
    return round(pitch, 3)


@dataclass(frozen=True, slots=True)
class Heard:
    """How much of one clip is the same sound in another; its pieces weigh as the roots of their energies."""

    alike: float
    """Share of the pieces that are the same sound."""
    mean: float
    """Of the pieces' correlations."""
    time: float
    """Share of the pieces that can be heard, however quiet, that are more alike than chance makes them."""
    pieces: float
    """How many equally loud ones would weigh as differently as these."""


def heard(here: Bands, there: Bands, course: Course, loosely: bool) -> Heard:
    """How much of one clip is in another; `loosely`: each piece with a shift of its own, else all with one."""
    energy, by_shift = likeness(here, there, course)
    weight = np.sqrt(energy)
    total = max(float(weight.sum()), 1e-9)
    found = by_shift.max(0) if loosely else by_shift[int((by_shift @ weight).argmax())]
    audible = weight > AUDIBLE * weight.max()
    return Heard(
        float(weight[found >= ALIKE].sum()) / total,
        float((weight * found).sum()) / total,
        float(np.mean(found[audible] >= LESS_ALIKE)) if audible.any() else 0.0,
        total**2 / max(float(np.square(weight).sum()), 1e-9),
    )


def is_same(here: Sound, there: Sound, course: Course, pitch: float = 1.0, whole: bool = False) -> float:
    """Share of one clip that is the other, if they are one recording; else 0. `whole`: both from end to end."""
    other = there.higher(pitch)
    one, another = heard(here.plain, other, course, whole), heard(other, here.plain, course.turned(), whole)
    few = BY_CHANCE + FEW / min(one.pieces, another.pieces)
    both = (one.mean + another.mean) / 2
    if min(one.time, another.time) >= LEAST_TIME and both >= max(BOTH, few):
        if not whole:
            return max(one.alike, another.alike)
        if both >= WHOLE and min(one.alike, another.alike) >= LEAST_ALIKE:
            return min(one.alike, another.alike)
    if not whole:
        for part in (one, another):
            least = max(PART, min(PART_SURE, PART_BY_CHANCE + PART_FEW / part.pieces))
            if part.alike >= PART_ALIKE and part.mean >= least and part.time >= LEAST_TIME:
                return part.alike
    return 0.0
