"""Writing so that a reader never sees half a file, whatever is killed when (DESIGN §3); seeing that one changed."""

from __future__ import annotations

import errno
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

_BLOCK = 65536


def read_json(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """(the JSON object in `path`, None), (None, what is wrong with it), or (None, None) without a file."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, f"{path}: cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        return None, f"{path}: not JSON"
    if not isinstance(value, dict):
        return None, f"{path}: not a JSON object"
    return value, None


def stamp(status: os.stat_result) -> tuple[int, ...]:
    """Changes whenever the file does: the change time cannot be set by hand."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: temporary file in the same folder, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text. Lone surrogates (undecodable file names) survive a round trip."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` for JSON: sorted keys, so that equal values are equal bytes. NaN is refused: store None."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def replace_link(link: Path, target: str) -> None:
    """Point `link` at the relative `target`, by rename, so that it is never missing."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    fsync_folder(link.parent)


def append_whole(file: io.FileIO, data: bytes) -> None:
    """Append `data` to an unbuffered file in one write, or leave the file as it was and raise OSError (disk full)."""
    start = file.seek(0, os.SEEK_END)
    try:
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.name))
    except OSError:
        os.ftruncate(file.fileno(), start)
        raise


def append_line(path: Path, line: str) -> None:
    """Append one line in a single write, so that a reader sees at most one torn line, the last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        append_whole(file, line.encode("utf-8") + b"\n")


def cut_torn_line(path: Path) -> None:
    """Drop a last line without its line end: its writer was killed in the middle of it."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        end = position = file.seek(0, os.SEEK_END)
        whole = 0
        while position > 0 and not whole:
            start = max(0, position - _BLOCK)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            whole = start + newline + 1 if newline >= 0 else 0
            position = start
        if whole != end:
            file.truncate(whole)
            os.fsync(file.fileno())
