"""The hash of a base model: of the files in its folder that decide what it says."""

from __future__ import annotations

import hashlib
from pathlib import Path

from core.errors import AudioError, ModelError
from core.manifests.hashing import HashCache, file_sha256

WEIGHTS = "*.safetensors"
CONFIG = "config.json"
PATTERNS = (
    WEIGHTS,
    "*.safetensors.index.json",
    CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "normalizer.json",
    "*.model",
)
"""Weights, configuration, tokenizer, processor. A read-me or training log beside them changes nothing."""


def model_hash(folder: Path, cache: HashCache) -> str:
    """SHA-256 (64 hex digits) over the names and contents of the model's files.

    Raises ModelError when the folder, its configuration or its safetensors weights are missing or unreadable.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder: correct model.id")
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder}: no {CONFIG}: model.id must name a folder in hub format")
    if not any(folder.glob(WEIGHTS)):
        pickled = any(folder.glob("*.bin"))
        why = "only pickled weights (.bin), which are never loaded" if pickled else "no weights"
        raise ModelError(f"{folder}: {why}: save the model as safetensors")
    digest = hashlib.sha256()
    for path in sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if not path.is_dir()}):
        try:
            digest.update(f"{path.name}\0{file_sha256(path, cache)}\n".encode())
        except AudioError as error:
            raise ModelError(str(error)) from error
    return digest.hexdigest()
