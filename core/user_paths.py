"""Paths that people write, in plans, manifests, the environment and on the command line, with their `~` resolved.

Nobody else looks for home folders: there may be none, nor such a user, which Python answers with errors of many kinds.
"""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

from core.errors import UserError


class PathError(UserError):
    """A path that leads nowhere on this machine."""


def user_path(written: str | os.PathLike[str], key: str = "") -> Path:
    """The path that was written, `~` and `~user` resolved. PathError names it, and the `key` that it stands under."""
    path = Path(written)
    if "\0" in str(path):
        told = f"{key}: {str(path)!r}" if key else repr(str(path))
        raise PathError(f"{told} has a character that no file name can have: correct it")
    try:
        path = path.expanduser()
        _measure(path, key)
        return path
    except (RuntimeError, KeyError, OSError) as error:
        name = path.parts[0].removeprefix("~")
        what = f"there is no home folder of {name!r} here" if name else "there is no home folder here (HOME is not set)"
        told = f"{key}: {path}" if key else str(path)
        raise PathError(f"{told}: {what}: write the whole path") from error


def _measure(path: Path, key: str) -> None:
    """PathError for a path that is longer than the system takes: asking for it would be an error everywhere."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise PathError(f"{key}: {path}: longer than a path can be: correct it".removeprefix(": ")) from error


def state_home() -> Path:
    """`$XDG_STATE_HOME`, or what stands for it. PathError where there is neither it nor a home folder."""
    return user_path(os.environ.get("XDG_STATE_HOME") or "~/.local/state", "XDG_STATE_HOME")


def user_name() -> str:
    """Of whoever runs this; the number, where the machine knows no name of it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def check_working_folder() -> None:
    """PathError when the folder that the command was started in is gone, or may not be looked at."""
    try:
        Path.cwd()
    except OSError as error:
        raise PathError(
            f"the working folder cannot be used ({error.strerror}): change to another one and run the command again"
        ) from error
