"""A secret of this user on this machine: it tells what was computed here from what arrived with a run folder.

It lies outside the runs folder, under `$XDG_STATE_HOME`, and is never copied with a run. Where it cannot be kept to
its owner, there is none, and what it would vouch for is computed anew.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.user_paths import PathError, state_home

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
