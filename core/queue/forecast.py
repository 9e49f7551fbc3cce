"""How much disk space a run will take: told from its settings before it starts, and what others of its plan took."""

from __future__ import annotations

from pathlib import Path

from core.plan.expand import interval_steps
from core.plan.schema import RunSettings
from core.runs.folder import files
from core.runs.model_files import linear_shapes
from core.runs.paths import RunPaths

_FLOAT = 4
"""Adapters and optimiser moments are kept in fp32."""
_MOMENTS = 2
"""AdamW keeps two for each weight; a checkpoint holds the weight and both."""
_SCORED = 2
"""A score document takes so many times its manifest: reference, hypothesis and counts for each utterance."""
_EVENT_BYTES = 250
"""A step's line in events.jsonl."""
ALWAYS_BYTES = 16 << 20
"""What any run may take, whatever its settings: logs, audits, files of trackers."""
MOST_BEYOND_FORECAST = 16
"""Times a forecast that runs are thought to take, where others took more: something else lies in their folders then."""
MEASURED = 8
"""Run folders that are measured to tell how much space the next one will take."""


def measured_bytes(run: RunPaths) -> int:
    """What a run takes on disk now."""
    return sum(size for _, size in files(run.root))


def forecast_bytes(settings: RunSettings) -> int:
    """Adapters of all intervals, the checkpoints kept and one being written, score documents, events.

    `settings`: resolved, with absolute paths. Of a model that is not here (a hub id) the adapters count as nothing.
    """
    train = settings.train
    intervals = len(interval_steps(train.steps, train.eval_every))
    adapter = _FLOAT * adapter_weights(settings)
    checkpoints = (1 + train.keep_checkpoints) * (1 + _MOMENTS) * adapter
    manifests = sum(_size(path) for path in (settings.data.domain, settings.data.heldout, settings.data.selection))
    scores = _SCORED * manifests * (intervals + 2)  # interval 0 and the tuned score, too
    return intervals * adapter + checkpoints + scores + _EVENT_BYTES * train.steps


def adapter_weights(settings: RunSettings) -> int:
    """Weights of the adapter: r (in + out) for each target layer, and a magnitude for each row with DoRA."""
    rank, wanted = settings.adapter.rank, set(settings.adapter.target_modules)
    found = 0
    for name, rows, columns in linear_shapes(Path(settings.model.id)):
        if name in wanted:
            found += rank * (rows + columns) + (rows if settings.adapter.method == "dora" else 0)
    return found


def _size(path: str | None) -> int:
    try:
        return 0 if path is None else Path(path).stat().st_size
    except OSError:
        return 0
