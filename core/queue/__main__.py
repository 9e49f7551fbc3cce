"""`python -m core.queue RUNS_DIR --state STATE`: the supervisor process, which faces start detached."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path

from core.console import err, log_line
from core.errors import ExitCode, RunFolderError, is_disk_full, may_pass
from core.queue import journal
from core.queue.client import ELSEWHERE, say_code, told_to_stop
from core.queue.executor import LocalExecutor
from core.queue.executors import Cluster, Executor
from core.queue.gpu.choice import Devices
from core.queue.pauses import LOOK_S
from core.queue.supervisor import DISK_FULL, Supervisor
from core.runs.paths import RunsFolder
from core.runs.state_folder import runs_folder
from core.system.locks import KernelLock, is_held
from core.system.process import Wakeups, current_process


def main(argv: list[str] | None = None) -> int:
    """Work on what is submitted until nothing is left; refuse when another supervisor does so already."""
    parser = argparse.ArgumentParser(prog="python -m core.queue", description=__doc__)
    parser.add_argument("runs", type=Path, metavar="RUNS_DIR")
    parser.add_argument("--state", type=Path, help="folder of queue, locks and caches; default: one of the user's own")
    arguments = parser.parse_args(argv)
    runs = runs_folder(arguments.runs, arguments.state)
    return supervise(runs, LocalExecutor(runs))


def supervise(
    runs: RunsFolder,
    executor: Executor,
    devices: Callable[[], Devices] | None = None,
    cluster: Cluster | None = None,
) -> int:
    """Take the lock and work. 0: nothing is left, or told to stop; 3: disk full; 4: another has the lock.

    5: one on another machine, which shares the runs folder, works on it.

    2: the runs folder is no longer at its path; what worked there has stopped.
    """
    try:
        taken = _take(runs)
        if isinstance(taken, ExitCode):
            return taken
        with taken, Wakeups() as wakeups:
            while not _worked(partial(Supervisor, runs, taken.close, executor, devices, cluster), wakeups):
                wakeups.wait((), LOOK_S)
    except RunFolderError as error:
        log_line(f"{error}; submit the plan again where it is to go on")
        return ExitCode.INTERRUPTED
    except OSError as error:
        if not is_disk_full(error):
            raise
        log_line(f"{DISK_FULL}: {error}; free some space and run again: nothing that was finished is lost")
        return ExitCode.INTERNAL
    return ExitCode.ACCEPTED


def _take(runs: RunsFolder) -> ExitStack | ExitCode:
    """The claim on the decisions and the lock of this machine, to be let go of together; or the exit code without them.

    The claim comes first: a lock that is held tells faces that its supervisor hears what they ask for.
    """
    while True:
        with ExitStack() as taken:
            here = is_held(runs.supervisor_lock)
            claim = _claim(runs)
            if claim is not None:
                taken.enter_context(claim)
                lock = KernelLock.acquire(runs.supervisor_lock)
                if lock is not None:
                    taken.callback(lock.release)
                    lock.write_owner(f"{current_process().pid}\n")
                    say_code(runs, current_process().pid)
                    return taken.pop_all()
            elif not here and not is_held(runs.supervisor_lock):
                err(ELSEWHERE.format(runs.root))
                return ExitCode.NOTHING_TO_JUDGE
        if not told_to_stop(runs):
            err(f"another supervisor works on {runs.root} already")
            return ExitCode.BAD_USAGE


def _claim(runs: RunsFolder) -> AbstractContextManager[object] | None:
    """The decisions' file, claimed; None: another supervisor has it, of this machine or not."""
    try:
        return journal.claim(runs.decisions)
    except OSError:
        return nullcontext()  # it cannot be written: whoever works says so, and whether that may pass


def _worked(made: Callable[[], Supervisor], wakeups: Wakeups) -> bool:
    """Work until nothing is left. False: something is in the way that may be over later, such as a full disk.

    Nothing that matters is in memory: a new Supervisor goes on as after a death, and `wakeups` remembers that it was
    told to stop. OSError: there is no hope, such as when it is not the disk but a limit on the size of files.
    """
    try:
        made().run(wakeups)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            log_line(f"{DISK_FULL}: {error}; waiting for space: trainers and what was finished are safe")
        elif may_pass(error):
            log_line(f"{error}; tried again: trainers and what was finished are safe")
        else:
            raise
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
