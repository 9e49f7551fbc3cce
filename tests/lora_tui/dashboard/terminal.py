"""A terminal that a command runs in: what it writes is kept as bytes; what is typed reaches it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

from waiting import wait_for

ROOT = Path(__file__).parents[3]
_REST_S = 0.1


class Terminal:
    """`lora-tui` with these arguments in a pseudo-terminal."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        size: tuple[int, int] = (80, 24),
        cwd: Path,
        env: dict[str, str] | None = None,
        python: str | Path = sys.executable,
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        ours = ("NO_COLOR", "SSH_CONNECTION", "COLUMNS", "LINES")
        clean = {k: v for k, v in os.environ.items() if k not in ours}
        environment = clean | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)} | (env or {})
        self.process = subprocess.Popen(
            [python, *arguments],
            stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.bytes = b""

    def read(self) -> bytes:
        """What was written since; nothing when nothing was, or nobody can write any more."""
        got = b""
        while select.select([self.master], [], [], 0)[0]:
            try:
                more = os.read(self.master, 65536)
            except OSError:
                more = b""
            got += more
            if not more:
                break
        self.bytes += got
        return got

    def rest(self) -> None:
        """Until nothing is written for a moment, so that most of what a key does can be seen. It proves nothing."""
        while self.read() or select.select([self.master], [], [], _REST_S)[0]:
            if self.process.poll() is not None:
                return

    def wait_for(self, wanted: bytes) -> None:
        """Until these bytes were written."""

        def came() -> bool:
            self.read()
            return wanted in self.bytes

        try:
            wait_for(came)
        except AssertionError:
            raise AssertionError(f"{wanted!r} never came: {self.bytes[-3000:]!r}") from None

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def hang_up(self) -> None:
        """The terminal is gone."""
        os.close(self.master)

    def end(self) -> int:
        """Wait for the exit code."""

        def ended() -> bool:
            self.read()  # else a full terminal would hold it up
            return self.process.poll() is not None

        try:
            wait_for(ended)
        except AssertionError:
            self.process.kill()
            raise AssertionError(f"it does not end: {self.bytes[-2000:]!r}") from None
        self.read()
        os.close(self.master)
        return self.process.returncode
