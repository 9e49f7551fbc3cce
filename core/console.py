"""The only way out: whatever any command writes to stdout or stderr goes through here.

Text from outside cannot steer a terminal, nor a GitHub runner, which obeys workflow commands in what it reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TextIO

from core.sanitise import sanitise

Progress = Callable[[int, int], None]
"""Called as (done, total); a total of 0 is unknown."""
READING_S = 1.0
"""Reading that takes no longer needs no bar."""
LINES_APART_S = 10.0
"""Between two lines of progress in a log."""
_OLD_COMMAND = "##["
"""Begins a workflow command anywhere in a line; `::` does so at its beginning."""


def out(text: str, max_length: int | None = None, *, multiline: bool = False, sanitised: bool = False) -> None:
    """One line to stdout, or several. A reader that closed the pipe early (`| head`) is no error.

    `sanitised`: each text in it was made safe already, and what steers the terminal is the program's own (`coloured`).
    """
    with _reader_may_leave():
        _put(sys.stdout, (text if sanitised else _shown(text, max_length, multiline)) + "\n")


_COLOURS = {"pass": "32", "fail": "31", "unknown": "33", "active": "36", "strong": "1", "muted": "2"}


def coloured(text: str, role: str) -> str:
    """The text in the colour of its role, where stdout is a terminal that has colours and nobody asked for none."""
    code = _COLOURS.get(role)
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in (None, "", "dumb") or not sys.stdout.isatty()
    return text if code is None or plain else f"\x1b[{code}m{text}\x1b[0m"


def document(value: Any, indent: int | None = None) -> None:
    """JSON to stdout, in ASCII: no line of it is a workflow command, and it means the same to whoever parses it."""
    with _reader_may_leave():
        sys.stdout.write(quiet(json.dumps(value, indent=indent, allow_nan=False)) + "\n")
        sys.stdout.flush()


def quiet(text: str) -> str:
    """JSON that means the same and holds no `##[`: only strings can hold it, and there an escape is the same text."""
    return text.replace(_OLD_COMMAND, "#\\u0023[")


def err(text: str, max_length: int | None = None, *, multiline: bool = False) -> None:
    """One line to stderr, or several. A closed or full stderr stops nothing."""
    with contextlib.suppress(OSError, ValueError):
        _put(sys.stderr, _shown(text, max_length, multiline) + "\n")


def log_line(text: str) -> None:
    """One line to stderr with the time, for what runs long: stderr of a supervisor is its log."""
    err(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")


def ask(text: str) -> None:
    """A question to stderr, whose answer is typed behind it."""
    with contextlib.suppress(OSError, ValueError):
        _put(sys.stderr, sanitise(text))


def progress(text: str) -> None:
    """One line of a terminal that the next call writes over; empty: it is cleared."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write("\r\x1b[K" + sanitise(text))
        sys.stderr.flush()


PROGRESS_VARIABLE = "LORA_CLI_PROGRESS_FD"
"""Names a file descriptor to which a command writes how far it is, for the process that started it."""


def newest_progress(told: bytes | None) -> tuple[int, int] | None:
    """(done, total) of the last whole line `done total` in what a child wrote; None where there is none."""
    for line in reversed((told or b"").split(b"\n")[:-1]):
        words = line.split()
        if len(words) == 2 and all(word.isdigit() and len(word) < _DIGITS for word in words):
            return int(words[0]), int(words[1])
    return None


_DIGITS = 12


def _tell_parent(done: int, total: int) -> None:
    """Write it to the descriptor that the parent gave, if there is one. Never stops anything, and never waits."""
    given = os.environ.get(PROGRESS_VARIABLE, "")
    if given.isdigit():
        with contextlib.suppress(OSError):
            os.set_blocking(int(given), False)
            os.write(int(given), f"{done} {total}\n".encode())


@contextlib.contextmanager
def progress_bar(what: str, delay_s: float = 0.0, *, lines: bool = False) -> Generator[Progress, None, None]:
    """A bar on stderr when that is a terminal; nothing otherwise, nor for what takes less than `delay_s`.

    With `lines`, what takes longer says where it is into a log, too.
    """
    from tqdm import tqdm

    shown = sys.stderr.isatty()
    bar = tqdm(desc=what, unit=" clips", disable=not shown, file=sys.stderr, leave=False, delay=delay_s)

    said = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal said
        bar.total = total or None
        bar.update(done - bar.n)
        if lines:
            _tell_parent(done, total)
        if lines and not shown and time.monotonic() - said >= LINES_APART_S:
            said = time.monotonic()
            err(f"{what}: {done} of {total}")

    with bar:
        yield show


def commands(lines: Iterable[str]) -> None:
    """Workflow commands for the runner, whose texts are escaped already (`lora_tui.reports.github_actions`)."""
    with contextlib.suppress(OSError, ValueError):
        for line in lines:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()


def in_github_actions() -> bool:
    """Whether a GitHub runner reads what is written here, and obeys the commands in it."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _shown(text: str, max_length: int | None, multiline: bool) -> str:
    return sanitise(text.removesuffix("\n") if multiline else text, max_length, multiline=multiline)


def _put(stream: TextIO, text: str) -> None:
    stream.write(_no_commands(text) if in_github_actions() and not _is_file(stream) else text)
    stream.flush()


def _no_commands(text: str) -> str:
    """No line of another's text is taken for a workflow command."""
    lines = text.replace(_OLD_COMMAND, "## [").split("\n")
    return "\n".join(f"· {line}" if line.lstrip().startswith("::") else line for line in lines)


def _is_file(stream: TextIO) -> bool:
    """Whether it goes into a file, which no runner reads, and which holds data as it is."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
