"""The identity of a process: a pid alone is reused, and means nothing on another host. Also how
children are ended, and how a process hears that it is to end itself.

A process is machine + boot + pid namespace + pid + start time, read from /proc (Linux): psutil tells start times by a
clock that may be set, and open files by paths, which are others in a container.
"""

from __future__ import annotations

import hashlib
import os
import platform
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
import select
import socket
from collections.abc import Iterable
from types import FrameType
from typing import Self

PARENT_VARIABLE = "LORA_TUI_PARENT"
"""In the environment of a command that must not outlive the process with this pid."""
_PR_SET_PDEATHSIG = 1
_STATE_FIELD = 0
_START_TIME_FIELD = 19
"""Indices after the parenthesised command name: fields 3 and 22 of proc(5)."""
_DEAD_STATES = frozenset("ZXx")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, never confused with a later one that got the same pid."""

    machine: str
    boot: str
    pid_namespace: str
    pid: int
    start_time: int
    """Clock ticks since boot."""

    def to_json(self) -> dict[str, Any]:
        """The mapping that events and decisions carry."""
        return asdict(self)


def identity_from_json(value: object) -> ProcessIdentity | None:
    """The identity in an event or a decision; None when it is not whole."""
    if not isinstance(value, Mapping):
        return None
    try:
        return ProcessIdentity(
            machine=str(value["machine"]),
            boot=str(value["boot"]),
            pid_namespace=str(value["pid_namespace"]),
            pid=int(value["pid"]),
            start_time=int(value["start_time"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def current_process() -> ProcessIdentity:
    """This process. RuntimeError where there is no /proc."""
    identity = identity_of(os.getpid())
    if identity is None:
        raise RuntimeError("this process is not in /proc: lora-tui needs Linux's /proc file system")
    return identity


def of_this_boot(identity: ProcessIdentity) -> bool:
    """Whether the kernel that it ran under is the one that runs here now."""
    return identity.boot == _boot_id()


def other_host(identity: ProcessIdentity) -> str:
    """`machine`, `boot` (an earlier one of this machine), `container`, whichever tells it from here; or nothing.

    Needs no /proc: runs are judged wherever their folders are copied to.
    """
    if identity.machine != machine_id():
        return "machine"
    if identity.boot != _boot_id():
        return "boot"
    return "container" if identity.pid_namespace != _pid_namespace() else ""


def identity_of(pid: int) -> ProcessIdentity | None:
    """The living process `pid`; None when there is none (a zombie is none)."""
    found = _stat(pid)
    if found is None or found.dead:
        return None
    return ProcessIdentity(machine_id(), _boot_id(), _pid_namespace(), pid, found.start_time)


def is_alive(identity: ProcessIdentity) -> bool | None:
    """Whether that very process lives. None: it is of another machine or container, nobody here can tell."""
    other = other_host(identity)
    if other:
        return False if other == "boot" else None
    found = _stat(identity.pid)
    return found is not None and not found.dead and found.start_time == identity.start_time


def holders(path: Path) -> list[int]:
    """Pids that have `path` open: finds a trainer, or its orphans, by the lock that they inherited."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    return [pid for pid in _pids() if _has_open(pid, wanted)]


def session_of(pid: int) -> int | None:
    """The session that the living process `pid` belongs to: its leader's pid."""
    try:
        return None if identity_of(pid) is None else os.getsid(pid)
    except OSError:
        return None  # it ended in this moment


def session_members(leader: ProcessIdentity) -> list[int]:
    """Pids of the living processes in the session that `leader` made; it may itself be dead.

    Empty when the leader's pid belongs to another process by now: then no member is left, or the kernel would
    not have given the number away.
    """
    now = identity_of(leader.pid)
    if is_alive(leader) is None or (now is not None and now != leader):
        return []
    return [pid for pid in _pids() if session_of(pid) == leader.pid]


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal by now: one that is just starting would die of it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
        mask = next(line for line in lines if line.startswith("SigCgt:")).split()[1]
        return bool(int(mask, 16) & (1 << (number - 1)))
    except (OSError, StopIteration, ValueError, IndexError):
        return False


def usable_cpus() -> int:
    """How many processors this process may run on: in a container often fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def wait_without_spinning() -> None:
    """Have threads that compute sleep while they wait for each other, unless the environment has it otherwise.

    OpenMP's spin for milliseconds first, which takes the core from whoever they wait for where another process is busy.
    To be called before torch is imported, as OpenMP reads the variable once; children inherit it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def end_with_parent() -> None:
    """If `PARENT_VARIABLE` names a parent: die when it dies, so that nothing of a killed trainer works on unseen."""
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if parent.isdigit():
        die_with(int(parent))


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, which has this pid, dies; at once if it is dead already."""
    import ctypes  # only children need it, and the dashboard's first frame waits for what is imported

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)  # it died before the kernel knew of our wish


def end(child: subprocess.Popen[Any], grace_s: float) -> None:
    """SIGTERM to a child of ours, SIGKILL if it lives on after `grace_s` seconds. Returns when it has ended."""
    import subprocess  # a gate that trains nothing answers sooner without it

    child.terminate()
    try:
        child.wait(timeout=grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    for descriptor in _entries(Path(f"/proc/{pid}/fd")):
        try:
            found = descriptor.stat()
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


def _pids() -> list[int]:
    import psutil  # only who looks after trainers needs it

    return list(psutil.pids())


def _entries(folder: Path) -> list[Path]:
    """What is in a folder of /proc; nothing where it is gone or another user's."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class _Stat:
    dead: bool
    start_time: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command name may hold spaces and parentheses: the fields begin after the last one.
    fields = text.rpartition(")")[2].split()
    try:
        dead = fields[_STATE_FIELD] in _DEAD_STATES
        return _Stat(dead, int(fields[_START_TIME_FIELD]))
    except (IndexError, ValueError):
        return None


@cache
def machine_id() -> str:
    """Tells this machine from others."""
    for name in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        text = _first_line(name)
        if text:
            return text
    # Containers often have no machine id; the host name tells them apart well enough.
    return "host-" + hashlib.sha256(platform.node().encode()).hexdigest()[:24]


@cache
def _boot_id() -> str:
    return _first_line("/proc/sys/kernel/random/boot_id") or "unknown"


@cache
def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "unknown"


def _first_line(name: str) -> str:
    try:
        return Path(name).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


# How a process hears that it is to stop: by SIGTERM, and by SIGINT, which Ctrl-C sends


class StopSignals:
    """While entered, both signals are counted; then `came` says what else they do.

    One that was ignored before stays ignored: Ctrl-C does not mean the background job of a script.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last = signal.SIGINT
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def came(self) -> None:
        """After each one; it may raise."""

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.last = signal.Signals(number)
        self.came()


class Interrupts(StopSignals):
    """Both end the command like Ctrl-C: with a KeyboardInterrupt, so that what it holds is let go of."""

    def came(self) -> None:
        """Raise it."""
        raise KeyboardInterrupt


class Later(StopSignals):
    """Both wait for the end of what must not be left in the middle, and then do what they did before."""

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self.count:
            signal.raise_signal(self.last)


class Wakeups(StopSignals):
    """While entered, SIGTERM and SIGINT set `stop_asked`, and SIGHUP is ignored, here and in children."""

    def __init__(self) -> None:
        super().__init__()
        self._ours, self._kernels = socket.socketpair()

    def __enter__(self) -> Self:
        for end in (self._ours, self._kernels):
            end.setblocking(False)
        signal.set_wakeup_fd(self._kernels.fileno(), warn_on_full_buffer=False)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        signal.set_wakeup_fd(-1)
        super().__exit__(*error)
        self._ours.close()
        self._kernels.close()

    @property
    def stop_asked(self) -> bool:
        """Whether a signal said so."""
        return self.count > 0

    def wait(self, pidfds: Iterable[int | None], timeout_s: float) -> None:
        """Return when a process of `pidfds` has ended, a signal came, or after `timeout_s`."""
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        for descriptor in pidfds:
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        if any(descriptor == self._ours.fileno() for descriptor, _ in poll.poll(timeout_s * 1000)):
            self._ours.recv(4096)
