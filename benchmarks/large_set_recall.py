"""How many copies of a recording the audit's first look still finds among very many other clips.

    python -m benchmarks.large_set_recall [--clips 2000 20000 100000] [--pairs 300] [--seed 0]

Simulated, on peaks instead of sound, since there are no 100,000 recordings here: the crowd are clips of the embedded
speech (data/audio), each at a speed and pitch of its own, within a quarter. Among them stand --pairs real clips and a
copy of each, in random places; a copy begins 13 frames later, has lost a share of its peaks, as many false ones
instead, and one in seven of its peaks a frame off, one in ten a bin. For each size: copies that are candidates (what is
then decoded and decided), other candidates, processor seconds of the comparison. About 3 minutes on a quiet core.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from core.audit.clip_facts import measure
from core.audit.fingerprint.landmarks import candidates
from core.audit.fingerprint.peak_store import PeakStore
from core.audit.fingerprint.peaks import COARSE_BINS, Peaks

ROOT = Path(__file__).resolve().parent.parent
KEPT = (0.9, 0.8, 0.7, 0.6)
SOURCES = 1500


def warped(peaks: Peaks, rng: np.random.Generator) -> Peaks:
    """The peaks as of another clip."""
    frames = (peaks >> 8) * rng.uniform(0.8, 1.25) + (rng.random(len(peaks)) < 0.3)
    bins = (peaks & 255) * rng.uniform(0.8, 1.25) + rng.uniform(-1.5, 1.5, len(peaks))
    return joined(frames.astype(np.int64), bins.astype(np.int64))


def damaged(peaks: Peaks, kept: float, rng: np.random.Generator) -> Peaks:
    """The peaks as of a copy."""
    some = peaks[rng.random(len(peaks)) < kept]
    frames = (some >> 8).astype(np.int64) + (rng.random(len(some)) < 1 / 7)
    bins = (some & 255).astype(np.int64) + (rng.random(len(some)) < 0.1)
    false = int(len(peaks) * (1 - kept))
    frames = np.concatenate((frames, rng.integers(0, int(peaks[-1] >> 8) + 1, false)))
    bins = np.concatenate((bins, rng.integers(*COARSE_BINS, false)))
    return joined(frames + 13, bins)


def joined(frames: np.ndarray, bins: np.ndarray) -> Peaks:
    """Frames and bins as peaks."""
    return np.unique(frames << 8 | bins.clip(COARSE_BINS[0], COARSE_BINS[1] - 1)).astype(np.uint32)


def found(sources: list[Peaks], clips: int, pairs: int, kept: float, seed: int) -> tuple[int, int, float]:
    """(copies, others) that are candidates, processor seconds."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(clips)[: 2 * pairs].reshape(pairs, 2)
    real = {int(one): sources[number] for number, (one, _) in enumerate(places)}
    real |= {int(other): damaged(sources[number], kept, rng) for number, (_, other) in enumerate(places)}
    store = PeakStore()
    for number in range(clips):
        store.append(real[number] if number in real else warped(sources[rng.integers(len(sources))], rng))
    began = time.process_time()
    some = {(first, second) for first, second, _ in candidates(store).tolist()}
    took = time.process_time() - began
    hits = some & {(int(min(pair)), int(max(pair))) for pair in places}
    return len(hits), len(some) - len(hits), took


def main() -> int:
    """A row for each size and damage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[2000, 20_000, 100_000])
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    paths = sorted((ROOT / "data" / "audio").glob("*/*.flac"))
    if not paths:
        raise SystemExit("data/audio is not there: `make run` builds it")
    step = max(1, len(paths) // SOURCES)
    sources = [peaks for path in paths[::step] if len(peaks := measure(path).peaks) > 30]
    print(f"{len(sources)} sources of {np.mean([len(one) for one in sources]):.0f} peaks")
    print(f"{'clips':>8}{'peaks kept':>12}{'copies found':>14}{'others':>8}{'CPU s':>8}")
    for clips in args.clips:
        for kept in KEPT:
            hits, others, took = found(sources, clips, args.pairs, kept, args.seed)
            print(f"{clips:>8}{kept:>12.0%}{hits / args.pairs:>14.0%}{others:>8}{took:>8.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
