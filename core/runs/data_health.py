"""The audit of a run's data as a file in its folder: read, believed only if it is whole and of the run's own sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from core.runs.paths import RunPaths
from core.scoring.data_health import JUDGED, KINDS, SCHEMA_VERSION, SETS, DataHealth
from core.system.checksums import is_whole
from core.system.files import read_json

_MOST = 10**12
"""No set has so many of anything."""


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


def read_health(paths: RunPaths, config: Mapping[str, Any] | None) -> tuple[DataHealth | None, str | None]:
    """(the audit in the run's folder, None), (None, what is wrong with it), or (None, None) without one."""
    document, problem = read_json(paths.data_health)
    if document is None:
        return None, problem
    found = believed(document, audited_hashes(config))
    return (None, f"{paths.data_health}: {found}") if isinstance(found, str) else (found, None)


def audit_outdated(paths: RunPaths) -> bool:
    """Whether a run has no audit, or one that an older version made, whole."""
    document, problem = read_json(paths.data_health)
    if document is None:
        return problem is None
    schema = document.get("schema")
    return type(schema) is int and schema < SCHEMA_VERSION and is_whole(document)


def believed(document: Mapping[str, Any], hashes: Mapping[str, str]) -> DataHealth | str:
    """The audit in `document` if it is whole, unchanged and of sets with these `hashes`; else what is wrong."""
    if document.get("schema") != SCHEMA_VERSION:
        return (
            f"schema {document.get('schema')!r}, made by another version; this one reads {SCHEMA_VERSION}: "
            "`lora-cli manifest check --run RUN_DIR` makes it anew"
        )
    if not is_whole(document):
        return "edited: it does not bear out its own checksum"
    if document.get("hashes") != hashes:
        return "an audit of other data than the run's"
    try:
        return health_of(document)
    except ValueError as error:
        return f"not an audit of a run's data ({error})"


def health_of(document: Mapping[str, Any]) -> DataHealth:
    """The audit in a stored document. ValueError when it is none."""
    missing = [item.name for item in fields(DataHealth) if item.name not in document]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    try:
        found = msgspec.convert(dict(document), DataHealth)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    names = [one.name for one in found.sets]
    if not {"train", "domain", "heldout"} <= set(names) <= set(SETS) or len(names) > len(set(names)):
        raise ValueError(f"the audit of {', '.join(names) or 'nothing'} is not that of a run's sets")
    for one_set in found.sets:
        figures = [getattr(one_set, item.name) for item in fields(one_set) if item.name != "name"]
        if not all(value is None or (math.isfinite(value) and abs(value) < _MOST) for value in figures):
            raise ValueError(f"figures of {one_set.name} mean nothing")
    for one in found.shared:
        if one.kind not in KINDS or one.dataset not in JUDGED or one.other not in SETS or not 0 < one.count < _MOST:
            raise ValueError(f"{one.kind} shared by {one.dataset} and {one.other} means nothing")
    for copies in found.copies:
        if copies.dataset not in JUDGED or copies.other not in JUDGED or not 0 < copies.count < _MOST:
            raise ValueError(f"copies of {copies.other} in {copies.dataset} mean nothing")
    clips = {one.name: one.clips for one in found.sets}
    for alike in found.together:
        places = [place for group in alike.groups for place in group]
        if alike.dataset not in JUDGED or len(places) > len(set(places)):
            raise ValueError(f"utterances of {alike.dataset} are in two groups")
        if not all(0 <= place < clips.get(alike.dataset, 0) for place in places):
            raise ValueError(f"{alike.dataset} has no such utterances")
    return found
