"""Pointers of git-lfs: small texts that stand in a checkout for the files that were not fetched."""

from __future__ import annotations

from pathlib import Path

from core.runs.files import open_raw

POINTER_BYTES = 1024
"""No pointer is larger."""
_BEGINNING = b"version https://git-lfs.github.com/spec/"


def is_pointer(data: bytes) -> bool:
    """Whether a file that begins with `data` is one."""
    return data.startswith(_BEGINNING)


PROBLEM = "a git-lfs pointer, not the file itself: run `git lfs pull`"


def pointer_problem(path: Path) -> str | None:
    """What is wrong with a file that is one and what to do; None: it is not, or cannot be read."""
    try:
        with open_raw(path, follow=True) as file:
            return PROBLEM if is_pointer(file.read(len(_BEGINNING)) or b"") else None
    except (OSError, ValueError):
        return None


def folder_problem(folder: Path) -> str | None:
    """The first file in `folder` that is one, with what to do; None: there is none."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        small = [path for path in files if path.stat().st_size <= POINTER_BYTES]
    except OSError:
        return None
    return next((f"{path}: {problem}" for path in small if (problem := pointer_problem(path))), None)
