"""Planted defects in copies of real sets: hits, misses and false alarms of `lora-cli manifest check`.

    PYTHONPATH=. python benchmarks/planted_defects.py FOLDER [--clips N] [--planted K]

FOLDER holds train_, domain_ and heldout_manifest.jsonl. N clips of each are copied to a temporary folder; K defects of
every kind are planted as further lines of domain, made from clips of train; then the three sets are checked. A hit is
the planted line found under its kind; a false alarm is any such finding on a line that nobody planted.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from core.scoring.counts import ErrorCounts
from core.scoring.position import ScoredClip, position_report
from core.speech.audio import SAMPLE_RATE_HZ, read_clip
from core.speech.audit import Source, audit

SETS = ("train", "domain", "heldout")
Change = Callable[[Any], Any]


def encoded(samples: Any, **options: Any) -> Any:
    """Through a codec and back."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE_HZ, **options)
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


def vorbis(samples: Any) -> Any:
    """Ogg Vorbis of low quality."""
    return encoded(samples, format="OGG", subtype="VORBIS", compression_level=0.9)


def with_noise(samples: Any, snr_db: float) -> Any:
    """White noise under the clip."""
    level = np.sqrt(np.mean(samples**2)) * 10 ** (-snr_db / 20)
    return samples + np.random.default_rng(0).standard_normal(len(samples)) * level


AUDIO: dict[str, tuple[str, Change]] = {
    "same samples, other file": ("leaked_audio", lambda x: x),
    "re-encoded: Vorbis q 0.1": ("leaked_near_audio", vorbis),
    "re-encoded: MP3": ("leaked_near_audio", lambda x: encoded(x, format="MP3", compression_level=0.7)),
    "12 dB quieter": ("leaked_near_audio", lambda x: x * 0.25),
    "20 dB louder, clipped": ("leaked_near_audio", lambda x: np.clip(x * 10, -1, 1)),
    "through 8 kHz": (
        "leaked_near_audio",
        lambda x: soxr.resample(soxr.resample(x, SAMPLE_RATE_HZ, 8000), 8000, SAMPLE_RATE_HZ),
    ),
    "first 30 % cut": ("leaked_near_audio", lambda x: x[int(len(x) * 0.3) + 37 :]),
    "last 40 % cut": ("leaked_near_audio", lambda x: x[: int(len(x) * 0.6)]),
    "middle half only": ("leaked_near_audio", lambda x: x[int(len(x) * 0.25) + 111 : int(len(x) * 0.75)]),
    "noise at 20 dB": ("leaked_near_audio", lambda x: with_noise(x, 20)),
    "cut, louder and Vorbis": (
        "leaked_near_audio",
        lambda x: vorbis(np.clip(x[int(len(x) * 0.2) + 100 :] * 1.7, -1, 1)),
    ),
    "clipped": ("clipped", lambda x: np.clip(x / np.abs(x).max() * 4, -1, 1)),
    "silence": ("silent", lambda x: x * 1e-6),
    "DC offset": ("dc", lambda x: x * 0.3 + 0.1),
}


def reworded(text: str, rng: random.Random) -> str:
    """The same content words in another order, among other small words."""
    words = text.split()
    middle = len(words) // 2
    return " ".join([rng.choice(("well", "so", "then")), *words[middle:], "and", *words[:middle]])


def main() -> None:
    """Plant, check, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--planted", type=int, default=10)
    args = parser.parse_args()
    rng = random.Random(0)
    lines: dict[str, list[dict[str, Any]]] = {}
    for name in SETS:
        rows = (args.folder / f"{name}_manifest.jsonl").read_text().splitlines()[: args.clips]
        lines[name] = [json.loads(row) for row in rows]
        for line in lines[name]:
            line["audio_filepath"] = str(args.folder / line["audio_filepath"])
    clean = {name: len(rows) for name, rows in lines.items()}
    planted: dict[tuple[str, str], list[int]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for kind, (expected, change) in AUDIO.items():
            for source in rng.sample(lines["train"], args.planted):
                samples = change(read_clip(Path(source["audio_filepath"])))
                path = Path(scratch) / f"{len(lines['domain'])}.wav"
                soundfile.write(path, np.asarray(samples, np.float32), SAMPLE_RATE_HZ, subtype="FLOAT")
                line = {"audio_filepath": str(path), "text": f"planted line {len(lines['domain'])}"}
                lines["domain"].append(line)
                planted.setdefault((kind, expected), []).append(len(lines["domain"]))
        sources = rng.sample([line for line in lines["train"] if len(line["text"].split()) > 4], 2 * args.planted)
        hosts = rng.sample(range(clean["domain"]), 2 * args.planted)
        for host, source in zip(hosts[: args.planted], sources, strict=False):
            lines["domain"][host]["text"] = source["text"].upper() + "!"
            planted.setdefault(("same text, other spelling", "leaked_text"), []).append(host + 1)
        for host, source in zip(hosts[args.planted :], sources[args.planted :], strict=False):
            lines["domain"][host]["text"] = reworded(source["text"], rng)
            planted.setdefault(("reworded text", "leaked_near_text"), []).append(host + 1)
        found = []
        for name in SETS:
            path = Path(scratch) / f"{name}.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines[name]))
            found.append(Source(path, name, name))
        result = audit(found, workers=1)
    at = {(f.kind, f.where, f.line) for f in result.findings}
    print(f"{'planted':<28}{'kind':<20}{'hits':>5}{'misses':>8}")
    for (kind, expected), places in planted.items():
        hits = sum((expected, "domain", line) in at for line in places)
        print(f"{kind:<28}{expected:<20}{hits:>5}{len(places) - hits:>8}")
    touched = {line for places in planted.values() for line in places}
    print("\nfindings on lines that nobody planted:")
    for kind in sorted({expected for _, expected in planted}):
        alarms = [f for f in result.findings if f.kind == kind and not (f.where == "domain" and f.line in touched)]
        print(f"  {kind:<20}{len(alarms):>5} of {sum(clean.values())} lines")
    position_table()


def position_table() -> None:
    """50 easy clips at the end of 200, and the same clips shuffled, over 100 draws each."""
    found = {"easy clips last": 0, "shuffled": 0}
    for draw in range(100):
        rng = random.Random(draw)
        rates = [0.15] * 150 + [0.01] * 50
        for order in found:
            if order == "shuffled":
                rng.shuffle(rates)
            errors = [sum(rng.random() < rate for _ in range(10)) for rate in rates]
            clips = [ScoredClip(ErrorCounts(n, 0, 0, 10), 1.0) for n in errors]
            found[order] += position_report(clips, shuffles=500).position_effect
    print("\nposition effect found in 100 draws of 200 clips: " + ", ".join(f"{k} {v}" for k, v in found.items()))


if __name__ == "__main__":
    sys.exit(main())
