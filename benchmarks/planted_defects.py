"""Planted defects in copies of real sets: hits, misses and false alarms of `lora-cli manifest check`.

    python -m benchmarks.planted_defects [--clips N] [--planted K] [--seed S] [--scores HARD.json EASY.json] [FOLDER…]

FOLDERs hold train_, domain_ and heldout_manifest.jsonl; by default data/ and, where it is, ../shared/speech/digits; a
third material is synthesised for it, in voices and texts that the embedded speech has nothing of. N clips of each
set are copied; K defects of every kind are planted as further lines of domain, made from clips of train; then the three
sets are checked. A hit is the planted line found under its kind; a false alarm is a leak on a line that nobody planted.
--seed draws other clips and voices, and changes other ones of them: thresholds were chosen with seed 0.
`--scores` takes two score documents of a run (evals/step-000000/domain.json, heldout.json): 150 clips of the hard set
and 50 of the easy one after them, drawn 100 times. About a minute on two quiet cores.

PASS: of what docs/data.md says is recognised, 95 % of the changes that thresholds were chosen on, 90 % of the held-out
ones, all defects of single lines, and false leaks on at most 0.5 % of the clean lines, and none in the whole sets.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.planted_changes import BEYOND, HELD_OUT, HELD_OUT_TEXTS, TUNED, TUNED_TEXTS
from benchmarks.planted_sets import ROOT, SETS, Planted, copied, plant_lines, synthesised
from core.audio.samples import read_clip
from core.audit.audit import Audit, Source, audit
from core.audit.line_checks import TextCheck
from core.scoring.position import ScoredClip, position_report
from core.scoring.units import ErrorCounts

GROUPS = ("audio, tuned", "audio, held out", "audio, beyond", "text, tuned", "text, held out", "single lines")
LEAKS = ("leaked_audio", "leaked_near_audio", "leaked_text", "leaked_near_text")
MOST = {"clean": 0.005, "clean, whole sets": 0.0}
LEAST = {"audio, tuned": 0.95, "audio, held out": 0.9, "single lines": 1.0}


def plant_leaks(sets: Planted, count: int, rng: random.Random) -> None:
    """`count` clips of train under every change, and texts of train reworded."""
    train = sets.lines["train"]
    sources = rng.sample(train, min(count, len(train)))
    for source in sources:
        line = sets.clip(read_clip(Path(source["audio_filepath"])), f"planted {len(sets.lines['domain'])}")
        sets.plant("audio, tuned", "same samples, other file", "leaked_audio", line)
    for group, changes in (("audio, tuned", TUNED), ("audio, held out", HELD_OUT)):
        for what, change in changes.items():
            for source in rng.sample(train, min(count, len(train))):
                samples = change(read_clip(Path(source["audio_filepath"])))
                line = sets.clip(samples, f"planted {len(sets.lines['domain'])}")
                sets.plant("audio, beyond" if what in BEYOND else group, what, "leaked_near_audio", line)
    rich = [line for line in train if len(line["text"].split()) > 4]
    hosts = iter(rng.sample(range(sets.clean["domain"]), sets.clean["domain"]))
    for group, rewordings in (("text, tuned", TUNED_TEXTS), ("text, held out", HELD_OUT_TEXTS)):
        for what, change in rewordings.items():
            for source in rng.sample(rich, min(count, len(rich))):
                host = next(hosts, None)
                if host is None:
                    break
                sets.lines["domain"][host]["text"] = change(source["text"], rng)
                sets.places.setdefault((group, what, "leaked_near_text"), []).append(host + 1)


def checked(sets: Planted) -> Audit:
    """What `manifest check --model data/base_model` finds."""
    sources = []
    for name in SETS:
        path = sets.scratch / f"{name}.jsonl"
        rows = (line if isinstance(line, str) else json.dumps(line) for line in sets.lines[name])
        path.write_text("".join(f"{row}\n" for row in rows))
        sources.append(Source(path, name, name))
    return audit(sources, text_check=TextCheck(ROOT / "data" / "base_model"))


def material(
    title: str, lines: dict[str, list[Any]], planted: int, scratch: Path, seed: int
) -> Iterator[tuple[str, int, int]]:
    """Plant, check, print the table; (group, hits, planted) of each row, false alarms as group `clean`."""
    rng = random.Random(seed)
    sets = Planted(scratch, lines, {name: len(rows) for name, rows in lines.items()})
    clean_alarms = [f for f in checked(sets).findings if f.kind in LEAKS]
    total = sum(sets.clean.values())
    plant_leaks(sets, planted, rng)
    plant_lines(sets, planted, rng)
    result = checked(sets)
    at = {(f.kind, f.where, f.line) for f in result.findings}
    whole = {f.kind for f in result.findings if f.where == "domain" and not f.line}
    print(f"\n## {title}: {', '.join(f'{count} {name}' for name, count in sets.clean.items())}\n")
    print(f"{'':<16}{'planted':<34}{'kind':<20}{'hits':>5}{'misses':>8}")
    for group in GROUPS:
        for (where, what, kind), places in sets.places.items():
            if where == group:
                # Either kind of leak names the line rightly: a polarity or a 16-bit copy may keep its samples.
                kinds = ("leaked_audio", "leaked_near_audio") if "audio" in group else (kind,)
                hits = sum(kind in whole or any((one, "domain", line) in at for one in kinds) for line in places)
                print(f"{group:<16}{what:<34}{kind:<20}{hits:>5}{len(places) - hits:>8}")
                yield group, hits, len(places)
    touched = {line for places in sets.places.values() for line in places}
    print(f"false alarms on {total} clean lines, nothing planted: {_counted(clean_alarms)}")
    untouched = [f for f in result.findings if f.kind in LEAKS and (f.where, f.line in touched) != ("domain", True)]
    print(f"on lines that nobody planted, beside the planted ones: {_counted(untouched)}")
    yield "clean", sum(f.kind in LEAKS[:2] for f in clean_alarms), total


def whole_sets(folder: Path) -> tuple[str, int, int]:
    """A row of leaks of a recording in all the sets of a folder, in which there is none: 150 clips have few pairs."""
    names = [name for name in (*SETS, "replay") if (folder / f"{name}_manifest.jsonl").is_file()]
    result = audit([Source(folder / f"{name}_manifest.jsonl", name, name) for name in names])
    found = [f for f in result.findings if f.kind in LEAKS[:2]]
    total = sum(summary.lines for summary in result.summaries)
    print(f"false leaks of a recording in the whole sets, {total} lines: {_counted(found)}")
    return "clean, whole sets", len(found), total


def _counted(found: list[Any]) -> str:
    return ", ".join(f"{sum(f.kind == kind for f in found)} {kind}" for kind in LEAKS)


def position_table(scores: list[Path] | None) -> None:
    """50 easy clips at the end of 200, and the same clips shuffled, over 100 draws each."""
    pools = {"simulated, 15 % and 1 % of 10 words": (None, None)}
    if scores:
        pools["scored clips of a real run"] = tuple(json.loads(path.read_text())["utterances"] for path in scores)  # type: ignore[assignment]
    print()
    for title, (hard, easy) in pools.items():
        found = {"easy clips last": 0, "shuffled": 0}
        for draw in range(100):
            rng = random.Random(draw)
            if hard is None or easy is None:
                counts = [
                    ErrorCounts(sum(rng.random() < rate for _ in range(10)), 0, 0, 10)
                    for rate in [0.15] * 150 + [0.01] * 50
                ]
            else:
                counts = [
                    ErrorCounts(u["substitutions"], u["deletions"], u["insertions"], u["reference_words"])
                    for u in rng.sample(hard, 150) + rng.sample(easy, 50)
                ]
            for order in found:
                if order == "shuffled":
                    rng.shuffle(counts)
                found[order] += position_report([ScoredClip(c, 1.0) for c in counts], shuffles=500).position_effect
        print(f"position effect found in 100 draws of 200 clips ({title}): {found}")


def main() -> int:
    """All materials, the position test, the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--planted", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scores", nargs=2, type=Path, metavar=("HARD", "EASY"))
    args = parser.parse_args()
    digits = ROOT.parent / "shared" / "speech" / "digits"
    folders = args.folders or [ROOT / "data", *([digits] if digits.is_dir() else [])]
    hits: dict[str, list[tuple[int, int]]] = {}
    for folder in [*folders, None]:
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name) / "planted"
            scratch.mkdir()
            lines = copied(folder, args.clips, args.seed) if folder else synthesised(Path(name), args.clips, args.seed)
            title = str(folder) if folder else "freshly synthesised, other voices and texts"
            for group, found, planted in material(title, lines, args.planted, scratch, args.seed):
                hits.setdefault(group, []).append((found, planted))
        if folder:
            group, found, total = whole_sets(folder)
            hits.setdefault(group, []).append((found, total))
    position_table(args.scores)
    print()
    good = True
    for group, pairs in hits.items():
        share = sum(found for found, _ in pairs) / sum(planted for _, planted in pairs)
        passed = share <= MOST[group] if group in MOST else share >= LEAST.get(group, 0)
        good &= passed
        least = (
            f"at most {MOST[group]:.1%}"
            if group in MOST
            else f"at least {LEAST[group]:.0%}"
            if group in LEAST
            else "no limit"
        )
        by = f"{sum(found for found, _ in pairs)} of {sum(planted for _, planted in pairs)}"
        print(f"{'PASS' if passed else 'FAIL'}  {group:<17} {share:7.1%} ({by}), {least}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
