"""Where the queue, locks and caches of a runs folder lie: with the user's own state, never in the folder itself.

A runs folder may come from elsewhere, and a queue's file names programs that are started, a cache of hashes vouches
for data. So the state folder lies outside the runs folder, and one that somebody else may write to is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from core.errors import RunFolderError
from core.runs.paths import RunsFolder
from core.system.process import machine_id
from core.user_paths import PathError, state_home, user_path

STATE_VARIABLE = "LORA_TUI_STATE"
"""In the environment: the state folder, where no `--state` names one. Trainers and sinks get it from the supervisor."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def runs_folder(root: Path, state: Path | None = None) -> RunsFolder:
    """The runs folder `root` with its state folder: `state`, or the environment's, or one of the user's own for it.

    RunFolderError: the state folder lies in the runs folder, or somebody else could have written to it.
    """
    root = user_path(root, "--runs").absolute()
    named = state or (Path(found) if (found := os.environ.get(STATE_VARIABLE)) else None)
    folder = _own(root) if named is None else user_path(named, "--state").absolute()
    if folder.resolve().is_relative_to(root.resolve()):
        raise RunFolderError(
            f"--state {folder}: lies in the runs folder, whose files may come from elsewhere: name a folder outside "
            "it, or leave --state out"
        )
    _check_owner(folder)
    return RunsFolder(root, folder)


def _own(root: Path) -> Path:
    """Named by machine and real path: a home folder may be shared by machines whose runs folders have one path."""
    try:
        home = state_home().absolute() / "lora-tui"
    except PathError:  # a user without a home folder
        home = _temporary_home()
    key = f"{machine_id()}\n{root.resolve()}".encode("utf-8", "surrogateescape")
    return home / "runs" / hashlib.sha256(key).hexdigest()[:16]


def _temporary_home() -> Path:
    """A folder of the user's own where everybody may make one of this name, or a link. RunFolderError: it is not."""
    home = Path(tempfile.gettempdir()) / f"lora-tui-{os.geteuid()}"
    instead = "name a folder of your own with --state"
    try:
        with contextlib.suppress(FileExistsError):
            home.mkdir(mode=0o700)
        found = home.lstat()
    except OSError as error:
        what = f"{home}: there is no home folder, and this one cannot be made ({error.strerror})"
        raise RunFolderError(f"{what}: {instead}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise RunFolderError(f"{home}: a link, or no folder, where state is kept without a home folder: {instead}")
    _check_status(home, found)
    return home


def _check_owner(folder: Path) -> None:
    """RunFolderError for a folder that is another user's, or that others may write to."""
    try:
        found = folder.stat()
    except OSError:
        return  # it is made when it is needed, or whoever needs it says why it cannot be
    if stat.S_ISDIR(found.st_mode):
        _check_status(folder, found)


def _check_status(folder: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise RunFolderError(
            f"--state {folder}: belongs to another user (uid {found.st_uid}), whose queue is not obeyed: name a "
            "folder of your own"
        )
    if found.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(found.st_mode)
        raise RunFolderError(
            f"--state {folder}: others may write to it (mode {mode:04o}), and so to the queue: "
            f"`chmod go-w {folder}`, or name another folder"
        )
