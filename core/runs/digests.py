"""SHA-256 of the files of a run, and the list of them that its result keeps.

The trainer's last document, result.json, names the hash of every file that the verdict rests on; the final event names
that of result.json. So a change of any of them afterwards contradicts another one.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from core.runs.folder import names, subfolders
from core.runs.paths import RunPaths, step_of
from core.system.files import SCORES_BYTES, is_file, open_regular, stamp

_CHUNK = 1 << 20
_EVENTS_BYTES = 2 << 30
"""More than a run of ten million steps writes."""


def sha256_of(path: Path) -> str:
    """Of a regular file's bytes, 64 hex digits; read again only when the file changed. OSError."""
    return _sha256(path, stamp(path.lstat()), None)


def sha256_of_start(path: Path, size: int) -> str:
    """Of the first `size` bytes of a file that only grows."""
    return _sha256(path, stamp(path.lstat()), size)


@lru_cache(maxsize=512)
def _sha256(path: Path, _stamp: tuple[int, ...], size: int | None) -> str:
    digest = hashlib.sha256()
    most = SCORES_BYTES if size is None else _EVENTS_BYTES
    with open_regular(path) as file:
        if (os.fstat(file.fileno()).st_size if size is None else size) > most:
            raise OSError(errno.EFBIG, f"larger than {most >> 20} MiB, which no such file is", str(path))
        left = size
        while chunk := file.read(_CHUNK if left is None else min(left, _CHUNK)):
            digest.update(chunk)
            left = None if left is None else left - len(chunk)
    return digest.hexdigest()


def evidence_files(paths: RunPaths) -> Iterator[Path]:
    """What a verdict rests on and is not told by another hash: all scores, the order of the sets, the audit."""
    steps = [name for name in subfolders(paths.root, paths.evals) if step_of(name) is not None]
    for folder in (*(paths.evals / name for name in steps), paths.tuned("domain").parent):
        yield from (folder / name for name in names(paths.root, folder) if name.endswith(".json"))
    yield from (file for file in (paths.position, paths.data_health) if is_file(file))


def inventory(paths: RunPaths) -> dict[str, str]:
    """Each of `evidence_files`, by its name in the run folder, with its hash. OSError."""
    return {file.relative_to(paths.root).as_posix(): sha256_of(file) for file in evidence_files(paths)}
