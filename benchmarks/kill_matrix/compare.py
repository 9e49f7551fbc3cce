"""What an interrupted run must share with the undisturbed one, byte for byte."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from core.runs.evidence import gather
from core.runs.paths import RunPaths
from core.runs.store import read_run
from core.scoring.verdict import judge, thresholds_of

_COLUMNS = ("step", "loss", "learning_rate", "grad_norm", "tokens", "audio_s")


def fingerprint(run: RunPaths, *, checkpoints: bool = True) -> dict[str, str]:
    """Name → SHA-256 of each thing that time may not change.

    Every file of `adapters/` and `evals/`, both links, the result, the folded history and the verdict. Left out: times,
    durations, and the cache of significance figures. `checkpoints=False` also leaves out which checkpoints were
    written: a stop on request adds one.
    """
    found: dict[str, bytes] = {}
    for folder in (run.adapters, run.evals):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("significance-"):
                found[str(path.relative_to(run.root))] = path.read_bytes()
    for link in (run.best, run.last):
        found[link.name] = str(link.readlink()).encode() if link.is_symlink() else b""
    result = json.loads(run.result.read_bytes()) if run.result.is_file() else {}
    found["result.json"] = _json({key: value for key, value in result.items() if key not in ("seconds", "events")})
    snapshot = read_run(run)
    for name in _COLUMNS:
        found[f"steps.{name}"] = getattr(snapshot.steps, name).tobytes()
    found["intervals"] = repr(snapshot.intervals).encode()
    found["candidates"] = repr(snapshot.candidates).encode()
    found["adapters.events"] = repr(snapshot.adapters).encode()
    found["notices"] = repr(snapshot.notices).encode()
    if checkpoints:
        found["checkpoints.events"] = repr(snapshot.checkpoints).encode()
    gate = (snapshot.config or {}).get("gate") or {}
    found["verdict"] = _json(asdict(judge(gather(snapshot, run).evidence, thresholds_of(gate))))
    return {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}


def differences(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """What the two do not share."""
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()
