"""Trainers in forked processes, which did their imports already, and ways for them to die."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from core.runs.events import Event


def run_and_end(log: Path, work: Callable[[], Any]) -> None:
    """Run `work` as a process of its own; never returns."""
    code = 70
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        try:
            code = int(work() or 0)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


class WarmLoraCli:
    """Stands in for `subprocess.Popen` of `python -P -m core.cli …`: the same command without its imports."""

    def __init__(self, command: Sequence[str], **_: Any) -> None:
        assert list(command[1:4]) == ["-P", "-m", "core.cli"], command
        from core.cli.__main__ import main

        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            run_and_end(Path(f"/proc/{os.getppid()}/fd/2"), lambda: main(list(command[4:])))

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        del timeout
        while self.poll() is None:
            time.sleep(0.01)
        return self.returncode

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> WarmLoraCli:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


def use_warm_lora_cli() -> None:
    """In a forked trainer: evaluate the best adapter, and audit the data, in forked processes too."""
    from core.training import health, session

    names = {"DEVNULL": subprocess.DEVNULL, "TimeoutExpired": subprocess.TimeoutExpired}
    for module in (session, health):
        module.subprocess = SimpleNamespace(Popen=WarmLoraCli, **names)  # type: ignore[attr-defined]
    session._POLL_S = health._POLL_S = 0.01


def signal_at(number: int, when: Callable[[Event], bool]) -> Callable[[], None]:
    """For `TrainingRun.fork`: the trainer gets the signal right after the first event that `when` holds for."""

    def prepare() -> None:
        from core.training.journal import Journal

        emit = Journal.emit
        sent: list[Event] = []

        def emit_and_signal(self: Journal, event: Event) -> None:
            emit(self, event)
            if not sent and when(event):
                sent.append(event)
                os.kill(os.getpid(), number)

        Journal.emit = emit_and_signal  # type: ignore[method-assign]

    return prepare


def kill_after_events(count: int) -> Callable[[], None]:
    """For `TrainingRun.fork`: SIGKILL right after the event number `count`, heartbeats not counted."""
    seen: Iterator[int] = iter(range(1, 1_000_000))
    return signal_at(signal.SIGKILL, lambda event: event.NAME != "heartbeat" and next(seen) == count)


def kill_at_replace(count: int) -> Callable[[], None]:
    """For `TrainingRun.fork`: SIGKILL instead of the rename number `count`, so that a file is left half done."""

    def prepare() -> None:
        replace, trainer = os.replace, os.getpid()
        seen = iter(range(1, 1_000_000))

        def replace_or_die(*args: Any, **more: Any) -> None:
            if os.getpid() == trainer and next(seen) == count:
                os.kill(trainer, signal.SIGKILL)
            replace(*args, **more)

        os.replace = replace_or_die

    return prepare


def small_files(limit: int) -> Callable[[], None]:
    """For `TrainingRun.fork`: no file may grow beyond `limit` bytes, as on a disk that is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
