"""The audit of sets that several runs share: made once for equal data, believed only where it was made.

A runs folder may have come from elsewhere, with an audit that hides what leaks. So what is shared carries the seal of
the user and machine that made it; anything else is made anew. A run's own copy of it is told by the same seal from one
that was edited after the run ended.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.runs.folder import LinkError, read_json, write_json
from core.runs.paths import RunPaths, RunsFolder
from core.system import files
from core.system.machine_key import machine_key, name_of, seal, sealed_by


def read_shared(root: Path, key: str) -> dict[str, Any] | None:
    """The audit with this key in the runs folder `root`, if this user made it on this machine."""
    document, _ = read_json(*_place(root, key))
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
            write_json(
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
