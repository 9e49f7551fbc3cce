"""Signatures over a run folder: what makes an edit of all its files alike visible.

A statement holds the hash of every file that the verdict rests on. It is signed with a secret of the environment, HMAC,
or with an SSH key (`ssh-keygen -Y`), whose public half is enough to check. Nothing here logs or stores a key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath

from core.errors import RunFolderError
from core.runs.adapter_files import CONFIG, WEIGHTS
from core.runs.documents import read_config
from core.runs.folder import delete, names, subfolders, write_bytes
from core.runs.paths import ADAPTER_FACTS, RunPaths
from core.system.files import STREAM_BYTES, check_size, exists, is_file, open_regular, read_bytes, read_json, stamp
from core.user_paths import user_path

SECRET = "LORA_TUI_SIGNING_KEY"  # noqa: S105 - the variable's name, not its value
SSH_KEY = "LORA_TUI_SIGNING_SSH_KEY"
ALLOWED_SIGNERS = "LORA_TUI_ALLOWED_SIGNERS"
SCHEMA_VERSION = 1
_SHORTEST_SECRET = 16
_PURPOSE = "lora-tui"
"""The namespace of SSH signatures, and what an HMAC begins with: a signature for something else is none here."""
_SSH_WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Keys:
    """What the environment gives to sign or to check with."""

    secret: bytes | None = field(default=None, repr=False)
    ssh_key: Path | None = None
    allowed_signers: Path | None = None

    @property
    def can_sign(self) -> bool:
        """Whether there is a key to sign with."""
        return self.secret is not None or self.ssh_key is not None

    @property
    def can_check(self) -> bool:
        """Whether there is something to check a signature with."""
        return self.secret is not None or self.allowed_signers is not None


@dataclass(frozen=True, slots=True)
class Signature:
    """What is to be said of a run's signature. Neither problem nor gap: it holds."""

    summary: str
    """`HMAC, signed by trainer on 2026-11-24 04:00 UTC`; `none`."""
    problem: str | None = None
    gap: str | None = None
    """Why it could not be checked."""


def keys_from(environ: Mapping[str, str]) -> Keys:
    """The keys in the environment. RunFolderError for a secret that could be guessed, PathError."""
    secret = environ.get(SECRET) or None
    if secret is not None and len(secret) < _SHORTEST_SECRET:
        raise RunFolderError(
            f"{SECRET}: shorter than {_SHORTEST_SECRET} characters: make one with `openssl rand -hex 32`"
        )
    ssh_key, allowed = environ.get(SSH_KEY), environ.get(ALLOWED_SIGNERS)
    return Keys(
        secret.encode() if secret else None,
        user_path(ssh_key, SSH_KEY) if ssh_key else None,
        user_path(allowed, ALLOWED_SIGNERS) if allowed else None,
    )


def sign(paths: RunPaths, keys: Keys, signer: str) -> None:
    """Write the statement and its signatures. RunFolderError when that cannot be done; OSError for the disk."""
    if not is_file(paths.result):
        raise RunFolderError(f"{paths.root}: only a run that is done can be signed: it has no {paths.result.name}")
    if not keys.can_sign:
        raise RunFolderError(f"no key to sign with: set {SECRET} or {SSH_KEY}")
    config, _ = read_config(paths)
    statement = {
        "schema": SCHEMA_VERSION,
        "run": paths.name,
        "identity": (config or {}).get("identity"),
        "signed_by": signer,
        "signed_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "contents": contents(paths),
    }
    data = json.dumps(statement, indent=1, sort_keys=True).encode()
    for old in (paths.statement_hmac, paths.statement_ssh):
        delete(paths.root, old)
    write_bytes(paths.root, paths.statement, data)
    if keys.secret is not None:
        write_bytes(paths.root, paths.statement_hmac, _hmac(keys.secret, data).encode() + b"\n")
    if keys.ssh_key is not None:
        command = ["ssh-keygen", "-Y", "sign", "-f", str(keys.ssh_key), "-n", _PURPOSE, str(paths.statement)]
        _ssh(command, f"{SSH_KEY}: {keys.ssh_key}: ssh-keygen cannot sign with it")


def contents(paths: RunPaths) -> dict[str, str]:
    """What the verdict rests on: each file of the run folder with its SHA-256, each link with its target."""
    found = {_name(paths, file): _sha256(file) for file in _files(paths)}
    for link in (paths.best, paths.last):
        if link.is_symlink():
            found[_name(paths, link)] = f"-> {link.readlink()}"
    return dict(sorted(found.items()))


def check(paths: RunPaths, keys: Keys) -> Signature:
    """Whether the run is signed, by whom, and whether its files are those that were signed. Never raises."""
    try:
        stamps = tuple(stamp(file.stat()) for file in (*_files(paths), *_signed(paths)))
    except OSError as error:
        return Signature("not readable", problem=f"{error.filename}: cannot be read: {error.strerror}")
    return _check(paths, keys, stamps)


def unsigned(paths: RunPaths, file: Path) -> str | None:
    """Why a file of the run is not vouched for, where there is a key to check with and the run is signed; or None."""
    try:
        can_check = keys_from(os.environ).can_check
    except RunFolderError:
        return None  # of the whole run it is said
    statement, _ = read_json(paths.statement) if can_check else (None, None)
    contents = None if statement is None else statement.get("contents")
    if not isinstance(contents, dict) or _name(paths, file) in contents:
        return None
    return f"{file}: made after the run was signed: sign the run again"


# A dashboard asks again every second; the stamps make the answer cacheable.
@lru_cache(maxsize=64)
def _check(paths: RunPaths, keys: Keys, _stamps: tuple[tuple[int, ...], ...]) -> Signature:
    if not exists(paths.statement):
        if keys.can_check:
            return Signature("none", problem=f"{paths.root}: not signed, though a key to check with is given")
        return Signature("none", gap="signature: the run is not signed")
    statement, problem = read_json(paths.statement)
    if statement is None or not isinstance(statement.get("contents"), dict):
        return Signature("not readable", problem=problem or f"{paths.statement}: not a statement of this program")
    when = f"signed by {statement.get('signed_by')} on {statement.get('signed_at')}"
    try:
        now = contents(paths)
    except OSError as error:
        return Signature(when, problem=f"{error.filename}: cannot be read: {error.strerror}")
    then = statement["contents"]
    # what was exported afterwards is not signed, and does not break what is (`unsigned`)
    now = {name: value for name, value in now.items() if name in then or PurePath(name).parts[0] != paths.exports.name}
    changed = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        return Signature(when, problem=f"{paths.root / changed[0]}{more}: changed since the run was signed")
    return _by_keys(paths, keys, when)


def _by_keys(paths: RunPaths, keys: Keys, when: str) -> Signature:
    """Whether the statement's signatures are those of the keys that there are."""
    data = read_bytes(paths.statement)
    held: list[str] = []
    if keys.secret is not None and exists(paths.statement_hmac):
        written = read_bytes(paths.statement_hmac).strip()
        if not hmac.compare_digest(written, _hmac(keys.secret, data).encode()):
            return Signature(when, problem=f"{paths.statement_hmac}: not made with this {SECRET}, or edited")
        held.append("HMAC")
    if keys.allowed_signers is not None and exists(paths.statement_ssh):
        try:
            held.append(f"SSH key of {_ssh_signer(paths, keys.allowed_signers, data)}")
        except RunFolderError as error:
            return Signature(when, problem=str(error))
    if held:
        return Signature(f"{' and '.join(held)}, {when}")
    if keys.can_check:
        return Signature(when, problem=f"{paths.statement}: no signature that the given key could check")
    here = f"there is no key here ({SECRET} or {ALLOWED_SIGNERS}) to check it with"
    return Signature(when, gap=f"signature: {when}; {here}")


def _ssh_signer(paths: RunPaths, allowed: Path, data: bytes) -> str:
    """The principal whose key signed. RunFolderError: nobody who may, or not these bytes."""
    signature = ["-s", str(paths.statement_ssh), "-f", str(allowed)]
    unknown = f"{paths.statement_ssh}: signed by nobody in {allowed}"
    found = _ssh(["ssh-keygen", "-Y", "find-principals", *signature], unknown).decode("utf-8", "replace").splitlines()
    if not found:
        raise RunFolderError(unknown)
    command = ["ssh-keygen", "-Y", "verify", "-I", found[0], "-n", _PURPOSE, *signature]
    _ssh(command, f"{paths.statement_ssh}: not the signature of {found[0]} over this statement", data)
    return found[0]


def _ssh(command: list[str], problem: str, data: bytes = b"") -> bytes:
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=_SSH_WAIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunFolderError(f"{problem}: {error}") from error
    if done.returncode != 0:
        complaint = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise RunFolderError(f"{problem}{f': {complaint[-1]}' if complaint else ''}")
    return done.stdout


def _hmac(secret: bytes, data: bytes) -> str:
    return hmac.new(secret, _PURPOSE.encode() + b"\n" + data, hashlib.sha256).hexdigest()


def _files(paths: RunPaths) -> Iterator[Path]:
    """The files that the verdict rests on; not logs, checkpoints, cards, and what can be computed again."""
    yield from (file for file in (paths.config, paths.events, paths.result, paths.data_health) if is_file(file))
    for above in (paths.evals, paths.exports):
        for room in subfolders(paths.root, above):
            folder = above / room
            yield from (folder / name for name in names(paths.root, folder) if name.endswith(".json"))
    for room in subfolders(paths.root, paths.adapters):
        folder = paths.adapters / room
        there = names(paths.root, folder)
        yield from (folder / name for name in (WEIGHTS, CONFIG, ADAPTER_FACTS) if name in there)


def _sha256(file: Path) -> str:
    with open_regular(file) as opened:
        check_size(opened, file, STREAM_BYTES)
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _signed(paths: RunPaths) -> Iterator[Path]:
    return (file for file in (paths.statement, paths.statement_hmac, paths.statement_ssh) if is_file(file))


def _name(paths: RunPaths, file: Path) -> str:
    return file.relative_to(paths.root).as_posix()
