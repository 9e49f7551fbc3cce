"""Levels of a clip and checksums of its samples: few and cheap passes over them, since a corpus has hours of audio."""

from __future__ import annotations

import zlib

import numpy as np

from core.audio.sound_file import Samples

FULL_SCALE = 0.999
FLAT_RUN = 3
"""As many equal samples in a row at the clip's peak are a flat top: it was clipped, whatever its gain now."""

Checksum = tuple[int, int]
"""Sum of the samples' 64-bit words, which a change of any sample changes, and a CRC of every ORDERED-th sample, which
tells their order: together a fraction of the time that a CRC of all of them takes."""
ORDERED = 64


class Levels:
    """Looks at the samples block by block as the file has them: counts clipped ones, finds the peak."""

    def __init__(self) -> None:
        self.clipped = self.samples = 0
        self.peak = 0.0

    def see(self, block: Samples) -> None:
        """The next block."""
        self.samples += block.size
        high, low = block.max(initial=0).item(), block.min(initial=0).item()
        peak = max(high, -low)
        if not peak > 0:
            return
        self.peak = max(self.peak, peak)
        least = min(FULL_SCALE, peak)
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
        self.clipped += max(full if peak >= FULL_SCALE else 0, flat)


def checksum(samples: Samples) -> Checksum:
    """Of mono samples (samples,)."""
    words = int(np.add.reduce(samples[: len(samples) // 2 * 2].view(np.uint64)))
    words += int.from_bytes(samples[len(samples) // 2 * 2 :].tobytes(), "little")
    return words & 0xFFFFFFFFFFFFFFFF, zlib.crc32(samples[::ORDERED].tobytes())
