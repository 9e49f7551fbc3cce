"""`run.json`: what the queue writes into a run folder before any trainer starts there."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict
from typing import Any

from core.plan.schema import Plan, Row
from core.runs.contents import HUB, MODEL
from core.runs.documents import read_config
from core.runs.folder import write_json
from core.runs.hub import DEFAULT_REVISION
from core.runs.paths import RunPaths
from core.runs.resolve import Resolved
from core.system.files import exists
from core.version import this_version

RUN_SCHEMA = 1


def write_run(run: RunPaths, row: Row, resolved: Resolved, plan: Plan) -> None:
    """Write the run's `run.json`, or bring the paths of an existing one up to date: the content is the same.

    OSError (disk full) leaves nothing half-written.
    """
    config: dict[str, Any] = {
        "schema": RUN_SCHEMA,
        "experiment": row.experiment,
        "title": row.title,
        "identity": resolved.identity,
        "settings": asdict(resolved.settings),
        "hashes": resolved.hashes,
        "lines": resolved.lines,
        "plan": plan.path,
        "gate": asdict(plan.gate),
    }
    existing, _ = read_config(run)
    if existing is None:
        write_json(run.root, run.config, config | {"provenance": provenance() | _named_revision(row, resolved)})
        return
    # Made earlier, by whichever experiment: it keeps its name and gate. Only what may have moved is renewed; speakers
    # and fields of the sets, too, while nothing was scored by them.
    renewed = ("settings", "plan") if exists(run.events) else ("settings", "plan", "lines")
    moved = {key: config[key] for key in renewed}
    as_read = json.loads(json.dumps(moved))  # tuples are lists there
    if as_read != {key: existing.get(key) for key in moved}:
        write_json(run.root, run.config, existing | moved)


def _named_revision(row: Row, resolved: Resolved) -> dict[str, Any]:
    """Of a hub model: the revision that the plan named. The commit that it was then is among the settings."""
    if not resolved.hashes[MODEL].startswith(HUB):
        return {}
    return {"model_revision": row.settings.model.revision or DEFAULT_REVISION}


def provenance() -> dict[str, Any]:
    """`code_version` (the package's, with the commit in a checkout), `dirty`, `created`, `python`."""
    version = this_version()
    return {
        "code_version": version.code,
        "dirty": version.changed,
        "created": round(time.time(), 3),
        "python": platform.python_version(),
    }
