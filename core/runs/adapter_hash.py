"""The hash that ties a score to the adapter it was made with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from core.errors import RunFolderError
from core.runs.files import open_regular, parse_json, read_bytes

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
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
    """SHA-256 (64 hex digits) over the weights' bytes, then the configuration in canonical JSON.

    Raises RunFolderError when a file is missing or unreadable, or the configuration is not a JSON object.
    """
    digest = hashlib.sha256()
    try:
        with open_regular(folder / WEIGHTS, follow=True) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        config = parse_json(read_bytes(folder / CONFIG, follow=True))
    except OSError as error:
        raise RunFolderError(f"{error.filename or folder}: cannot read the adapter: {error.strerror}") from error
    except ValueError as error:
        raise RunFolderError(f"{folder / CONFIG}: not valid JSON ({error}): save the adapter again") from error
    if not isinstance(config, dict):
        raise RunFolderError(f"{folder / CONFIG}: not a JSON object: save the adapter again")
    digest.update(json.dumps(_canonical(config), sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()
