"""Score documents, adapter facts and results as the trainer writes them, for runs that are made without a model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.plan.schema import threads_of_each
from core.runs.events import Final
from core.runs.folder import inventory, sha256_of, sha256_of_start
from core.runs.paths import RunPaths
from core.scoring.text import normaliser
from core.system.files import write_json

COUNTS = ("substitutions", "deletions", "insertions", "reference_words")


def counts(substitutions: int, words: int) -> dict[str, int]:
    return {"substitutions": substitutions, "deletions": 0, "insertions": 0, "reference_words": words}


def utterance(identifier: str, reference: str, hypothesis: str, errors: dict[str, int], **more: Any) -> dict[str, Any]:
    """An entry of a score document; `more` replaces what is said of its clip."""
    clip: dict[str, Any] = {
        "seconds": 1.0,
        "offset": 0.0,
        "duration": None,
        "channel": None,
        "speaker": None,
        "fields": {},
    }
    return {"id": identifier, "reference": reference, "hypothesis": hypothesis} | clip | errors | more


def score_document(utterances: Iterable[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A whole score document; its counts are the sum over its utterances."""
    listed = list(utterances)
    document = {
        "schema": 2,
        "dataset": "domain",
        "manifest": "/data/manifest.jsonl",
        "manifest_sha256": "ab" * 32,
        "step": None,
        "normaliser": {"name": "basic", "version": normaliser("basic").version},
        "fingerprint": "fake",
        "device": "cpu",
        "precision": "fp32",
        "batch_plan": "fake",
        "decode": {"method": "greedy", "tokens_per_second": 6.5, "max_tokens": 194, "lifted": []},
        "adapter_hash": None,
        "loss": 1.0,
        "unit": "word",
        "counts": {name: sum(u[name] for u in listed) for name in COUNTS},
        "single": None,
        "silent": [],
        "cut": [],
        "capped": [],
        "clipped_samples": 0,
        "utterances": listed,
    }
    return document | more


def adapter_facts(step: int, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The content of `reproduce.json` of a run with this run.json, as far as that says."""
    settings, hashes = config["settings"], config.get("hashes") or {}
    model, data, train = (settings.get(name) or {} for name in ("model", "data", "train"))
    facts = {
        "hash_version": 2,
        "step": step,
        "identity": config["identity"],
        "model": model.get("id") or "model",
        "revision": model.get("revision"),
        "model_hash": hashes.get("model", "ab" * 32),
        "target_rms": data.get("target_rms", 0.075),
        "normaliser": data.get("normaliser", "basic"),
        "fingerprint": "fake",
        "tokens_per_second": 6.5,
        "eval_batch_seconds": train.get("eval_batch_seconds", 120.0),
        "precision": "fp32",
        "threads": threads_of_each(train.get("threads", 1), train.get("devices", 1)),
    }
    return facts | more


def write_result(paths: RunPaths, **facts: Any) -> str:
    """Write result.json over the files as they are now; its hash, for the final event."""
    size = paths.events.stat().st_size
    config = json.loads(paths.config.read_text())
    listed = {
        "lines": config.get("lines"),
        "files": inventory(paths),
        "events": {"bytes": size, "sha256": sha256_of_start(paths.events, size)},
    }
    write_json(paths.result, {"schema": 1, "outcome": "done", "guardrail_kept": True} | facts | listed)
    return sha256_of(paths.result)


def edit(path: Path, change: Any) -> None:
    """Change a JSON document in place."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def made_consistent(paths: RunPaths) -> None:
    """As somebody would who edits a file and then all that tells of it: list, events' hash, final event."""
    lines = [json.loads(line) for line in paths.events.read_text().splitlines()]
    kept = [line for line in lines if line["event"] != Final.NAME or line["outcome"] != "done"]
    paths.events.write_text("".join(json.dumps(line) + "\n" for line in kept))
    result = json.loads(paths.result.read_text())
    digest = write_result(paths, **{k: v for k, v in result.items() if k not in ("lines", "files", "events")})
    with paths.events.open("a") as file:
        for line in lines:
            if line not in kept:
                file.write(json.dumps(line | {"result": digest}) + "\n")
