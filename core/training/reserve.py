"""The last stage of a run with a reserve: an accepted run draws a part of it, on which two other processes score it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from core.manifests.hashing import HashCache
from core.plan.schema import RunSettings
from core.runs.folder import write_json
from core.runs.judged import judged, recorded_thresholds
from core.runs.paths import RunPaths, RunsFolder
from core.runs.reserve import WHO, Drawn, draw, drawn_sets
from core.runs.store import read_run
from core.scoring.data_health import RESERVES
from core.scoring.evidence import State

Evaluate = Callable[[str, str, Path, list[str]], None]
"""(name of the set, its manifest, where the score goes, further options): `lora-cli evaluate` as a process."""


def is_accepted(paths: RunPaths, config: dict[str, Any]) -> bool:
    """Whether the run meets all criteria on its ordinary sets, by the gate that it was made with."""
    criteria = judged(read_run(paths), recorded_thresholds(config)).verdict.criteria
    return all(one.state is State.PASS for one in criteria if one.name not in ("reserve", "runtime"))


def score_reserve(
    paths: RunPaths, runs: RunsFolder, settings: RunSettings, config: dict[str, Any], evaluate: Evaluate
) -> None:
    """Nothing for a run without a reserve, or one that is not accepted: it must not see it."""
    data = settings.data
    if data.reserve_domain is None or data.reserve_heldout is None or not is_accepted(paths, config):
        return
    hashes = {name: str(digest) for name, digest in config["hashes"].items()}
    part = draw(runs, paths, hashes, data.reserve_parts)
    sets = {} if part is None else drawn_sets(data, hashes, part, HashCache(runs.hash_cache))
    drawn = Drawn(part, data.reserve_parts, sets)
    write_json(paths.root, paths.reserve_drawn, msgspec.to_builtins(drawn))
    if part is None:
        return
    for name, role in RESERVES.items():
        for who in WHO:
            options = ["--part", f"{part}/{data.reserve_parts}", *(["--base"] if who == "base" else [])]
            evaluate(role, str(getattr(data, role)), paths.reserve(name, who), options)
