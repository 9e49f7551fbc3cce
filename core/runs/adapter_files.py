"""The files of an adapter: the hash that ties a score to it, and the facts that its WER depends on besides its weights.

The facts are in `reproduce.json` in the adapter's folder, and the hash covers them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from core.errors import ModelError, RunFolderError
from core.plan.schema import MOST_BEAMS
from core.runs.paths import ADAPTER_FACTS
from core.sanitise import quoted
from core.scoring.text import NAMES
from core.system.files import POINTER, is_pointer, open_regular, read_json

LEAST_TOKENS_PER_SECOND = 1.0
"""The slowest speech takes more: with fewer a transcript would be cut, whatever was said."""
_PRECISIONS = ("fp32", "bf16")
_LARGEST_RMS = 1.0
LONGEST_AUDIO_CONTEXT = 30.0
"""Seconds: the whole window of a Whisper."""


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What reproduces an adapter's WER. No times and no paths of runs, so that equal runs write equal bytes."""

    step: int
    identity: str
    model: str
    revision: str | None
    model_hash: str
    target_rms: float
    normaliser: str
    fingerprint: str
    tokens_per_second: float
    eval_batch_seconds: float
    precision: str
    threads: int
    lifted: tuple[int, ...] = ()
    """Tokens that the model's generation config bans and that training texts have: the adapter may write them."""
    language: str | None = None
    task: str | None = None
    prompt: tuple[int, ...] = ()
    targets: int = 1
    """As in `core.runs.scores.Decoding`."""
    beams: int = 1
    """Of the beam search that its WER was decoded with; 1: greedy."""
    audio_context: float | None = None
    """As in `core.runs.scores.Decoding`."""
    made_of: tuple[int, ...] = ()
    """Steps of the intervals whose weights it is the average of; empty: it is its interval as training left it."""
    way: float = 1.0
    """How much of the way from the base model to that it goes."""
    hash_version: int = 2
    """Of the adapter's hash: 1 covers weights and configuration, 2 these facts too."""


_LATER: dict[str, Any] = {"language": None, "task": None, "prompt": (), "targets": 1, "beams": 1}
_LATER |= {"audio_context": None, "made_of": (), "way": 1.0}
"""Facts that earlier adapters do not have: not written at these values, so that equal adapters stay equal bytes."""


def plain_facts(facts: AdapterFacts) -> dict[str, Any]:
    """As `reproduce.json` has them."""
    return {key: value for key, value in asdict(facts).items() if key not in _LATER or value != _LATER[key]}


def read_facts(folder: Path) -> AdapterFacts | None:
    """The facts beside an adapter; None for an adapter that another program made. ModelError: none to decode under."""
    path = folder / ADAPTER_FACTS
    document, problem = read_json(path, follow=True)
    if document is None and problem is None:
        return None
    facts = None
    try:
        facts = None if document is None else msgspec.convert({"hash_version": 1} | document, AdapterFacts)
        wrong = problem if facts is None else impossible(facts)
    except msgspec.ValidationError as error:
        wrong = str(error)
    if wrong is not None:
        said = wrong.removeprefix(f"{path}: ")
        raise ModelError(
            f"{path}: {said}; the adapter's error rate could not be reproduced: bring the adapter anew, or train again"
        )
    return facts


def impossible(facts: AdapterFacts) -> str | None:
    """What in the facts no trainer would have written; None where nothing is."""
    checks = {
        "tokens_per_second": LEAST_TOKENS_PER_SECOND <= facts.tokens_per_second < math.inf,
        "target_rms": 0 < facts.target_rms < _LARGEST_RMS,
        "eval_batch_seconds": 0 < facts.eval_batch_seconds < math.inf,
        "threads": facts.threads >= 1,
        "step": facts.step >= 0,
        "prompt": all(token >= 0 for token in facts.prompt),
        "targets": facts.targets >= 1,
        "beams": 1 <= facts.beams <= MOST_BEAMS,
        "audio_context": facts.audio_context is None or 0 <= facts.audio_context <= LONGEST_AUDIO_CONTEXT,
        "made_of": all(step >= 1 for step in facts.made_of),
        "way": 0 < facts.way <= 1,
        "lifted": all(token >= 0 for token in facts.lifted),
        "precision": facts.precision in _PRECISIONS,
        "normaliser": facts.normaliser in NAMES,
    }
    wrong = next((name for name, holds in checks.items() if not holds), None)
    return None if wrong is None else f"{wrong} = {quoted(getattr(facts, wrong))} cannot be"


WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
WEIGHTS_BYTES = 2 << 30
"""More than any adapter has: a file full of holes would be hashed for minutes."""
_CHUNK = 1 << 20


def _canonical(value: Any) -> Any:
    """Lists of names in sorted order: peft keeps them in sets and writes them in varying order."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [_canonical(item) for item in value]
        return sorted(items) if all(isinstance(item, str) for item in items) else items
    return value


def adapter_hash(folder: Path) -> str:
    """SHA-256 (64 hex digits) over all that a shipped adapter reads: weights, configuration, facts.

    The weights' bytes come first, then the configuration in canonical JSON and, in version 2, the facts of
    `reproduce.json`, which name the version; adapters saved by earlier versions, and by other programs, have version 1.
    Raises RunFolderError when a file is missing or unreadable, or no JSON object.
    """
    digest = hashlib.sha256()
    config = _document(folder / CONFIG, required=True)
    facts = _document(folder / ADAPTER_FACTS, required=False)
    version = facts.get("hash_version", 1)
    if type(version) is not int or version not in (1, 2):
        raise RunFolderError(
            f"{folder / ADAPTER_FACTS}: hash version {quoted(version)} is of another version of lora-tui"
        )
    try:
        with open_regular(folder / WEIGHTS, follow=True) as file:
            if os.fstat(file.fileno()).st_size > WEIGHTS_BYTES:
                raise RunFolderError(f"{folder / WEIGHTS}: larger than {WEIGHTS_BYTES >> 30} GiB, which no adapter is")
            if is_pointer(file.peek(_CHUNK)):
                raise RunFolderError(f"{folder / WEIGHTS}: {POINTER}")
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise RunFolderError(f"{error.filename or folder}: cannot read the adapter: {error.strerror}") from error
    digest.update(_bytes(config))
    if version == 2:
        digest.update(b"\nfacts\n" + _bytes(facts))
    return digest.hexdigest()


def covers_facts(folder: Path) -> bool:
    """Whether the adapter's hash covers its facts. RunFolderError where they cannot be read."""
    return _document(folder / ADAPTER_FACTS, required=False).get("hash_version") == 2


def _document(path: Path, *, required: bool) -> dict[str, Any]:
    document, problem = read_json(path, follow=True)
    if document is None and (required or problem is not None):
        raise RunFolderError(f"{problem or f'{path}: cannot read the adapter: missing'}: save the adapter again")
    return document or {}


def _bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(_canonical(document), sort_keys=True, separators=(",", ":")).encode()
