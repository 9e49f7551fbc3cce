"""Inside a run folder: what lists, writes and deletes there goes by descriptor from its root, and never through a link.

A run folder may have come from elsewhere, with `evals`, `log.txt` or a checkpoint that is a link to a user's own
files. A link is deleted as a link; a folder behind one is not listed, written or deleted. The run folder itself may
not be a link either; what lies above it may. What runs share (`baselines`, `data_health`) lies in the runs folder, and
is reached from that one's real path in the same way. Nothing else lists, writes or deletes there: a test sees to it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from core.errors import RunFolderError
from core.runs.paths import MARKER, RunPaths, adapter_step
from core.system.files import DOCUMENT_BYTES, SCORES_BYTES, check_writing, is_file, open_regular, stamp
from core.system.files import read_json as read_json_file

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MANY_LEVELS = 64


class LinkError(RunFolderError, OSError):
    """A link, or something else that is no folder or regular file, where a run has one: nothing is done behind it."""


@contextlib.contextmanager
def opened(root: Path, folder: Path, *, make: bool = False) -> Iterator[int]:
    """A descriptor of `folder`, which is `root` or lies below it. LinkError for a link on the way; OSError.

    `make`: folders that are missing are made, `root` too.
    """
    if make:
        check_writing(folder)
        root.mkdir(parents=True, exist_ok=True)
    at = _open(root, root, None)
    try:
        for name in _inside(root, folder).parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=at)
                    os.fsync(at)
            below = _open(root, folder, at, name)
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


def make(root: Path, folder: Path) -> None:
    """Make `folder`, and those above it below `root`, for a process that is to write there. As `opened`."""
    with opened(root, folder, make=True):
        pass


def refuse_link(root: Path, folder: Path) -> None:
    """LinkError when `folder`, where another program is to write, is a link or behind one; it need not be there."""
    with contextlib.suppress(FileNotFoundError), opened(root, folder):
        pass


def names(root: Path, folder: Path) -> list[str]:
    """What lies in `folder`, sorted; nothing where it is missing, or behind a link."""
    try:
        with opened(root, folder) as at, os.scandir(at) as entries:
            return sorted(entry.name for entry in entries)
    except OSError:
        return []


def subfolders(root: Path, folder: Path) -> list[str]:
    """As `names`, of real folders only."""
    try:
        with opened(root, folder) as at, os.scandir(at) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def links(root: Path, *folders: str) -> list[str]:
    """The links among `folders` of `root`, and directly in the others: what lies behind them is not the run's own."""
    found: list[str] = []
    root = root.resolve()
    for folder in folders:
        try:
            with opened(root, root / folder) as at, os.scandir(at) as entries:
                found += sorted(f"{folder}/{entry.name}" for entry in entries if entry.is_symlink())
        except LinkError:
            found.append(folder)
        except OSError:
            continue
    return found


def files(root: Path, below: Path | None = None) -> list[tuple[Path, int]]:
    """Each file and link below the folder, with its bytes on the disk; what vanishes meanwhile may be missed."""
    found: list[tuple[Path, int]] = []
    try:
        with opened(root, below or root) as at:
            _walk(at, below or root, found, _MANY_LEVELS)
    except OSError:
        pass
    return found


def size(root: Path, path: Path) -> int:
    """Bytes that a file, or all files in a folder, take."""
    try:
        with opened(root, path.parent) as at:
            status = os.stat(path.name, dir_fd=at, follow_symlinks=False)
    except OSError:
        return 0
    return sum(found for _, found in files(root, path)) if stat.S_ISDIR(status.st_mode) else _taken(status)


def delete(root: Path, path: Path) -> None:
    """Delete a file, a folder with all that is in it, or a link, and never what the link leads to.

    Nothing there is no error. OSError; what could be deleted by then is.
    """
    try:
        with opened(root, path.parent) as at:
            _delete(at, path.name)
            os.fsync(at)
    except FileNotFoundError:
        return


def read_json(root: Path, path: Path, limit: int = DOCUMENT_BYTES) -> tuple[dict[str, Any] | None, str | None]:
    """As `core.system.files.read_json`, and nothing behind a link on the way from `root`. Never raises."""
    try:
        with opened(root, path.parent) as at:
            return read_json_file(path, limit, at=at)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except OSError as error:
        return None, str(error) if isinstance(error, LinkError) else f"{path}: cannot be read: {error.strerror}"


def write_bytes(root: Path, path: Path, data: bytes) -> None:
    """Replace `path`, below `root`, by `data`: temporary file beside it, fsync, rename, fsync of the folder."""
    with opened(root, path.parent, make=True) as at:
        temporary = f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o644, dir_fd=at), "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(temporary, path.name, src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=at)
            raise
        os.fsync(at)


def write_text(root: Path, path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text. Lone surrogates (undecodable file names) survive a round trip."""
    write_bytes(root, path, text.encode("utf-8", "surrogateescape"))


def write_json(root: Path, path: Path, value: Any) -> None:
    """`write_bytes` for JSON: sorted keys, so that equal values are equal bytes. NaN is refused: store None."""
    write_bytes(root, path, (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def create_json(root: Path, path: Path, value: Any) -> bool:
    """Write `path`, below `root`; False where something is there. Of two that try, on two machines too, one does."""
    with opened(root, path.parent, make=True) as at:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path.name, flags, 0o644, dir_fd=at)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write((json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        os.fsync(at)
    return True


def open_append(root: Path, path: Path) -> io.FileIO:
    """The file, made if it is missing, for appending and reading, unbuffered. LinkError unless it is a regular file."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with opened(root, path.parent, make=True) as at:
        try:
            descriptor = os.open(path.name, flags, 0o644, dir_fd=at)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise LinkError(f"{path}: {_WHAT}: nothing is written to it") from error
            raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LinkError(f"{path}: {_WHAT}: nothing is written to it")
    return io.FileIO(descriptor, "a+b")


def replace_link(root: Path, link: Path, target: str) -> None:
    """Point `link` at the relative `target`, by rename, so that it is never missing."""
    check_writing(link)
    with opened(root, link.parent) as at:
        temporary = f".{link.name}.{os.getpid()}.tmp"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=at)
        os.symlink(target, temporary, dir_fd=at)
        os.replace(temporary, link.name, src_dir_fd=at, dst_dir_fd=at)
        os.fsync(at)


def linked_adapter(paths: RunPaths, link: Path) -> str | None:
    """The name of the adapter that `lora_adapter_best` or `…_last` leads to; None without the link.

    LinkError for a link to anything but a folder among the run's own adapters, and for what is no link.
    """
    try:
        target = PurePath(link.readlink())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LinkError(f"{link}: no link into the run's adapters, as a trainer makes it") from error
    name = target.name
    if adapter_step(name) is None or target != PurePath(paths.adapters.name, name):
        raise LinkError(f"{link}: leads out of the run's adapters, to {target}: only what lies there is used")
    if paths.adapters.is_symlink() or paths.adapter(name).is_symlink():
        raise LinkError(f"{paths.adapter(name)}: a link, which is not followed: put the folder itself there")
    return name


_WHAT = "a link, or no regular file, where the run has one of its own"


def _inside(root: Path, path: Path) -> Path:
    relative = path.relative_to(root)
    if ".." in relative.parts:
        raise LinkError(f"{path}: leads out of {root}")
    return relative


def _open(root: Path, folder: Path, at: int | None, name: str | None = None) -> int:
    try:
        return os.open(root if name is None else name, _FOLDER, dir_fd=at)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            here = root if name is None else root.joinpath(*_upto(root, folder, name))
            raise LinkError(
                f"{here}: a link, or no folder, where a run has one: nothing is listed, written or deleted behind it; "
                "put the folder itself in its place, or link the whole runs folder"
            ) from error
        error.filename = str(folder)
        raise


def _upto(root: Path, folder: Path, name: str) -> tuple[str, ...]:
    parts = folder.relative_to(root).parts
    return parts[: parts.index(name) + 1]


def _walk(at: int, folder: Path, found: list[tuple[Path, int]], levels: int) -> None:
    with os.scandir(at) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    found.append((folder / entry.name, _taken(entry.stat(follow_symlinks=False))))
                elif levels:
                    below = os.open(entry.name, _FOLDER, dir_fd=at)
                    try:
                        _walk(below, folder / entry.name, found, levels - 1)
                    finally:
                        os.close(below)


def _taken(status: os.stat_result) -> int:
    return min(status.st_size, 512 * status.st_blocks) if stat.S_ISREG(status.st_mode) else 0


def _delete(at: int, name: str, levels: int = _MANY_LEVELS) -> None:
    if levels == 0:
        raise OSError(errno.ELOOP, "folders in it are nested too deep", name)
    try:
        os.unlink(name, dir_fd=at)
    except (IsADirectoryError, PermissionError) as error:
        try:
            below = os.open(name, _FOLDER, dir_fd=at)
        except NotADirectoryError:
            raise error from None
        try:
            # a checkpoint's marker goes first: a half-deleted one must not look whole
            with contextlib.suppress(OSError):
                os.unlink(MARKER, dir_fd=below)
            with os.scandir(below) as entries:
                inside = [entry.name for entry in entries]
            for entry_name in inside:
                with contextlib.suppress(FileNotFoundError):
                    _delete(below, entry_name, levels - 1)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=at)


# SHA-256 of the files of a run, and the list of them that its result keeps
#
# The trainer's last document, result.json, names the hash of every file that the verdict rests on; the final event
# names that of result.json. So a change of any of them afterwards contradicts another one.

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
    scored = [name for name in subfolders(paths.root, paths.evals) if adapter_step(name) is not None]
    for folder in (*(paths.evals / name for name in scored), paths.tuned("domain").parent, paths.reserve_drawn.parent):
        yield from (folder / name for name in names(paths.root, folder) if name.endswith(".json"))
    yield from (file for file in (paths.position, paths.data_health) if is_file(file))


def inventory(paths: RunPaths) -> dict[str, str]:
    """Each of `evidence_files`, by its name in the run folder, with its hash. OSError."""
    return {file.relative_to(paths.root).as_posix(): sha256_of(file) for file in evidence_files(paths)}
