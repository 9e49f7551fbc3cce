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
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]


class Terminal:
    """`lora-tui` with these arguments in a pseudo-terminal."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        size: tuple[int, int] = (80, 24),
        cwd: Path,
        env: dict[str, str] | None = None,
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        ours = ("NO_COLOR", "SSH_CONNECTION", "COLUMNS", "LINES")
        clean = {k: v for k, v in os.environ.items() if k not in ours}
        environment = clean | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)} | (env or {})
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.bytes = b""

    def read_for(self, seconds: float) -> bytes:
        """What comes in this time."""
        deadline, got = time.monotonic() + seconds, b""
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                try:
                    got += os.read(self.master, 65536)
                except OSError:
                    break
        self.bytes += got
        return got

    def wait_for(self, wanted: bytes, seconds: float = 60.0) -> None:
        """Until these bytes were written."""
        deadline = time.monotonic() + seconds
        while wanted not in self.bytes:
            assert time.monotonic() < deadline, f"{wanted!r} never came: {self.bytes[-3000:]!r}"
            self.read_for(0.1)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def hang_up(self) -> None:
        """The terminal is gone."""
        os.close(self.master)

    def end(self, seconds: float = 60.0) -> int:
        """Wait for the exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read_for(0.05)
        self.read_for(0.05)
        if self.process.poll() is None:
            self.process.kill()
            raise AssertionError(f"it does not end: {self.bytes[-2000:]!r}")
        os.close(self.master)
        return self.process.returncode
