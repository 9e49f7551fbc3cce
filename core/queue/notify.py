"""Who hears of runs: a program of the user's (`queue.notify`), and the processes of trackers. It waits for none."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.console import log_line
from core.queue.executor import GPU_VARIABLE, start_process
from core.queue.journal import Journal, Sink
from core.runs.folder import refuse_link
from core.runs.paths import RunPaths, RunsFolder
from core.runs.state_folder import STATE_VARIABLE
from core.runs.store import last_line

SCHEMA_VERSION = 1
TIMEOUT_S = 30.0
"""For one notification; then the program and what it started are killed."""
WAITING = 100
"""Notifications that may wait for a slow program; more are dropped, and supervisor.log says so."""


class Notifier:
    """Runs the programs one after the other, on a thread of its own."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._waiting: queue.Queue[tuple[tuple[str, ...], Path, bytes]] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def send(self, command: Sequence[str], folder: Path, event: str, facts: Mapping[str, Any]) -> None:
        """Start `command` in `folder` with one JSON document on its stdin; returns at once."""
        if not command:
            return
        document = {"schema": SCHEMA_VERSION, "event": event, "time": round(time.time(), 3), **facts}
        try:
            self._waiting.put_nowait((tuple(command), folder, (json.dumps(document) + "\n").encode()))
        except queue.Full:
            log_line(f"queue.notify: {WAITING} notifications wait already: one more ({event}) is dropped")
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Give those that wait the time of one notification; the rest is dropped."""
        deadline = time.monotonic() + self._timeout_s
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.02)

    def _work(self) -> None:
        while True:
            command, folder, document = self._waiting.get()
            try:
                self._run(command, folder, document)
            except Exception as error:  # whatever the user's program does, the queue goes on
                log_line(f"queue.notify: {command[0]}: {error}")
            finally:
                self._waiting.task_done()

    def _run(self, command: Sequence[str], folder: Path, document: bytes) -> None:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=sys.stderr, stderr=sys.stderr, cwd=folder, start_new_session=True
        )
        try:
            child.communicate(document, timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            log_line(f"queue.notify: {command[0]} took longer than {self._timeout_s:g} s and was killed")
            return
        if child.returncode:
            log_line(f"queue.notify: {command[0]} ended with exit status {child.returncode}")


# Trackers (`queue.sinks`): a process for each, which the supervisor starts and never waits for

SINK_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "core.sinks")
"""The sink's name and the run folder are appended."""
_MESSAGE_LENGTH = 400


@dataclass(frozen=True, slots=True)
class _Follower:
    name: str
    run: RunPaths
    process: subprocess.Popen[bytes]


class Followers:
    """Those that this supervisor started. What goes wrong with them is said once, and is no run's business."""

    def __init__(self, runs: RunsFolder, log: Journal, command: Sequence[str] = ()) -> None:
        self._runs = runs
        self._log = log
        self._command = tuple(command or SINK_COMMAND)
        self._followers: list[_Follower] = []
        self._started: set[tuple[str, str, int]] = set()
        self._said: set[tuple[str, str]] = set()

    def see_to(self, names: Sequence[str], run: RunPaths, attempt: int) -> None:
        """A detached process for each sink of a run with a trainer, once for each attempt. Never raises.

        Should an earlier one still follow the run, the new one finds its lock held and ends.
        """
        for name in names:
            if (name, run.name, attempt) in self._started:
                continue
            self._started.add((name, run.name, attempt))
            try:
                refuse_link(run.root, run.sink_folder(name))
                # A sink has no business on the trainer's GPU.
                environment = {GPU_VARIABLE: "", STATE_VARIABLE: str(self._runs.state)}
                command = [*self._command, name, str(run.root)]
                process = start_process(command, run.root, run.sink_log(name), environment, cwd=run.root)
            except OSError as error:
                self._report(name, run, f"cannot be started: {error}")
            else:
                self._followers.append(_Follower(name, run, process))

    def look(self) -> None:
        """Say which of them failed since the last look."""
        for follower in list(self._followers):
            code = follower.process.poll()
            if code is None:
                continue
            self._followers.remove(follower)
            if code:
                message = last_line(follower.run.sink_log(follower.name)) or f"ended with exit status {code}"
                self._report(follower.name, follower.run, message)

    def _report(self, name: str, run: RunPaths, message: str) -> None:
        message = message[:_MESSAGE_LENGTH]
        if (name, message) in self._said:
            return
        self._said.add((name, message))
        log_line(f"sink {name} of {run.name}: {message}; the run goes on without it")
        self._log.append(Sink(run=run.name, sink=name, message=message))
