"""What a verdict rests on, for a report: which run, adapter, model, data, decoding and code, and how to do it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from core.runs.judged import Judged
from core.runs.paths import RunPaths
from core.runs.scores import Score, read_score
from core.runs.snapshot import RunSnapshot
from core.scoring.evidence import Artifact
from core.scoring.units import Unit

Fact = tuple[str, str]
"""(what, its value); the value is text from files, shown as plain content."""
_UNKNOWN = "not recorded"


def origin(judged: Judged) -> tuple[Fact, ...]:
    """The facts, in the order of a report. What the files do not say is `not recorded`, never left out."""
    snapshot, paths, artifact = judged.snapshot, judged.snapshot.paths, judged.evidence.artifact
    attempt = snapshot.attempts[-1] if snapshot.attempts else None
    scores = {name: read_score(paths.tuned(name))[0] for name in ("domain", "heldout")}
    device = "" if attempt is None else f"{attempt.device}, {attempt.precision}"
    versions = {} if attempt is None else attempt.versions
    facts = [
        ("Run", f"{paths.name}, identity {snapshot.identity or _UNKNOWN}"),
        ("Attempt", str(attempt.number) if attempt is not None else ""),
        ("Adapter", _adapter(artifact)),
        ("Base model", _model(snapshot)),
        ("Manifests", _pairs(_dict(snapshot.config, "hashes"), leave_out="model")),
        ("Text normaliser", _same(scores, lambda s: _pairs(s.conditions.get("normaliser")))),
        ("Errors counted in", _counted(judged, scores)),
        ("Decoding", _same(scores, lambda s: _pairs(s.conditions.get("decode")))),
        ("Normalisation fingerprint", _same(scores, lambda s: s.fingerprint or "")),
        ("Evaluation batches", _pairs({name: s.batch_plan for name, s in scores.items() if s is not None})),
        ("Training batches", str((snapshot.result or {}).get("batch_plan") or "")),
        ("Code", _code(_dict(snapshot.config, "provenance"))),
        ("Libraries", _pairs(versions)),
        ("Trained on", device),
        ("Scored on", _same(scores, lambda s: f"{s.device}, {s.precision}")),
        *commands(snapshot, paths),
    ]
    return tuple((name, value or _UNKNOWN) for name, value in facts)


def commands(snapshot: RunSnapshot, paths: RunPaths) -> list[Fact]:
    """What makes the verdict, and the scores under it, again."""
    data = snapshot.settings.get("data")
    found = [("Verdict again", shlex.join(["lora-tui", "verify", str(paths.root)]))]
    for name in ("domain", "heldout"):
        manifest = data.get(name) if isinstance(data, dict) else None
        if isinstance(manifest, str):
            command = ["lora-cli", "evaluate", manifest, "--adapter", str(paths.best)]
            command += [] if snapshot.unit is Unit.WORD else ["--unit", snapshot.unit.value]
            found.append((f"{name.capitalize()} score again", shlex.join(command)))
    return found


def _counted(judged: Judged, scores: Mapping[str, Score | None]) -> str:
    """What is counted, and where the run's own scores count otherwise."""
    unit = judged.thresholds.unit
    others = dict.fromkeys(
        score.unit.plural for score in scores.values() if score is not None and score.unit is not unit
    )
    return unit.plural + "".join(f", again from the texts: the run was scored in {other}" for other in others)


def _adapter(artifact: Artifact | None) -> str:
    if artifact is None or (artifact.current_hash is None and artifact.best_step is None):
        return ""
    step = "" if artifact.best_step is None else f", step {artifact.best_step}"
    return f"{artifact.current_hash or _UNKNOWN}{step}"


def _dict(config: Mapping[str, Any] | None, key: str) -> Mapping[str, Any]:
    value = (config or {}).get(key)
    return value if isinstance(value, dict) else {}


def _model(snapshot: RunSnapshot) -> str:
    model = _dict(snapshot.settings, "model")
    digest = _dict(snapshot.config, "hashes").get("model")
    revision = model.get("revision")
    parts = [model.get("id"), f"revision {revision}" if revision else "no revision", f"hash {digest}"]
    return ", ".join(str(part) for part in parts) if model else ""


def _code(provenance: Mapping[str, Any]) -> str:
    version = provenance.get("code_version")
    if not version:
        return ""
    word = {True: ", with changes that were not committed", False: ", no uncommitted changes", None: ""}
    return f"{version}{word.get(provenance.get('dirty'), '')}"


def _pairs(values: object, leave_out: str = "") -> str:
    if not isinstance(values, Mapping):
        return ""
    shown = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items() if k != leave_out}
    return ", ".join(f"{key} {value}" for key, value in sorted(shown.items()))


def _same(scores: Mapping[str, Score | None], of: Any) -> str:
    """What the scores of both sets say; both, where they differ."""
    found = {name: str(of(score)) for name, score in scores.items() if score is not None}
    if len(set(found.values())) <= 1:
        return next(iter(found.values()), "")
    return "; ".join(f"{name}: {value}" for name, value in found.items())
