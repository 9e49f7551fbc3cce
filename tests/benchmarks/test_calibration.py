"""The calibration's short mode runs on run folders and plants the truth that it says."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.calibration import __main__ as calibration
from benchmarks.calibration import plans
from benchmarks.calibration.decisions import Decision, cells, simulate
from benchmarks.calibration.tables import failures
from benchmarks.calibration.world import WORLDS, World, manifest, populations


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
            file.write_text(json.dumps({"manifest_sha256": name, "utterances": utterances}))
    return tmp_path


@pytest.mark.parametrize("world", WORLDS, ids=[world.name for world in WORLDS])
def test_the_planted_truth_is_the_mean_of_what_is_drawn(run: Path, world: World) -> None:
    people = populations([run])[0]["domain"]
    random = np.random.default_rng(1)
    found = []
    for _ in range(60):
        drawn = manifest(world, people, -1.0, 400, random)
        found.append(100 * (drawn.after - drawn.before).sum() / drawn.words.sum())
    assert abs(np.mean(found) + 1.0) < 4 * np.std(found) / np.sqrt(60)
    named = len(set(drawn.blocks or ()))
    assert named == (world.speakers if world.named else 0)
    assert len(set(drawn.recordings or ())) < 400 or world.copies == 1


def test_the_short_mode_writes_its_tables(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "cells", lambda *args: cells([60], 2, 1))
    monkeypatch.setattr(calibration, "needs", lambda *args: [])
    output = tmp_path / "calibration.md"
    assert calibration.main([str(run), "--short", "-o", str(output)]) in (0, 1)
    text = output.read_text()
    assert f"{8 * len(WORLDS)} decisions on each criterion" in text
    for world in WORLDS:
        # Two criteria in the table of errors, at one size and at all; and in that of power.
        assert text.partition("## Plans")[0].count(f"| {world.name} |") == 6
    assert text.partition("## Plans")[2].count("| independent |") == 6


def test_plans_of_many_runs_accept_more_often_than_one_run_and_a_reserve_less(run: Path) -> None:
    outcomes = plans.simulate(populations([run]), plans.cells(25, 200), 100, 0)
    for world in plans.worlds():
        single, accepted, again = (
            sum(getattr(o, name) for o in outcomes if (o.world, o.policy) == (world.name, "point"))
            for name in ("single", "accepted", "accepted_again")
        )
        assert single < accepted and again <= accepted
    blind = [replace(one, accepted_again=True, first_failed=True) for one in outcomes]
    assert len(plans.failures(blind)) == len(plans.cells(1))


def test_a_gate_that_passes_everything_would_fail_the_calibration(run: Path) -> None:
    decisions = simulate(populations([run]), cells([60], 20, 0), 50, 0)
    blind = [Decision(d.world, d.name, d.size, d.planted, "PASS", "PASS", d.truth, False, None) for d in decisions]
    wrong = failures(blind)
    promised, simple = (sum(getattr(world, word) for world in WORLDS) for word in ("promised", "simple"))
    assert sum("wrong PASS" in text for text in wrong) == 2 * promised
    assert sum("cover" in text for text in wrong) == 2 * simple == 4


def test_a_truth_beyond_what_the_runs_did_is_refused(run: Path) -> None:
    people = populations([run])[0]["domain"]
    with pytest.raises(ValueError, match="cannot be planted"):
        manifest(WORLDS[0], people, -50.0, 100, np.random.default_rng(0))
