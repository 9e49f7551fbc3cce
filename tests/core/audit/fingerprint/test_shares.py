"""What two clips share: the quick look at many pairs passes over none that the look at one of them would take."""

from __future__ import annotations

import numpy as np
import pytest

from core.audit.fingerprint import landmarks as shares
from core.audit.fingerprint.landmarks import Clip, may_share, share
from core.audit.fingerprint.peaks import Peaks

LEAST, WANTED, SPREAD = 8, 0.33, 1.3


def clips_and_copies(seed: int) -> list[Peaks]:
    """Random peaks, and cut, shifted and thinned copies of them; of different lengths."""
    rng = np.random.default_rng(seed)
    clips = []
    for number in range(12):
        frames, count = int(rng.integers(20, 400)), int(rng.integers(5, 300))
        peaks = np.unique(rng.integers(0, frames, count) << 8 | rng.integers(6, 58, count))
        clips.append(peaks.astype(np.uint32))
        copy = peaks[int(len(peaks) * rng.uniform(0, 0.4)) :]
        copy = copy[rng.random(len(copy)) < rng.uniform(0.4, 1)]
        clips.append((copy + (number << 8)).astype(np.uint32) if len(copy) else clips[-1])
    return clips


@pytest.mark.parametrize("at_once", [None, (3, 1), (7, 500)])
def test_the_quick_look_loses_no_pair(monkeypatch: pytest.MonkeyPatch, at_once: tuple[int, int] | None) -> None:
    if at_once:
        monkeypatch.setattr(shares, "_PAIRS_AT_ONCE", at_once[0])
        monkeypatch.setattr(shares, "_FRAMES_AT_ONCE", at_once[1])
    rng = np.random.default_rng(0)
    taken = passed = 0
    for seed in range(6):
        clips = clips_and_copies(seed)
        pairs = [(a, b) for a in range(len(clips)) for b in range(a + 1, len(clips))]
        offset = np.array([-(a // 2) if b == a + 1 and a % 2 == 0 else rng.integers(-50, 50) for a, b in pairs])
        first, second = np.array(pairs).T
        good = may_share(clips, first, second, offset, LEAST, WANTED, SPREAD)
        for (a, b), at, may in zip(pairs, offset.tolist(), good.tolist(), strict=True):
            found, _, peaks = share(Clip(clips[a]), Clip(clips[b]), at, LEAST, WANTED, SPREAD)
            wanted = peaks > 0 and found >= WANTED + SPREAD / peaks**0.5
            assert may or not wanted
            taken, passed = taken + wanted, passed + (not may)
    assert taken > 20 and passed > 1000


def test_no_pairs() -> None:
    nothing = np.empty(0, np.int64)
    assert len(may_share([], nothing, nothing, nothing, LEAST, WANTED, SPREAD)) == 0
