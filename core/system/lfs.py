"""Whether a file that cannot be used is a pointer of git-lfs. Documents are told so by `core.system.files` itself."""

from __future__ import annotations

from pathlib import Path

from core.system.files import POINTER, is_pointer, open_raw

POINTER_BYTES = 1024
"""No pointer is larger."""


def pointer_problem(path: Path) -> str | None:
    """What is wrong with a file that is one and what to do; None: it is not, or cannot be read."""
    try:
        with open_raw(path, follow=True) as file:
            return POINTER if is_pointer(file.read(POINTER_BYTES) or b"") else None
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
