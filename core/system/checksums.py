"""Checksums over JSON values: of a document, which carries it itself, and of a list of lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with a checksum over it: a document that an editor changed is found out, a forger is not."""
    return {**content, "checksum": _checksum(content)}


def is_whole(document: Mapping[str, Any]) -> bool:
    """Whether a document bears out its own checksum."""
    return document.get("checksum") == _checksum({key: value for key, value in document.items() if key != "checksum"})


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hash_lines(kind: str, lines: Iterable[object]) -> str:
    """SHA-256 over a kind and JSON values, one a line."""
    digest = hashlib.sha256(f"{kind}\n".encode())
    for line in lines:
        digest.update(json.dumps(line).encode() + b"\n")
    return digest.hexdigest()
