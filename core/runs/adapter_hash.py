"""The hash that ties a score to the adapter it was made with."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from core.errors import RunFolderError
from core.runs.paths import ADAPTER_FACTS
from core.system.files import POINTER, is_pointer, open_regular, read_json

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
        raise RunFolderError(f"{folder / ADAPTER_FACTS}: hash version {version!r} is of another version of lora-tui")
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
