"""`queue.notify`: a program of the user's that hears when a run ends or the queue pauses. Never holds the queue up."""

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
from pathlib import Path
from typing import Any

from core.console import log_line

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
