"""The thresholds that a run was submitted with."""

from __future__ import annotations

from dataclasses import asdict

from core.plan.schema import GateSettings
from core.runs.files import read_json
from core.runs.paths import RunPaths
from core.scoring.evidence import Thresholds
from core.scoring.verdict import thresholds_of


def recorded_thresholds(run: RunPaths) -> Thresholds:
    """Those in the run's own run.json, as far as they are numbers; else the defaults."""
    config, _ = read_json(run.config)
    gate = (config or {}).get("gate")
    known = asdict(GateSettings())
    numbers = (int, float)
    given = gate if isinstance(gate, dict) else {}
    good = {k: v for k, v in given.items() if k in known and (isinstance(v, numbers) or k == "accept_leakage")}
    try:
        return thresholds_of(good | {"slice": given.get("slice")})
    except (AttributeError, TypeError, ValueError, KeyError):
        return thresholds_of(good)
