"""The base model's score on a manifest: computed once for a fingerprint, shared by every run that has it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.runs.files import SCORES_BYTES, read_json, write_json
from core.runs.locks import held
from core.runs.paths import RunsFolder
from core.training.evaluation import SCORE_SCHEMA, normalisation_fingerprint
from core.training.model import SpeechModel


def baseline_fingerprint(
    speech: SpeechModel,
    *,
    model_hash: str,
    manifest_sha256: str,
    target_rms: float,
    normaliser: str,
    batch_seconds: float,
) -> str:
    """16 hex digits over all that can change the base model's score on a manifest (DESIGN §5, Baseline)."""
    facts = {
        "schema": SCORE_SCHEMA,
        "model": model_hash,
        "manifest": manifest_sha256,
        "normalisation": normalisation_fingerprint(target_rms, normaliser),
        "tokens_per_second": speech.limits.tokens_per_second,
        "max_tokens": speech.limits.max_tokens,
        "max_seconds": speech.limits.max_seconds,
        "batch_seconds": batch_seconds,
        "device": speech.device.type,
        "precision": speech.precision,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def shared_baseline(
    folder: RunsFolder, fingerprint: str, compute: Callable[[], dict[str, Any]], waiting: Callable[[], None]
) -> dict[str, Any]:
    """The stored score document, or `compute()`'s, stored for the others.

    `waiting` is called while another process computes the same baseline; it may raise to give up.
    """
    path = folder.baseline_scores(fingerprint)
    stored = _read(path)
    if stored is not None:
        return stored
    with held(folder.baseline_lock(fingerprint), waiting):
        stored = _read(path)
        if stored is None:
            stored = compute()
            write_json(path, stored)
    return stored


def _read(path: Path) -> dict[str, Any] | None:
    document, _ = read_json(path, SCORES_BYTES)
    return document if document is not None and "counts" in document else None
