"""The thresholds that a run was submitted with."""

from __future__ import annotations

from core.runs.documents import read_config
from core.runs.paths import RunPaths
from core.scoring.evidence import Thresholds
from core.scoring.verdict import thresholds_of


def recorded_thresholds(run: RunPaths) -> Thresholds:
    """Those in the run's own run.json; the defaults, where that cannot be used."""
    config, _ = read_config(run)
    return thresholds_of((config or {}).get("gate") or {})
