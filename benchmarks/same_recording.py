"""What the data audit says of copies at another speed, and of clips that only share a background.

    python -m benchmarks.same_recording [--part copies|backgrounds] [--planted 25] [--pairs 1000] [--clips N]
                                      [--seed S] [--fresh N] [FOLDER…]

FOLDERs hold train_, domain_ and heldout_manifest.jsonl; by default data/ and, where it is, ../shared/speech/digits.
--fresh takes N clips a set instead, synthesised in voices and texts that the embedded speech has nothing of. Thresholds
were chosen with seed 0 and without --fresh.

copies       --planted clips of train, changed in speed, tempo (WSOLA), pitch or otherwise, are put into domain beside
             its own lines; with all lines of all sets (or the first --clips of each), since more lines give more
             chances to be wrong. A hit is a planted line that leaks; what leaks of the other lines is false.
backgrounds  --pairs clips of train and as many of domain get one background each, the same for some of both: babble, a
             kitchen, hold music, a ring tone, a prompt, a noise file, 0 to 15 dB below the speech. None of them may
             leak. And copies of some of the clips in train, background and all, re-encoded, must be found.

PASS: 95 % of the copies within a tenth of speed, tempo or pitch, and of those over a background; no false leak.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.backgrounds import BACKGROUNDS, over
from benchmarks.planted_changes import (
    Change,
    faster,
    halves_swapped,
    opus,
    part,
    pitched,
    shifted,
    silence,
    tempo,
    vorbis,
    with_noise,
)
from benchmarks.planted_sets import ROOT, SETS, synthesised
from core.audio.samples import SAMPLE_RATE_HZ, read_clip
from core.audit.audit import Source, audit

FACTORS = (0.9, 0.93, 0.97, 0.99, 1.01, 1.03, 1.07, 1.1)
PROMISED: dict[str, Change] = {
    **{f"speed {factor:g}": lambda x, f=factor: faster(x, f) for factor in FACTORS},  # type: ignore[misc]
    **{f"tempo {factor:g}": lambda x, f=factor: tempo(x, f) for factor in FACTORS},  # type: ignore[misc]
    **{f"pitch {factor:g}": lambda x, f=factor: pitched(x, f) for factor in (0.9, 0.95, 1.05, 1.1)},  # type: ignore[misc]
    "speed 1.05, noise at 15 dB": lambda x: with_noise(faster(x, 1.05), 15),
    "speed 0.95, Opus": lambda x: opus(faster(x, 0.95)),
    "tempo 1.08, Vorbis, quieter": lambda x: vorbis(tempo(x, 1.08) * 0.3),
}
OTHERS: dict[str, Change] = {
    "backwards": lambda x: x[::-1],
    "0.5 s of silence put in": lambda x: np.concatenate([part(x, 0, 0.5), silence(0.5), part(x, 0.5, 1)]),
    "silence put in twice": lambda x: np.concatenate(
        [part(x, 0, 0.3), silence(0.3), part(x, 0.3, 0.6), silence(0.8), part(x, 0.6, 1)]
    ),
    "halves swapped": halves_swapped,
    "frequencies shifted by 20 Hz": lambda x: shifted(x, 20),
    "frequencies shifted by 60 Hz": lambda x: shifted(x, 60),
    "tempo 0.8": lambda x: tempo(x, 0.8),
    "tempo 1.25": lambda x: tempo(x, 1.25),
    "speed 1.15": lambda x: faster(x, 1.15),
    "speed 1.05, first 10 % cut": lambda x: part(faster(x, 1.05), 0.1, 1),
    "speed 1.05, first 30 % cut": lambda x: part(faster(x, 1.05), 0.3, 1),
}
LEAKS = ("leaked_audio", "leaked_near_audio")
LEAST = 0.95
BELOW_DB = (0, 3, 6, 9, 12, 15)
A_BACKGROUND = 25
"""Clips of train, and of domain, over the same one."""


def lines_of(folder: Path, name: str, most: int | None) -> list[dict[str, Any]]:
    """A set's lines, with whole paths."""
    rows = [json.loads(row) for row in (folder / f"{name}_manifest.jsonl").read_text().splitlines()[:most]]
    return [{**row, "audio_filepath": str((folder / row["audio_filepath"]).absolute())} for row in rows]


def leaking(sets: dict[str, list[dict[str, Any]]], scratch: Path) -> set[tuple[str, int]]:
    """(set, line) of what leaks."""
    sources = []
    for name, lines in sets.items():
        path = scratch / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        sources.append(Source(path, name, name))
    return {(one.where, one.line) for one in audit(sources).findings if one.kind in LEAKS}


def written(scratch: Path, samples: Any, text: str) -> dict[str, Any]:
    """A new file, and its line."""
    path = scratch / f"{len(list(scratch.iterdir()))}.wav"
    soundfile.write(path, np.asarray(samples, np.float32), SAMPLE_RATE_HZ, subtype="FLOAT")
    return {"audio_filepath": str(path), "text": text}


def copies(folder: Path, planted: int, clips: int | None, scratch: Path, seed: int = 0) -> tuple[int, int, int]:
    """(hits among what is promised, how many those are, false leaks)."""
    rng = random.Random(seed)
    names = [name for name in (*SETS, "replay") if (folder / f"{name}_manifest.jsonl").is_file()]
    sets = {name: lines_of(folder, name, clips) for name in names}
    clean = len(sets["domain"])
    places: dict[str, list[int]] = {}
    for what, change in {**PROMISED, **OTHERS}.items():
        for source in rng.sample(sets["train"], min(planted, len(sets["train"]))):
            samples = change(read_clip(Path(source["audio_filepath"])))
            sets["domain"].append(written(scratch, samples, f"planted {len(sets['domain'])}"))
            places.setdefault(what, []).append(len(sets["domain"]))
    found = leaking(sets, scratch)
    print(f"\n## {folder}: {sum(map(len, sets.values()))} lines, {len(sets['domain']) - clean} of them planted\n")
    hits = promised = 0
    for what, lines in places.items():
        some = sum(("domain", line) in found for line in lines)
        print(f"{'' if what in PROMISED else 'beyond: '}{what:<32}{some:>5} of {len(lines)}")
        if what in PROMISED:
            hits, promised = hits + some, promised + len(lines)
    false = {place for place in found if place[0] != "domain" or place[1] <= clean}
    print(f"false leaks on {sum(map(len, sets.values())) - len(sets['domain']) + clean} lines: {len(false)}")
    return hits, promised, len(false)


def backgrounds(folder: Path, pairs: int, scratch: Path, seed: int = 0) -> tuple[int, int, int]:
    """(re-encoded copies over a background that are found, how many there are, false leaks)."""
    rng, numbers = random.Random(1 + seed), np.random.default_rng(1 + seed)
    train, domain = (lines_of(folder, name, None) for name in ("train", "domain"))
    others = lines_of(folder, "heldout", None)
    crowd = [read_clip(Path(line["audio_filepath"])) for line in rng.sample(others, min(60, len(others)))]
    sets: dict[str, list[dict[str, Any]]] = {"train": [], "domain": []}
    places: dict[str, range] = {}
    sources: list[Any] = []
    kinds = list(BACKGROUNDS.items())
    number = 0
    while number < pairs:
        what, make = kinds[number // A_BACKGROUND % len(kinds)]
        count = min(A_BACKGROUND, pairs - number)
        longest = max(float(line["duration"]) for line in (*train, *domain)) + 0.1
        some = make(numbers, longest, [crowd[at] for at in rng.sample(range(len(crowd)), 8)])
        for name, lines in (("train", train), ("domain", domain)):
            for line in rng.sample(lines, count):
                mixed = over(read_clip(Path(line["audio_filepath"])), some, rng.choice(BELOW_DB))
                sets[name].append(written(scratch, mixed, line["text"]))
                if name == "train":
                    sources.append(mixed)
        places[f"{what} {number}"] = range(number + 1, number + count + 1)
        number += count
    clean = len(sets["domain"])
    planted = rng.sample(sources, min(len(sources), max(20, pairs // 10)))
    for at, samples in enumerate(planted):
        change = (vorbis, opus, lambda x: part(x, 0.2, 0.9, 77) * 0.4)[at % 3]
        sets["domain"].append(written(scratch, change(samples), f"planted {at}"))
    found = leaking(sets, scratch)
    false: dict[str, int] = {}
    for what, lines in places.items():
        kind = what.rsplit(" ", 1)[0]
        false[kind] = false.get(kind, 0) + sum(("domain", line) in found for line in lines)
    hits = sum(("domain", clean + 1 + at) in found for at in range(len(planted)))
    print(f"\n## {folder}: {clean} pairs over one background, 0 to 15 dB below the speech\n")
    print("false leaks: " + ", ".join(f"{kind} {count}" for kind, count in false.items()))
    print(f"re-encoded or cut copies of clips over a background: {hits} of {len(planted)}")
    return hits, len(planted), sum(false.values())


def fresh(folder: Path, count: int, seed: int) -> Path:
    """The folder, with sets of synthesised clips."""
    for name, lines in synthesised(folder, count, seed).items():
        (folder / f"{name}_manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """All parts, the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--part", choices=("copies", "backgrounds"), action="append")
    parser.add_argument("--planted", type=int, default=25)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--clips", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", type=int, default=0, metavar="N")
    args = parser.parse_args(arguments)
    digits = ROOT.parent / "shared" / "speech" / "digits"
    folders = args.folders or [ROOT / "data", *([digits] if digits.is_dir() else [])]
    good = True
    with tempfile.TemporaryDirectory() as made:
        for folder in [fresh(Path(made), args.fresh, args.seed)] if args.fresh else folders:
            for name in args.part or ("copies", "backgrounds"):
                with tempfile.TemporaryDirectory() as scratch:
                    if name == "copies":
                        hits, count, false = copies(folder, args.planted, args.clips, Path(scratch), args.seed)
                    else:
                        hits, count, false = backgrounds(folder, args.pairs, Path(scratch), args.seed)
                passed = hits >= LEAST * count and not false
                good &= passed
                print(
                    f"{'PASS' if passed else 'FAIL'}  {name}: {hits} of {count} found, {false} false leaks", flush=True
                )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
