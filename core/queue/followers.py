"""The processes that tell sinks of runs (`queue.sinks`). The supervisor starts them, and never waits for one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from core.console import log_line
from core.queue.executor import GPU_VARIABLE, start_process
from core.queue.journal import Journal, Sink
from core.runs.folder import refuse_link
from core.runs.paths import RunPaths, RunsFolder
from core.runs.state_folder import STATE_VARIABLE
from core.runs.store import last_line

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
