"""The audit of a run's data, beside the training: a process of its own, which ends before the run does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from types import TracebackType

from core.console import err
from core.errors import Interrupted
from core.runs.data_health import read_health
from core.runs.documents import read_config
from core.runs.events import Notice
from core.runs.paths import RunPaths
from core.scoring.data_health import copies_sentence, leak_sentence
from core.system.process import PARENT_VARIABLE, end, usable_cpus
from core.training.journal import Journal
from core.training.stopping import StopFlag

NICENESS = 19
"""Training goes first; the audit has until its end. The kernel gives it 15 parts where a trainer's thread has 1024."""
MOST_STARTS = 3
"""How often it is tried when something kills it, such as the kernel for want of memory."""
_POLL_S = 0.2
_STOP_S = 10.0


class HealthAudit:
    """`lora-cli manifest check --run`, unless the run's folder has its result. Leaving the block ends it."""

    def __init__(self, paths: RunPaths) -> None:
        self._paths = paths
        self._child: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def __enter__(self) -> HealthAudit:
        config, _ = read_config(self._paths)
        if read_health(self._paths, config)[0] is None:
            self._start()
        return self

    def _start(self) -> None:
        command = [sys.executable, "-P", "-m", "core.cli", "manifest", "check", "--run", str(self._paths.root)]
        command += ["--workers", str(max(1, usable_cpus() // 2))]
        environment = os.environ | {PARENT_VARIABLE: str(os.getpid())}
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=os.sep, env=environment)
        self._starts += 1
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._child.pid, NICENESS)

    def _goes_on(self) -> bool:
        """Whether it is at work; one that something killed is started again, a few times."""
        status = 0 if self._child is None else self._child.poll()
        if status is not None and status < 0 and self._starts < MOST_STARTS:
            err(f"the audit of the data was killed by signal {-status}")
            self._start()
            return True
        return status is None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        child = self._child
        if child is None or child.poll() is not None:
            return
        end(child, _STOP_S)

    def finish(self, journal: Journal, stopping: StopFlag, step: int) -> None:
        """Wait for its end; say what leaves the run's WERs undecided. Raises Interrupted when asked to stop."""
        if self._goes_on():
            journal.phase("finishing", step, "audit of the data")
            while self._goes_on():
                if stopping():
                    raise Interrupted("stopped while the data were audited; that is made again on resume")
                time.sleep(_POLL_S)
        config, _ = read_config(self._paths)
        health, problem = read_health(self._paths, config)
        if health is None:
            code = "" if self._child is None else f" (exit code {self._child.returncode}; its message is in log.txt)"
            journal.emit(
                Notice(
                    "warning",
                    f"the data could not be audited{code}{f': {problem}' if problem else ''}, so the criteria on error "
                    f"rates stay unknown: `lora-cli manifest check --run {self._paths.root}` tries again",
                )
            )
            return
        if health.leaks:
            journal.emit(Notice("warning", f"leakage: {leak_sentence(health.leaks)}"))
        if copies := health.too_many_copies:
            journal.emit(Notice("warning", f"copies: {copies_sentence(health, copies)}"))
