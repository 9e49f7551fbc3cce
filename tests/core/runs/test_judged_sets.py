"""How many runs of a folder were judged on the same sets."""

from __future__ import annotations

import json
import math
from pathlib import Path

from core.runs.judged_sets import JudgedFolders, JudgedSets
from core.runs.paths import RunPaths
from core.scoring.data_health import RESERVES
from core.scoring.luck import Tried

ON = {"domain": "d", "heldout": "h"}
WITH_RESERVE = ON | {name: name for name in RESERVES.values()}


def judged_run(root: Path, name: str, hashes: dict[str, str], *sets: str) -> RunPaths:
    run = RunPaths(root / name)
    for one in sets:
        run.tuned(one).parent.mkdir(parents=True, exist_ok=True)
        run.tuned(one).write_text("{}")
    run.root.mkdir(parents=True, exist_ok=True)
    run.config.write_text(json.dumps({"hashes": hashes}))
    return run


def test_runs_count_once_both_sets_are_scored_and_copies_are_no_other_chance(tmp_path: Path) -> None:
    sets = JudgedSets()
    for name, hashes, scored in (
        ("a-0000000001", ON, ("domain", "heldout")),
        ("copy-0000000001", ON, ("domain", "heldout")),
        ("b-0000000002", ON, ("domain",)),
        ("c-0000000003", {"domain": "d", "heldout": "another"}, ("domain", "heldout")),
        ("d-0000000004", {"domain": "d"}, ("domain", "heldout")),
        ("e-0000000005", ON, ("domain", "heldout")),
    ):
        sets.add(judged_run(tmp_path, name, hashes, *scored), hashes)
    assert sets.tried(ON, None) == Tried(2, None)
    assert sets.tried({"domain": "d", "heldout": "another"}, 0.95) == Tried(1, 0.95)
    assert sets.tried({"domain": "x", "heldout": "y"}, None) is None


def test_one_without_a_reserve_could_be_accepted_without(tmp_path: Path) -> None:
    sets = JudgedSets()
    run = judged_run(tmp_path, "a-0000000001", WITH_RESERVE, "domain", "heldout")
    sets.add(run, WITH_RESERVE)
    assert sets.tried(ON, None) == Tried(1, None, reserve=True)
    sets.add(judged_run(tmp_path, "b-0000000002", ON, "domain", "heldout"), ON)
    assert sets.tried(ON, None) == Tried(2, None, reserve=False)


def test_a_folder_is_looked_at_in_rounds_and_a_run_counts_when_it_has_ended(tmp_path: Path) -> None:
    runs = {
        run.name: run
        for run in (
            judged_run(tmp_path, "a-0000000001", ON, "domain", "heldout"),
            judged_run(tmp_path, "b-0000000002", ON),
        )
    }
    names = tuple(runs)
    folders = JudgedFolders()
    folders.look(names, runs.__getitem__, (), -math.inf)
    assert folders.tried(runs["a-0000000001"], None) is None, "not all were looked at"
    folders.look(names, runs.__getitem__, (), math.inf)
    assert folders.tried(runs["a-0000000001"], None) == Tried(1, None)
    judged_run(tmp_path, "b-0000000002", ON, "domain", "heldout")
    folders.look(names, runs.__getitem__, ("b-0000000002",), math.inf)
    assert folders.tried(runs["a-0000000001"], None) == Tried(2, None)
    folders.look(names[:1], runs.__getitem__, (), math.inf)
    assert folders.tried(runs["a-0000000001"], None) == Tried(1, None), "one that is gone"


def test_a_hostile_config_counts_nothing(tmp_path: Path) -> None:
    run = judged_run(tmp_path, "a-0000000001", ON, "domain", "heldout")
    run.config.write_text(json.dumps({"hashes": {"domain": 3, "heldout": None}}))
    folders = JudgedFolders()
    folders.look((run.name,), lambda name: run, (), math.inf)
    assert folders.tried(run, None) is None
