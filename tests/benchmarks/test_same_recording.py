"""Copies at another speed leak, clips over one background do not: the benchmark in short, on sounds made in code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks import same_recording
from benchmarks.planted_changes import faster, pitched, tempo
from benchmarks.same_recording import LEAST, backgrounds, copies

RATE_HZ = 16_000


def voice(seed: int, seconds: float) -> Any:
    """Something with the ups and downs of speech: gliding harmonics under moving formants, hissing, pauses."""
    rng = np.random.default_rng(seed)
    parts: list[Any] = []
    while sum(map(len, parts)) < seconds * RATE_HZ:
        count = int(rng.uniform(0.06, 0.2) * RATE_HZ)
        at = np.arange(count) / RATE_HZ
        kind = rng.random()
        if kind < 0.15:
            parts.append(rng.standard_normal(count) * 1e-3)
            continue
        if kind < 0.3:
            parts.append(np.diff(rng.standard_normal(count + 1)) * 0.05)
            continue
        pitch = rng.uniform(90, 230) + rng.uniform(-150, 150) * at
        formants = rng.uniform([250, 800, 2200], [800, 2200, 3200])
        sound = np.zeros(count)
        for harmonic in range(1, 25):
            level = sum(np.exp(-(((pitch.mean() * harmonic - f) / 120) ** 2)) for f in formants) + 0.02
            sound += level * np.sin(2 * np.pi * harmonic * np.cumsum(pitch) / RATE_HZ)
        parts.append(sound * np.hanning(count) ** 0.3 * rng.uniform(0.1, 0.4))
    return np.concatenate(parts)[: int(seconds * RATE_HZ)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sets of 30 clips that have nothing in common."""
    root = tmp_path_factory.mktemp("voices")
    seed = 0
    for name in ("train", "domain", "heldout"):
        lines = []
        for _ in range(30):
            seconds = 1.5 + seed % 7 * 0.3
            soundfile.write(root / f"{seed}.wav", voice(seed, seconds), RATE_HZ)
            lines.append({"audio_filepath": f"{seed}.wav", "text": f"words {seed}", "duration": seconds})
            seed += 1
        (root / f"{name}_manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def test_copies_at_another_speed_tempo_or_pitch_leak_and_nothing_else(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "speed 0.9": lambda x: faster(x, 0.9),
        "speed 1.03": lambda x: faster(x, 1.03),
        "speed 1.1": lambda x: faster(x, 1.1),
        "tempo 0.9": lambda x: tempo(x, 0.9),
        "tempo 1.07": lambda x: tempo(x, 1.07),
        "pitch 1.05": lambda x: pitched(x, 1.05),
    }
    monkeypatch.setattr(same_recording, "PROMISED", changes)
    monkeypatch.setattr(same_recording, "OTHERS", {})
    hits, planted, false = copies(folder, 5, None, tmp_path)
    assert planted == 30 and false == 0
    assert hits >= LEAST * planted


def test_a_shared_background_is_no_leak_and_copies_over_it_are(folder: Path, tmp_path: Path) -> None:
    hits, planted, false = backgrounds(folder, 150, tmp_path)
    assert (hits, false) == (planted, 0)
