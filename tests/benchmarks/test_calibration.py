"""The calibration's short mode runs on run folders and plants the truth that it says."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "calibration" / "calibration.py"


@pytest.fixture(scope="module")
def calibration() -> Any:
    spec = importlib.util.spec_from_file_location("calibration", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["calibration"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Score documents of a run whose domain WER fell by about 20 points and whose heldout WER rose by about 10."""
    random = np.random.default_rng(0)
    for name, change in (("domain", -2), ("heldout", 1)):
        before = random.poisson(4.0, 200)
        for step, moved in ((0, 0), (100, change)):
            after = np.maximum(before + moved, 0)
            utterances = [
                {"reference_words": 10, "substitutions": int(n), "deletions": 0, "insertions": 0} for n in after
            ]
            file = tmp_path / "evals" / f"step-{step:06d}" / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"utterances": utterances}))
    return tmp_path


@pytest.mark.parametrize("world", ["independent", "speakers", "speakers, unknown", "selection"])
def test_the_planted_truth_is_the_mean_of_what_is_drawn(calibration: Any, run: Path, world: str) -> None:
    people = calibration.population([run], "domain")
    random = np.random.default_rng(1)
    found = []
    for _ in range(60):
        drawn = calibration.manifest(world, people, -1.0, 400, random)
        found.append(100 * (drawn.after - drawn.before).sum() / drawn.words.sum())
    assert abs(np.mean(found) + 1.0) < 4 * np.std(found) / np.sqrt(60)
    assert (drawn.blocks is not None) == (world == "speakers")


def test_the_short_mode_writes_its_tables(
    calibration: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate = calibration.simulate
    monkeypatch.setattr(calibration, "simulate", lambda people, sizes, *rest: simulate(people, [60], 2, 1, 50, 0))
    output = tmp_path / "calibration.md"
    assert calibration.main([str(run), "--short", "-o", str(output)]) == 0
    text = output.read_text()
    assert "32 decisions on each criterion" in text
    for world in calibration.WORLDS:
        assert text.count(f"| {world} |") == 4


def test_a_truth_beyond_what_the_runs_did_is_refused(calibration: Any, run: Path) -> None:
    people = calibration.population([run], "domain")
    with pytest.raises(ValueError, match="cannot be planted"):
        calibration.manifest("independent", people, -50.0, 100, np.random.default_rng(0))
