"""The audit of a run's data as a file: read, and believed only if it is whole and of the run's own sets.

Runs of equal data share one audit. A runs folder may have come from elsewhere, with an audit that hides what leaks. So
what is shared carries the seal of the user and machine that made it; anything else is made anew. A run's own copy of it
is told by the same seal from one that was edited after the run ended.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from core.runs import folder
from core.runs.folder import LinkError
from core.runs.paths import RunPaths, RunsFolder
from core.sanitise import quoted
from core.scoring.data_health import JUDGED, KINDS, SCHEMA_VERSION, SETS, DataHealth
from core.system import files
from core.system.files import read_json
from core.system.seals import is_whole, machine_key, name_of, seal, sealed_by

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
            f"schema {quoted(document.get('schema'))}, made by another version; this one reads {SCHEMA_VERSION}: "
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


def read_shared(root: Path, key: str) -> dict[str, Any] | None:
    """The audit with this key in the runs folder `root`, if this user made it on this machine."""
    document, _ = folder.read_json(*_place(root, key))
    audit, seals = ((document or {}).get(name) for name in ("audit", "seals"))
    secret = machine_key()
    if secret is None or not isinstance(audit, dict) or not isinstance(seals, dict):
        return None
    return audit if sealed_by(secret, seals, _bytes(audit)) else None


def write_shared(root: Path, key: str, audit: Mapping[str, Any]) -> None:
    """Keep the audit for other runs of the same data.

    Nothing is kept where there is no secret to seal it with, or where a link would lead out of the runs folder.
    """
    secret = machine_key()
    if secret is not None:
        content = json.loads(json.dumps(audit))
        with contextlib.suppress(LinkError):
            folder.write_json(
                *_place(root, key), {"audit": content, "seals": {name_of(secret): seal(secret, _bytes(content))}}
            )


def made_here(paths: RunPaths) -> bool:
    """Whether the audit in the run's folder is one that this user made on this machine, be it after the run ended."""
    own, _ = files.read_json(paths.data_health)
    if own is None or not isinstance(key := own.get("key"), str) or not key.isalnum():
        return False
    return read_shared(paths.root.parent, key) == own


def _place(root: Path, key: str) -> tuple[Path, Path]:
    """The real runs folder, which may be a link to another disk, and the file in it."""
    real = root.resolve()
    return real, RunsFolder(real, real).data_health(key)


def _bytes(audit: Mapping[str, Any]) -> bytes:
    return b"audit\n" + json.dumps(audit, sort_keys=True).encode()
