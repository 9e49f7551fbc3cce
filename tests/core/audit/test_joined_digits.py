"""Real digits: joined from the same recordings in another order they are no leak; slices of one clip are many."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from core.audio.samples import SAMPLE_RATE_HZ, read_clip
from core.audit.audit import Audit, Source, audit
from core.audit.health import health_document
from core.manifests.manifest import read_manifest

Samples = NDArray[np.float32]
FRAME = SAMPLE_RATE_HZ // 200
LEAKS = ("leaked_audio", "leaked_near_audio")


def spoken(samples: Samples, count: int) -> list[Samples]:
    """The clip cut in the middle of its `count` - 1 longest pauses: its digits."""
    loud = np.sqrt(np.mean(np.square(samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)), axis=1))
    sounds = np.flatnonzero(loud >= 0.02 * loud.max())
    pauses = np.diff(sounds)
    longest = np.sort(np.argsort(pauses, kind="stable")[len(pauses) - count + 1 :])
    cuts = [int(sounds[at] + pauses[at] // 2) * FRAME for at in longest]
    return [np.asarray(part, np.float32) for part in np.split(samples, cuts)]


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def lines_of(folder: Path, names: tuple[str, ...]) -> list[dict[str, str]]:
    return [
        {**json.loads(row), "audio_filepath": str(folder / json.loads(row)["audio_filepath"])}
        for name in names
        for row in (folder / f"{name}_manifest.jsonl").read_text().splitlines()
    ]


def digits_by_speaker(lines: list[dict[str, str]], most: int) -> dict[str, dict[str, list[Samples]]]:
    """speaker → digit → recordings of it, of at most so many clips of each; none that the cutting spoilt."""
    found: dict[str, dict[str, list[Samples]]] = defaultdict(lambda: defaultdict(list))
    clips: dict[str, int] = defaultdict(int)
    for line in lines:
        clips[line["speaker"]] += 1
        if clips[line["speaker"]] <= most:
            words = line["text"].split()
            samples = read_clip(Path(line["audio_filepath"]))
            for word, part in zip(words, spoken(samples, len(words)), strict=True):
                if len(part) >= 0.3 * SAMPLE_RATE_HZ and rms(part) >= 0.3 * rms(samples):
                    found[line["speaker"]][word].append(part)
    return found


def checked(folder: Path, sets: dict[str, list[tuple[str, list[Samples]]]]) -> Audit:
    """What is found of sets of clips, each joined from parts."""
    sources = []
    for name, clips in sets.items():
        rows = []
        for number, (text, parts) in enumerate(clips):
            soundfile.write(folder / f"{name}{number}.wav", np.concatenate(parts), SAMPLE_RATE_HZ)
            rows.append(json.dumps({"audio_filepath": f"{name}{number}.wav", "text": text}) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(rows))
        sources.append(Source(folder / f"{name}.jsonl", name, name))
    return audit(sources)


def leaks(found: Audit) -> list[tuple[str, str]]:
    return [(one.where, one.other) for one in found.findings if one.kind in LEAKS]


def test_eight_eight_two_zero_and_two_zero_four_are_no_leak(tmp_path: Path, whole_digits: Path) -> None:
    """Each speaker says both, from the very same recordings of two and zero."""
    train: list[tuple[str, list[Samples]]] = []
    domain: list[tuple[str, list[Samples]]] = []
    for digits in digits_by_speaker(lines_of(whole_digits, ("train", "heldout")), 20).values():
        for take in range(2):
            two, zero, four = (digits[word][take] for word in ("two", "zero", "four"))
            train.append(("eight eight two zero", [*digits["eight"][2 * take : 2 * take + 2], two, zero]))
            domain.append(("two zero four", [two, zero, four]))
    assert len(train) == 12
    assert leaks(checked(tmp_path, {"train": train, "domain": domain})) == []


def test_the_digits_of_a_clip_in_another_order_are_no_leak(tmp_path: Path, digits: Path) -> None:
    """Of all real speech that the repository has; and as they were they leak."""
    rng = random.Random(0)
    train, domain, kept = [], [], []
    for line in lines_of(digits, ("train", "replay", "domain", "heldout")):
        words = line["text"].split()
        parts = spoken(read_clip(Path(line["audio_filepath"])), len(words))
        if len(parts) < 4:
            continue
        order = list(range(len(parts)))
        while any(one == at for at, one in enumerate(order)) or any(b == a + 1 for a, b in pairwise(order)):
            rng.shuffle(order)  # none stays in its place, and no two stay together
        train.append((line["text"], parts))
        domain.append((" ".join(words[at] for at in order), [parts[at] for at in order]))
        kept.append((line["text"], [0.5 * part for part in parts]))
    assert len(train) >= 30
    assert leaks(checked(tmp_path, {"train": train, "domain": domain})) == []
    again = checked(tmp_path, {"train": train[:5], "domain": kept[:5]})
    assert {place for place, _ in leaks(again)} == {"domain"} and len(leaks(again)) == 5


@pytest.mark.parametrize("encoded", [False, True])
def test_slices_of_a_clip_in_training_are_counted_one_by_one(tmp_path: Path, digits: Path, encoded: bool) -> None:
    """One training clip of 100 s holds 50 heldout clips: 50 of them are affected, not one."""
    lines = lines_of(digits, ("train", "replay", "domain", "heldout"))
    long = np.concatenate([read_clip(Path(line["audio_filepath"])) for line in lines])[: 100 * SAMPLE_RATE_HZ]
    soundfile.write(tmp_path / "long.flac", long, SAMPLE_RATE_HZ)
    (tmp_path / "train.jsonl").write_text(json.dumps({"audio_filepath": "long.flac", "text": "all of it"}) + "\n")
    rows = []
    for number, part in enumerate(np.split(long, 50)):
        row = {"audio_filepath": "long.flac", "text": f"part {number}", "offset": 2 * number, "duration": 2}
        if encoded:
            soundfile.write(tmp_path / f"{number}.ogg", 0.5 * part, SAMPLE_RATE_HZ, format="OGG", subtype="VORBIS")
            row = {"audio_filepath": f"{number}.ogg", "text": f"part {number}"}
        rows.append(json.dumps(row) + "\n")
    (tmp_path / "heldout.jsonl").write_text("".join(rows))
    manifests = {name: read_manifest(tmp_path / f"{name}.jsonl") for name in ("train", "heldout")}
    [shared] = health_document(manifests, dict.fromkeys(manifests, "0"), 0.075, "key")["shared"]
    assert (shared["kind"], shared["dataset"], shared["other"]) == ("near_audio", "heldout", "train")
    assert shared["count"] == 50
