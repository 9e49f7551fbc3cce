"""Whether the supervisor at work is of another version than this command: until it ends it does what that one does."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import core
from core.runs.folder import write_text
from core.runs.paths import RunsFolder
from core.system.files import read_bytes
from core.system.locks import is_held

_ROOMS = ("plan", "queue", "runs", "scoring", "system")
_MOST_BYTES = 4096
OLDER = (
    "{}: a supervisor of an older version of lora-tui is at work there, with a queue of its own: it ends when it has "
    "nothing left to do; `lora-tui queue stop --all` of that version ends it now"
)


def supervisor_note(runs: RunsFolder) -> str:
    """What people should know of the supervisor at work; empty: there is none, or it is of this version."""
    if is_held(runs.older_supervisor_lock):
        return OLDER.format(runs.root)
    if not is_held(runs.supervisor_lock):
        return ""
    owner, recorded = _words(runs.supervisor_lock), _words(runs.supervisor_code)
    if len(recorded) != 2 or owner[:1] != recorded[:1] or recorded[1] == code_id():
        return ""  # of one that has just begun nothing is said yet
    return (
        f"the supervisor at work (pid {recorded[0]}) was started by another version of lora-tui, and does what that "
        f"does until it ends: `kill {recorded[0]}` lets its trainers save and ends it, and the next command starts "
        "another"
    )


def say_code(runs: RunsFolder, pid: int) -> None:
    """Of the supervisor that has the lock."""
    write_text(runs.state.resolve(), runs.state.resolve() / runs.supervisor_code.name, f"{pid} {code_id()}\n")


@cache
def code_id() -> str:
    """Of the code that decides what the queue does, as it lies there when it is first asked for."""
    digest = hashlib.sha256()
    home = Path(core.__file__).parent
    for file in sorted(file for room in _ROOMS for file in (home / room).rglob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _words(path: Path) -> list[str]:
    try:
        return read_bytes(path, _MOST_BYTES).decode(errors="replace").split()
    except OSError:
        return []
