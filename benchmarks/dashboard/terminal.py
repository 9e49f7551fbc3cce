"""A pseudo-terminal for measurements: what a command writes, when, and what it costs while it does."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
_HIDDEN = ("NO_COLOR", "SSH_CONNECTION", "TERM_PROGRAM", "PYTHONDONTWRITEBYTECODE")
"""Of the environment: what is installed has its bytecode, and would be compiled anew at every start without."""
_ANSWER_S = 5.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Terminal:
    """A command in a pty of `size` (columns, rows). A thread reads what it writes, unless it is told to stall."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        size: tuple[int, int] = (120, 40),
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._master, slave = pty.openpty()
        self.resize(*size)
        clean = {k: v for k, v in os.environ.items() if k not in _HIDDEN}
        environment = clean | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)} | dict(env or {})
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            list(command), stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environment, start_new_session=True
        )
        os.close(slave)
        self.chunks: list[tuple[float, bytes]] = []
        """(seconds since the start, bytes)."""
        self._reading = threading.Event()
        self._reading.set()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def output(self) -> bytes:
        """All that was written so far."""
        return b"".join(chunk for _, chunk in self.chunks)

    @property
    def written(self) -> int:
        """Bytes written so far."""
        return sum(len(chunk) for _, chunk in self.chunks)

    def wait_for(self, wanted: bytes, seconds: float = 60.0, after: int = 0) -> float:
        """Seconds from the start to the chunk that made `wanted` whole, in what came after `after` bytes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if wanted in self.output[after:]:
                return self._when(wanted, after)
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        raise TimeoutError(f"{wanted!r} never came; the last of {self.written} bytes: {self.output[-1500:]!r}")

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def answer_ms(self, keys: bytes, rest_s: float) -> float:
        """Milliseconds from `keys`, pressed after a rest, to the first bytes that are written then."""
        time.sleep(rest_s)
        count = len(self.chunks)
        pressed = time.monotonic()
        self.type(keys)
        while len(self.chunks) == count and time.monotonic() - pressed < _ANSWER_S:
            time.sleep(0.001)
        return 1000 * (time.monotonic() - pressed)

    def quiet_ms(self, keys: bytes, rest_s: float) -> float:
        """Milliseconds from `keys` to the last byte that is written before a rest: all of the answer is there."""
        time.sleep(rest_s)
        pressed = time.monotonic()
        self.type(keys)
        time.sleep(rest_s)
        while time.monotonic() - self.started - self.chunks[-1][0] < rest_s:
            time.sleep(0.01)
        return 1000 * (self.started + self.chunks[-1][0] - pressed)

    def resize(self, columns: int, rows: int) -> None:
        """As a terminal does: the size first, then SIGWINCH from the kernel."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def pause(self) -> None:
        """Read nothing from now on, as a client whose connection stalls."""
        self._reading.clear()

    def resume(self) -> None:
        """Read again."""
        self._reading.set()

    def forget(self, kept: int = 200) -> None:
        """Keep only the newest chunks of the output: for runs of half an hour."""
        if len(self.chunks) > 10 * kept:
            del self.chunks[:-kept]

    def cpu_s(self) -> float:
        """CPU seconds of the command so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def memory_mib(self) -> float:
        """Resident memory."""
        return self._status("VmRSS") / 1024

    def peak_mib(self) -> float:
        """The most it ever was."""
        return self._status("VmHWM") / 1024

    def threads(self) -> int:
        """Threads of the command."""
        return self._status("Threads")

    def descriptors(self) -> int:
        """Open files of the command."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def close(self) -> int:
        """End the command, by force if it must be; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        code = self.process.wait()
        if not self._ended:
            self._ended = True
            self._thread.join()
            os.close(self._master)
        return code

    def quit(self, seconds: float = 30.0) -> int:
        """Press q and wait for the exit code."""
        self.type(b"q")
        self.process.wait(seconds)
        time.sleep(0.1)
        return self.close()

    def _read(self) -> None:
        while not self._ended:
            if not self._reading.wait(0.1) or not select.select([self._master], [], [], 0.05)[0]:
                continue
            try:
                chunk = os.read(self._master, 65536)
            except OSError:
                time.sleep(0.02)
                continue
            self.chunks.append((time.monotonic() - self.started, chunk))

    def _when(self, wanted: bytes, after: int) -> float:
        end = self.output.index(wanted, after) + len(wanted)
        seen = 0
        for when, chunk in self.chunks:
            seen += len(chunk)
            if seen >= end:
                return when
        raise AssertionError("it was just found")

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise KeyError(name)
