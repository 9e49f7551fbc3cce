"""Safe reading and writing: only regular files, of bounded size, are read; of a written one no reader sees half.

Whatever lies in a runs folder may have come from elsewhere: a FIFO would wait for ever, a device would never end, a
link would lead to somebody's other files. Readers of documents use `read_json`, those of streams `open_regular`.
Both say when a file is only a pointer of git-lfs; `pointer_problem` asks that of files that other libraries read.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Never

from core.sanitise import LONGEST_TEXT

_BLOCK = 65536
DOCUMENT_BYTES = 16 << 20
"""More than any JSON document of a run has that does not grow with its data."""
SCORES_BYTES = 512 << 20
"""For documents with an entry for each clip: a million clips of short texts."""
STREAM_BYTES = 4 << 30
"""Of events and weights: ten million steps, and more than any adapter has. A file full of holes can say any size."""
LONGEST_LINE = 16 << 20
"""Of events and decisions: a longer one was written by no program of ours, and would fill the memory."""


POINTER = "a git-lfs pointer, not the file itself: run `git lfs pull`"
_POINTER_BEGINS = b"version https://git-lfs.github.com/spec/"


def is_pointer(data: bytes) -> bool:
    """Whether a file that begins so is what git-lfs leaves in a checkout for a file that was not fetched."""
    return data.startswith(_POINTER_BEGINS)


def open_raw(path: Path, *, follow: bool = False, at: int | None = None) -> io.FileIO:
    """`path` for reading, unbuffered. OSError for all but regular files; for a link too, unless `follow` is set.

    It never waits: opening a FIFO, or a device, returns at once and is refused. `at`: a descriptor of its folder.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path if at is None else path.name, flags, dir_fd=at)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise OSError(errno.ELOOP, "a link, which is not followed: put a copy in its place", str(path)) from error
        if error.errno == errno.ENXIO:  # a socket
            raise OSError(errno.ENXIO, "not a regular file", str(path)) from error
        raise
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(path))
        if not stat.S_ISREG(kind) or _has_no_size(descriptor):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return io.FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether something is there, behind a link too. What may not be looked at counts: whoever reads it says so."""
    try:
        os.stat(path)  # noqa: PTH116 - ten thousand Path objects take their time
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def is_file(path: str | os.PathLike[str]) -> bool:
    """As `exists`, of a regular file."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - as above
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False


def _has_no_size(descriptor: int) -> bool:
    """Whether it is one of the kernel's files, such as those of /proc: empty, by its size, and may never end."""
    if os.fstat(descriptor).st_size > 0:
        return False
    try:
        return os.pread(descriptor, 1, 0) != b"" and os.fstat(descriptor).st_size == 0
    except OSError:
        return True


def open_regular(path: Path, *, follow: bool = False) -> io.BufferedReader:
    """`open_raw` with a buffer."""
    return io.BufferedReader(open_raw(path, follow=follow))


def lines(file: io.BufferedIOBase, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """Each line with its line end, the last perhaps without; nothing of a file after a line that is longer."""
    while (line := file.readline(longest)) and (line.endswith(b"\n") or len(line) < longest):
        yield line


def read_bytes(path: Path, limit: int = DOCUMENT_BYTES, *, follow: bool = False, at: int | None = None) -> bytes:
    """All of a regular file of at most `limit` bytes. OSError for a larger one, a pointer, and as for `open_raw`."""
    with open_raw(path, follow=follow, at=at) as file:
        parts: list[bytes] = []
        left = limit + 1
        if os.fstat(file.fileno()).st_size <= limit:
            while left > 0 and (part := file.read(left)):
                parts.append(part)
                left -= len(part)
            if left > 0:
                data = b"".join(parts)
                if is_pointer(data):
                    raise OSError(errno.EINVAL, POINTER, str(path))
                return data
    raise OSError(errno.EFBIG, f"larger than {limit >> 20} MiB, which no such file is", str(path))


def check_size(file: io.IOBase, path: Path, limit: int) -> None:
    """OSError for a file of more than `limit` bytes, which would be read for minutes."""
    if os.fstat(file.fileno()).st_size > limit:
        raise OSError(errno.EFBIG, f"larger than {limit >> 20} MiB, which no such file is", str(path))


def tail(path: Path, length: int) -> bytes:
    """The last `length` bytes of a regular file, or all of a shorter one. OSError as for `open_raw`."""
    with open_regular(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - length))
        return file.read(length)


def read_json(
    path: Path, limit: int = DOCUMENT_BYTES, *, follow: bool = False, at: int | None = None
) -> tuple[dict[str, Any] | None, str | None]:
    """(the JSON object in `path`, None), (None, what is wrong with it), or (None, None) without a file. Never raises.

    Strict: no NaN or infinite number, no key twice in an object.
    """
    try:
        data = read_bytes(path, limit, follow=follow, at=at)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except OSError as error:
        return None, f"{path}: cannot be read: {error.strerror}"
    try:
        value = parse_json(data)
    except ValueError as error:
        return None, f"{path}: not JSON" if isinstance(error, json.JSONDecodeError) else f"{path}: not JSON: {error}"
    if not isinstance(value, dict):
        return None, f"{path}: not a JSON object"
    return value, None


def parse_json(data: bytes | str) -> Any:
    """The JSON value in `data`. ValueError says what is wrong with it, nesting that is too deep included."""
    try:
        return json.loads(data, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if any(_is_long(value) or len(name) > LONGEST_TEXT for name, value in pairs):
        raise ValueError(f"a text of over {LONGEST_TEXT} characters, which no such file has")
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:40]!r} is there twice")
    return found


def _is_long(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_long, value))
    return isinstance(value, str) and len(value) > LONGEST_TEXT


def stamp(status: os.stat_result) -> tuple[int, ...]:
    """Changes whenever the file does: the change time cannot be set by hand."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


_nothing_written = False


@contextmanager
def nothing_written() -> Iterator[None]:
    """Meanwhile this process writes no file: what would is told what a read-only disk tells it."""
    global _nothing_written  # noqa: PLW0603 - a property of the process, as the disk's is of the machine
    before, _nothing_written = _nothing_written, True
    try:
        yield
    finally:
        _nothing_written = before


def check_writing(path: Path) -> None:
    """OSError within `nothing_written`. For whoever opens a file to write, or makes a folder, by itself."""
    if _nothing_written:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_stream(path: Path) -> bool:
    """Whether the path names a device or an open stream, as /dev/null, /dev/stdout and /dev/fd/63 do."""
    place = path.absolute()
    if place.is_relative_to("/dev/shm"):  # noqa: S108 - a folder of files like any other
        return False
    if place.is_relative_to("/dev") or place.is_relative_to("/proc"):
        return True
    try:
        return stat.S_ISCHR(path.lstat().st_mode)
    except OSError:
        return False


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: temporary file in the same folder, fsync, rename, fsync of the folder.

    A device or an open stream is written to: the rename would put a file in its place, for every program.
    """
    check_writing(path)
    if _is_stream(path):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC), "wb") as stream:
            stream.write(data)
        return
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


def make_private(folder: Path) -> None:
    """Make the folder, and those above it that are missing, for its owner alone. OSError when it cannot be made."""
    if not folder.is_dir():
        check_writing(folder)
        if folder.parent != folder:
            make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text. Lone surrogates (undecodable file names) survive a round trip."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` for JSON: sorted keys, so that equal values are equal bytes. NaN is refused: store None."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


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
    check_writing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        append_whole(file, line.encode("utf-8") + b"\n")


def cut_torn_line(file: io.FileIO) -> None:
    """Drop a last line without its line end: its writer was killed in the middle of it."""
    end = position = file.seek(0, os.SEEK_END)
    whole = 0
    while position > 0 and not whole:
        start = max(0, position - _BLOCK)
        newline = os.pread(file.fileno(), position - start, start).rfind(b"\n")
        whole = start + newline + 1 if newline >= 0 else 0
        position = start
    if whole != end:
        file.truncate(whole)
        os.fsync(file.fileno())


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


# A folder that a process works in, held open, so that it is noticed when the folder is moved or replaced


class HeldFolder:
    """The folder that `path` leads to now. OSError when there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._folder = os.fstat(self._descriptor)

    @property
    def here(self) -> Path:
        """Where it is now. FileNotFoundError when it was deleted, or nobody can tell."""
        now = Path(f"/proc/self/fd/{self._descriptor}").readlink()
        if not os.path.samestat(now.stat(), self._folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        return now

    def lost(self) -> str:
        """What became of it, if its path leads there no longer; else empty, also where nobody can tell now."""
        try:
            if os.path.samestat(self.path.stat(), self._folder):
                return ""
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            return ""
        try:
            now = self.here
        except OSError:
            if not os.fstat(self._descriptor).st_nlink:
                return f"its folder {self.path} was deleted"
            if not os.path.lexists(self.path):
                return f"its folder {self.path} was deleted, or its disk was taken away"
            return f"its folder {self.path} is another one now: replaced, or its disk was taken away"
        return f"its folder {self.path} was moved to {now}"

    def close(self) -> None:
        """Close the folder."""
        os.close(self._descriptor)
