"""Starting, adopting and ending trainer processes on this machine. Knows nothing of plans.

A trainer inherits the kernel locks of its run (`state/locks/run-….lock`) and of its GPU. So neither ever has two
trainers, whatever was killed when: as long as the trainer or a child that it left behind lives, they are held.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import core
from core.queue.gpu.available import lock_gpus
from core.queue.gpu.choice import uuids
from core.runs.folder import open_append
from core.runs.paths import RunPaths, RunsFolder
from core.runs.state_folder import STATE_VARIABLE
from core.system.locks import KernelLock, holds, inheritors
from core.system.process import ProcessIdentity, identity_of, is_alive, session_members, session_of

TRAINER_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "core.training")
"""The run folder is appended. `-P`: a file in the working folder never shadows a module."""
STOP_GRACE_S = 120.0
"""From SIGTERM (finish the step, save) to SIGKILL of the process group."""
KILL_WAIT_S = 15.0
"""A process in uninterruptible sleep cannot be killed: nobody waits for it longer than this."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"


class LocalTrainer:
    """One trainer that was alive when this object was made: started here, or adopted."""

    def __init__(
        self,
        run: RunPaths,
        identity: ProcessIdentity | None,
        lock: Path,
        child: subprocess.Popen[bytes] | None = None,
        grace_s: float = STOP_GRACE_S,
    ) -> None:
        self.run = run
        self.identity = identity
        """None only for a child that died before it could be looked at."""
        self.gpu = None if identity is None else _gpu_of(identity.pid)
        """UUIDs of the GPUs that it was given, with commas; None: none, or its environment cannot be read."""
        self._lock = lock
        self._child = child
        self._pidfd = None if identity is None else _open_pidfd(identity)
        self._grace_s = grace_s
        self._stop_sent: float | None = None
        self._kill_sent: float | None = None

    @property
    def pidfd(self) -> int | None:
        """Readable when the process has ended; None where the kernel has none."""
        return self._pidfd

    @property
    def exit_status(self) -> int | None:
        """As `subprocess` gives it (negative: killed by that signal); None when adopted or alive."""
        return None if self._child is None else self._child.poll()

    @property
    def attempts_before(self) -> int | None:
        """None: its process tells."""
        return None

    @property
    def job(self) -> str | None:
        """None: it is no job of a cluster."""
        return None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop or killed."""
        return self._stop_sent is not None or self._kill_sent is not None

    def alive(self) -> bool:
        """Whether the trainer process itself lives, whatever it left behind."""
        if self._child is not None:
            return self._child.poll() is None
        return self.identity is not None and is_alive(self.identity) is True

    def stop(self) -> None:
        """Ask it, once, to finish its step, save and end; `escalate` goes on from there."""
        if not self.stopping:
            self._stop_sent = time.monotonic()
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and its process group now."""
        if self._kill_sent is None:
            self._kill_sent = time.monotonic()
            self._signal(signal.SIGKILL)
            self._sweep()

    def escalate(self) -> bool:
        """Kill it if its grace is over. False: it was killed and will not die; waiting on makes no sense."""
        now = time.monotonic()
        if self._kill_sent is None and self._stop_sent is not None and now - self._stop_sent > self._grace_s:
            self.kill()
        return self._kill_sent is None or now - self._kill_sent <= KILL_WAIT_S

    def news(self) -> None:
        """Nobody else knows anything of it."""

    def hold(self, *, held: bool) -> None:
        """It has started: it goes on, and is not started again."""

    def place(self, place: int) -> None:
        """It has started."""

    def end(self, outcome: str, message: str) -> tuple[str, str]:
        """As its files say it."""
        return outcome, message

    def close(self) -> None:
        """After its end: kill what it left behind (such as data workers) and forget it."""
        self._sweep()
        self.release()

    def release(self) -> None:
        """Watch it no longer, though it may live on."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _signal(self, number: signal.Signals) -> None:
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)
        elif self.identity is not None and self.alive():
            _kill(self.identity.pid, number)

    def _sweep(self) -> None:
        """SIGKILL to what is left of its session and to whoever still has its lock from it."""
        left = set(inheritors(self._lock))
        if self.identity is not None:
            left.update(session_members(self.identity))
        for pid in left - {os.getpid()}:
            _kill(pid, signal.SIGKILL)


class LocalExecutor:
    """Trainers as processes of this machine, one for each run."""

    def __init__(
        self, runs: RunsFolder, command: Sequence[str] = TRAINER_COMMAND, grace_s: float = STOP_GRACE_S
    ) -> None:
        self._runs = runs
        self._command = tuple(command)
        self._grace_s = grace_s

    def start(self, run: RunPaths, threads: int, gpu: str | None = None, *, attempts: int = 0) -> LocalTrainer | None:
        """A new trainer for the run, on the GPUs with these UUIDs; without any, its choice of GPU is left as it is.

        None when the run, or a GPU, has a trainer already. OSError: it cannot start (disk full).
        """
        lock = KernelLock.acquire(self._runs.run_lock(run.name))
        if lock is None:
            return None
        locks = [lock]
        environment = {name: str(threads) for name in THREAD_VARIABLES} | {STATE_VARIABLE: str(self._runs.state)}
        try:
            if gpu is not None:
                environment[GPU_VARIABLE] = gpu
                gpu_held = lock_gpus(self._runs, uuids(gpu), run)
                if gpu_held is None:
                    return None
                locks += gpu_held
            command, kept = [*self._command, str(run.root)], [held.descriptor for held in locks]
            child = start_process(command, run.root, run.log, environment, kept=kept)
        finally:
            for held in locks:
                held.release()  # the trainer has inherited it
        trainer = LocalTrainer(run, identity_of(child.pid), lock.path, child, self._grace_s)
        trainer.gpu = gpu
        return trainer

    def adopt(self, run: RunPaths, identity: ProcessIdentity | None) -> LocalTrainer | None:
        """The living trainer of the run that another supervisor, or a person, started; else None.

        `identity` is what the run's newest attempt says of itself, which counts only where that process holds the
        run's lock: what a run folder says may name any process. The lock also finds one that was started a moment ago
        and has said nothing yet; where nobody that inherited it leads a session, a dead trainer left them behind.
        """
        lock = self._runs.run_lock(run.name)
        if identity is not None and is_alive(identity) is True and holds(identity.pid, lock):
            return LocalTrainer(run, identity, lock, grace_s=self._grace_s)
        found = inheritors(lock)
        for pid in found:
            if session_of(pid) == pid:
                return LocalTrainer(run, identity_of(pid), lock, grace_s=self._grace_s)
        for pid in found:
            _kill(pid, signal.SIGKILL)
        return None


def start_process(
    command: Sequence[str],
    home: Path,
    log: Path,
    environment: Mapping[str, str],
    *,
    cwd: Path | None = None,
    kept: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """A process in a session of its own that finds the same `core` package and writes to `log`, a file in `home`.

    `environment`: beside that of this process; `kept`: descriptors that it inherits. OSError: it cannot be started.
    """
    with open_append(home, log) as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=child_environment(environment),
            start_new_session=True,
            pass_fds=kept,
        )


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment for a child that must find the same `core` package; `extra` wins.

    Entries of PYTHONPATH that are empty or relative are left out: they mean the working folder, which is another one
    there, and no code is taken from a runs folder. An installed `core` is found by itself: naming its folder would put
    all that is installed before Python's own library.
    """
    package_parent = str(Path(core.__file__).resolve().parents[1])
    installed = {str(Path(sysconfig.get_path(name)).resolve()) for name in ("purelib", "platlib")}
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(path).is_absolute()]
    paths = given if package_parent in installed else [package_parent, *given]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))} if paths else {}
    return kept | path | dict(extra)


def _gpu_of(pid: int) -> str | None:
    """The UUIDs in the process's CUDA_VISIBLE_DEVICES: what it was started with, whatever became of who started it."""
    import psutil  # only who looks after trainers needs it

    try:
        value = psutil.Process(pid).environ().get(GPU_VARIABLE, "")
    except (psutil.Error, OSError):
        return None
    return value if value and all(one.startswith(("GPU-", "MIG-")) for one in uuids(value)) else None


def _open_pidfd(identity: ProcessIdentity) -> int | None:
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:
        return None
    if is_alive(identity) is True:
        return descriptor
    os.close(descriptor)  # the pid belongs to another process by now
    return None


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
