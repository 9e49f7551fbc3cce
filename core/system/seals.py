"""Checksums over JSON values, and a secret of this user on this machine that seals what was computed here.

A checksum shows that a document was edited. The seal tells what was computed here from what arrived with a run folder.
Its secret lies outside the runs folder, under `$XDG_STATE_HOME`, and is never copied with a run. Where it cannot be
kept to its owner, there is none, and what it would vouch for is computed anew.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.system.files import check_writing
from core.user_paths import PathError, state_home


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


NAME = "machine.key"
_LENGTH = 32


def machine_key() -> bytes | None:
    """The secret, made at first use; None where no file can be kept that only its owner reads."""
    try:
        file = state_home() / "lora-tui" / NAME
        if not file.exists():
            _make(file)
        status = file.stat()
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            return None
        key = file.read_bytes()
    except (OSError, PathError):  # PathError: a user without a home.
        return None
    return key if len(key) == _LENGTH else None


def seal(key: bytes, data: bytes) -> str:
    """HMAC-SHA-256, 64 hex digits."""
    return hmac.new(key, data, hashlib.sha256).hexdigest()


def name_of(key: bytes) -> str:
    """Tells keys apart, and nothing of them."""
    return seal(key, b"name")[:16]


def sealed_by(key: bytes, seals: Mapping[str, Any], data: bytes) -> bool:
    """Whether `seals` (name of a key → seal) holds this key's seal over `data`."""
    written = str(seals.get(name_of(key))).encode("utf-8", "replace")
    return hmac.compare_digest(written, seal(key, data).encode())


def _make(file: Path) -> None:
    """By a link of a whole file, so that two processes at once agree on one key."""
    check_writing(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{NAME}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(os.urandom(_LENGTH))
        file.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
