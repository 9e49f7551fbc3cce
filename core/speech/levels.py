"""Levels of a clip and checksums of its samples: few and cheap passes over them, since a corpus has hours of audio."""

from __future__ import annotations

import math
import zlib

import numpy as np

from core.speech.sound_file import Block, Samples

FULL_SCALE = 0.999
FLAT_RUN = 3
"""As many equal samples in a row at the clip's peak are a flat top: it was clipped, whatever its gain now."""

Checksum = tuple[int, int]
"""Sum of the samples' 64-bit words, which a change of any sample changes, and a CRC of every ORDERED-th sample, which
tells their order: together less than half the time that a CRC of all of them takes."""
ORDERED = 16
_STEPS = 32768


class Levels:
    """Looks at the samples block by block as the file has them: counts clipped ones, adds up the checksum."""

    def __init__(self) -> None:
        self.clipped = self.samples = 0
        self.peak = 0.0
        self.checksum: Checksum | None = (0, 0)
        """Of 16-bit mono; None for other files."""

    def see(self, block: Block) -> None:
        """The next block."""
        self.samples += block.size
        if block.dtype == np.int16:
            unit: float = _STEPS
            full_scale: float = math.ceil(FULL_SCALE * _STEPS)
            self.checksum = checksum(block, self.checksum) if block.ndim == 1 and self.checksum else None
        else:
            unit, self.checksum, full_scale = 1.0, None, FULL_SCALE
        high, low = block.max(initial=0).item(), block.min(initial=0).item()
        peak = max(high, -low)
        if not peak > 0:
            return
        self.peak = max(self.peak, peak / unit)
        least = min(full_scale, peak)
        full = int(np.count_nonzero(block >= least)) if high >= least else 0
        full += int(np.count_nonzero(block <= -least)) if -low >= least else 0
        if full < FLAT_RUN:
            return
        top = (block >= peak) | (block <= -peak)
        flat = 0
        if len(block) >= FLAT_RUN:
            runs = top[:-2] & top[1:-1] & top[2:]
            marked = np.zeros_like(top)
            for shift in range(FLAT_RUN):
                marked[shift : len(runs) + shift] |= runs
            flat = int(np.count_nonzero(marked))
        self.clipped += max(full if peak >= full_scale else 0, flat)


def checksum(samples: Block, before: Checksum = (0, 0)) -> Checksum:
    """Of samples (samples,) that follow on those that gave `before`, whose count must be a multiple of ORDERED."""
    whole = len(samples) * samples.itemsize // 8 * 8 // samples.itemsize
    words = before[0] + int(np.add.reduce(samples[:whole].view(np.uint64)))
    words += int.from_bytes(samples[whole:].tobytes(), "little")
    return words & 0xFFFFFFFFFFFFFFFF, zlib.crc32(samples[::ORDERED].tobytes(), before[1])


def step_checksum(samples: Samples) -> Checksum:
    """Of the samples as 16-bit numbers where they are such, so that a 24-bit copy of a 16-bit file has the same one."""
    middle = len(samples) // 2
    for part in (samples[middle : middle + _PROBED], samples):
        steps = part * np.float32(_STEPS)
        if not (np.array_equal(steps, np.rint(steps)) and np.abs(steps).max(initial=0) < _STEPS):
            return checksum(samples)
    return checksum(steps.astype(np.int16))


def mean(samples: Samples) -> float:
    """As products with ones, which BLAS adds up in half the time that numpy takes."""
    parts = (samples[start : start + len(_ONES)] for start in range(0, len(samples), len(_ONES)))
    return sum(float(np.dot(part, _ONES[: len(part)])) for part in parts) / len(samples)


_ONES = np.ones(1 << 15, np.float32)
_PROBED = 256
"""Samples that tell what is not of 16 bits at once."""
