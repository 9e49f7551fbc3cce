"""The audit of a run's data as a file in its folder: read, believed only if it is whole and of the run's own sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from core.runs.files import read_json
from core.runs.paths import RunPaths
from core.scoring.data_health import SETS, DataHealth, health_of

SCHEMA_VERSION = 1


def audited_hashes(config: Mapping[str, Any] | None) -> dict[str, str]:
    """The content hashes of the sets that a run trains and is judged on, by its run.json. None of `model`."""
    hashes = (config or {}).get("hashes")
    settings = (config or {}).get("settings")
    train = settings.get("train") if isinstance(settings, dict) else None
    share = train.get("replay_share") if isinstance(train, dict) else None
    found = {name: str(hashes[name]) for name in SETS if name in hashes} if isinstance(hashes, dict) else {}
    if share == 0:
        found.pop("replay", None)
    return found


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with a checksum over it."""
    return {**content, "checksum": _checksum(content)}


def is_whole(document: Mapping[str, Any]) -> bool:
    """Whether a sealed document bears out its own checksum."""
    return document.get("checksum") == _checksum({key: value for key, value in document.items() if key != "checksum"})


def read_health(paths: RunPaths, config: Mapping[str, Any] | None) -> tuple[DataHealth | None, str | None]:
    """(the audit in the run's folder, None), (None, what is wrong with it), or (None, None) without one."""
    document, problem = read_json(paths.data_health)
    if document is None:
        return None, problem
    found = believed(document, audited_hashes(config))
    return (None, f"{paths.data_health}: {found}") if isinstance(found, str) else (found, None)


def believed(document: Mapping[str, Any], hashes: Mapping[str, str]) -> DataHealth | str:
    """The audit in `document` if it is whole, unchanged and of sets with these `hashes`; else what is wrong."""
    if document.get("schema") != SCHEMA_VERSION:
        return f"schema {document.get('schema')!r}; this version reads {SCHEMA_VERSION}"
    if not is_whole(document):
        return "edited: it does not bear out its own checksum"
    if document.get("hashes") != hashes:
        return "an audit of other data than the run's"
    try:
        return health_of(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"not an audit of a run's data ({error})"


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
