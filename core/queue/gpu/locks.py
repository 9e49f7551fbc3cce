"""Which GPUs have a trainer, over all runs folders of this user on this machine: kernel locks that trainers inherit.

The lock in the state folder outlives a clean-up of the temporary folder; the one in the temporary folder is seen by
supervisors of other runs folders, which NVML would tell of a trainer only when that has filled memory.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from pathlib import Path

from core.runs.paths import RunPaths, RunsFolder
from core.system.locks import KernelLock, is_held

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")
_OWNER_LIMIT = 4096


def acquire(runs: RunsFolder, gpu: str, run: RunPaths) -> list[KernelLock] | None:
    """The locks of the GPU with this UUID, for a trainer of `run` to inherit; None: it has a trainer.

    OSError: the state folder cannot be written. A temporary folder that cannot be trusted or written is done without.
    """
    own = KernelLock.acquire(runs.gpu_lock(gpu))
    if own is None:
        return None
    locks = [own]
    try:
        folder = _shared_folder(create=True)
        if folder is None:
            return locks
        try:
            shared = KernelLock.acquire(_file(folder, gpu))
        except OSError:
            return locks
        if shared is None:
            own.release()
            return None
        locks.append(shared)
        with contextlib.suppress(OSError):  # a full temporary folder: the lock holds without the text
            shared.write_owner(str(run.root))
    except BaseException:
        for held in locks:
            held.release()  # nobody else knows of them: the GPU would be taken as long as this process lives
        raise
    return locks


def holder(runs: RunsFolder, gpu: str) -> str | None:
    """For people: the run whose trainer has the GPU; None: no trainer of this user has it."""
    folder = _shared_folder(create=False)
    shared = None if folder is None else _file(folder, gpu)
    if shared is not None and is_held(shared):
        return _owner(shared) or "a run of another runs folder"
    return "a run that this supervisor did not start" if is_held(runs.gpu_lock(gpu)) else None


def _shared_folder(*, create: bool) -> Path | None:
    """The folder of this user's GPU locks; None when there is none that nobody else could have made."""
    folder = Path(tempfile.gettempdir()) / f"lora-tui-{os.getuid()}"
    try:
        if create:
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    return folder if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() else None


def _file(folder: Path, gpu: str) -> Path:
    return folder / f"gpu-{_UNSAFE.sub('_', gpu)}.lock"


def _owner(lock: Path) -> str:
    try:
        with lock.open("rb") as file:
            return file.read(_OWNER_LIMIT).decode(errors="replace")
    except OSError:
        return ""
