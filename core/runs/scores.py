"""Score documents: what `evals/…/*.json` and `lora-cli evaluate --json` hold (docs/events.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.runs.files import SCORES_BYTES, read_json, stamp
from core.runs.fold import counts_of
from core.scoring.counts import ErrorCounts, total

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """One manifest scored with one model: what the verdict needs of a document."""

    counts: ErrorCounts
    step: int | None
    adapter_hash: str | None
    device: str | None
    precision: str | None
    batch_plan: str | None
    """Hash of the evaluation batches."""
    fingerprint: str | None
    """Normalisation fingerprint: audio path and text normaliser."""
    conditions: Mapping[str, Any]
    """What must be equal for two WERs to compare: manifest, normaliser and decode settings."""
    single: tuple[int, int] | None
    """(compared, differing) of the clips that were also decoded one by one."""
    hypotheses: Mapping[str, str]
    """Raw hypothesis by utterance id."""


def read_score(path: Path) -> tuple[Score | None, str | None]:
    """(the score in `path`, None), or (None, what is wrong with it: or missing). Never raises."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None, f"{path}: missing"
    except OSError as error:
        return None, f"{path}: cannot be read: {error.strerror}"
    return _read(path, stamp(status))


@lru_cache(maxsize=64)
def _read(path: Path, _stamp: tuple[int, ...]) -> tuple[Score | None, str | None]:
    # A dashboard asks again every second; the stamp makes the answer cacheable.
    document, problem = read_json(path, SCORES_BYTES)
    if document is None:
        return None, problem or f"{path}: missing"
    try:
        return score_of(document), None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return None, f"{path}: not a score document: {error}"


def score_of(document: Mapping[str, Any]) -> Score:
    """The score in a parsed document. ValueError, TypeError, KeyError or AttributeError if it is not one."""
    if document.get("schema") != SCHEMA_VERSION:
        raise ValueError(f"schema {document.get('schema')!r}, not {SCHEMA_VERSION}")
    utterances = document["utterances"]
    counts = counts_of(document["counts"])
    if not utterances or total(map(counts_of, utterances)) != counts:
        raise ValueError("the counts are not the sum over its utterances")
    hypotheses = {str(u["id"]): _text(u["hypothesis"]) for u in utterances}
    if len(hypotheses) < len(utterances):
        raise ValueError("utterances with the same id")
    single = document.get("single")
    return Score(
        counts=counts,
        step=_whole(document.get("step")),
        adapter_hash=_optional_text(document.get("adapter_hash")),
        device=_optional_text(document.get("device")),
        precision=_optional_text(document.get("precision")),
        batch_plan=_optional_text(document.get("batch_plan")),
        fingerprint=_optional_text(document.get("fingerprint")),
        conditions={name: document.get(name) for name in ("manifest_sha256", "normaliser", "decode")},
        single=None if single is None else (int(single["compared"]), int(single["differing"])),
        hypotheses=hypotheses,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


def _optional_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
