"""What the small files of a run say of each other: looked at by the gate too, for it costs next to nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.plan.identity import run_identity, settings_from
from core.runs.contents import HUB, MODEL
from core.runs.hub import hub_hash
from core.runs.snapshot import RunSnapshot
from core.scoring.evidence import Artifact


def contradictions(snapshot: RunSnapshot, artifact: Artifact) -> tuple[str, ...]:
    """One sentence for each thing in run.json and result.json that the run's other files do not bear out."""
    if artifact.current_hash is None or artifact.best_step is None:
        return ()  # A missing adapter is no contradiction, and passes nowhere.
    found = list(wrong_result(snapshot, artifact, {"best_step": artifact.best_step}))
    if "model" in recorded_hashes(snapshot):
        found += wrong_identity(snapshot)
    return tuple(found)


def recorded_hashes(snapshot: RunSnapshot) -> Mapping[str, Any]:
    """The content hashes of model and manifests in run.json; none where it does not say."""
    hashes = (snapshot.config or {}).get("hashes")
    return hashes if isinstance(hashes, dict) else {}


def wrong_identity(snapshot: RunSnapshot) -> Iterator[str]:
    """The identity follows from settings and hashes, and ends the folder's name."""
    written, paths = snapshot.identity, snapshot.paths
    try:
        computed = run_identity(settings_from(snapshot.settings), recorded_hashes(snapshot))
    except (TypeError, ValueError, KeyError):
        yield f"{paths.config}: its settings are not whole, so its identity cannot be computed"
        return
    model, digest = snapshot.settings["model"], str(recorded_hashes(snapshot).get(MODEL))
    if digest.startswith(HUB) and digest != hub_hash(str(model.get("id")), model.get("revision")):
        yield f"{paths.config}: its model is {model.get('id')}@{model.get('revision')}, its hash that of {digest}"
    if computed != written:
        yield f"{paths.config}: settings and hashes give identity {computed}, not {written}"
    if not paths.name.endswith(f"-{written}"):
        yield f"{paths.root}: the folder's name does not end in the run's identity, {written}"


def wrong_result(snapshot: RunSnapshot, artifact: Artifact | None, more: Mapping[str, Any]) -> Iterator[str]:
    """result.json says what events and adapter say, and `more`."""
    result, path = snapshot.result, snapshot.paths.result
    if result is None:
        return
    wanted: dict[str, Any] = {
        "outcome": "done",
        "steps_completed": snapshot.steps_completed,
        "adapter_hash": artifact.current_hash if artifact is not None else None,
    }
    for key, value in (wanted | dict(more)).items():
        if result.get(key) != value:
            yield f"{path}: its {key} is {result.get(key)!r}, the run's other files say {value!r}"
