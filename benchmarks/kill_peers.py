"""The kill matrix's blows against other queues: `python -m benchmarks.kill_peers [--dvc PATH] [--only NAME]`.

Two jobs of fifteen seconds are queued on one slot; while the first one works, its daemon, worker or process is killed
with SIGKILL, and the queue is watched: what it says within 15 s and at the end, whether it takes the living job up
again, runs it twice, or runs both at once. Peers: task-spooler (Debian: task-spooler), DVC (PyPI: dvc, in a venv of its
own), pueue (crates.io only; not driven here: skipped by name). Those that are not installed are skipped. 5 minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

JOB = """\
import os, sys, time
log = open(sys.argv[1], "a", buffering=1)
log.write(f"start {os.getpid()}\\n")
for step in range(60):
    time.sleep(0.25)
    log.write(f"step {step}\\n")
log.write("done\\n")
"""
SHOWN_WITHIN_S = 15.0
END_S = 90.0


class Peer(Protocol):
    """A queue with one slot, in a folder of its own."""

    name: str
    victims: tuple[str, ...]

    def submit(self, folder: Path) -> None:
        """Queue the jobs `first` and `second`, and let it work."""

    def victim(self, what: str) -> int | None:
        """The pid that is to be killed."""

    def state(self, job: str) -> str:
        """What the queue says of the job; empty: it does not know it."""

    def close(self) -> None:
        """End it."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was seen after one kill."""

    peer: str
    killed: str
    lived_on: bool
    shown: str
    at_the_end: str
    finished: bool
    starts: int
    at_once: int
    second: str


class TaskSpooler:
    """`tsp`: a server, and a client process for each job that waits for it and starts it."""

    name = "task-spooler"
    victims = ("server", "client of the job", "job")

    def __init__(self, folder: Path) -> None:
        self._environment = os.environ | {"TS_SOCKET": str(folder / "socket"), "TMPDIR": str(folder), "TS_SLOTS": "1"}
        self._folder = folder

    def submit(self, folder: Path) -> None:
        """Queue both jobs."""
        for job in ("first", "second"):
            self._run("-L", job, sys.executable, str(folder / "job.py"), str(folder / f"{job}.log"))

    def victim(self, what: str) -> int | None:
        """The pid of what is to be killed."""
        job = job_pid(self._folder, "first")
        if what == "job" or job is None:
            return job
        if what == "client of the job":
            return parent_of(job)
        clients = {parent_of(job)}
        mine = [
            pid for pid in pids_with("tsp") if environment_of(pid).get("TS_SOCKET") == self._environment["TS_SOCKET"]
        ]
        # The server is the only one that has the socket's log of jobs open: it listens, the clients do not.
        return next((pid for pid in sorted(mine) if pid not in clients and listens(pid, self._folder / "socket")), None)

    def state(self, job: str) -> str:
        """Its word for the job."""
        for line in self._run("-l").splitlines():
            if f"[{job}]" in line:
                words = line.split()
                return f"{words[1]}{f' (exit {words[3]})' if words[1] == 'finished' else ''}"
        return ""

    def close(self) -> None:
        """End it."""
        self._run("-K")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tsp", *arguments], capture_output=True, text=True, env=self._environment, timeout=30, check=False
        )
        return done.stdout


class Dvc:
    """`dvc queue`: a celery worker for the queue, an executor for the experiment, the stage's command."""

    name = "dvc queue"
    victims = ("worker", "executor", "job")

    def __init__(self, folder: Path, program: str) -> None:
        self._folder, self._program = folder, program
        self._environment = os.environ | {
            "DVC_NO_ANALYTICS": "1",
            "PATH": f"{Path(program).parent}:{os.environ['PATH']}",
        }

    def submit(self, folder: Path) -> None:
        """Queue both jobs."""
        repository = folder / "repository"
        repository.mkdir()
        self._in(repository, "git", "init", "-q")
        self._in(repository, self._program, "init", "-q")
        stage = f"{sys.executable} {folder}/job.py {folder}/${{job}}.log && touch out"
        (repository / "params.yaml").write_text("job: none\n")
        (repository / "dvc.yaml").write_text(
            f"stages:\n  work:\n    cmd: {stage}\n    params: [job]\n    outs: [out]\n"
        )
        self._in(repository, "git", "add", "-A")
        self._in(repository, "git", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "start")
        for job in ("first", "second"):
            self._in(repository, self._program, "exp", "run", "--queue", "-n", job, "-S", f"job={job}")
        self._in(repository, self._program, "queue", "start", "-j", "1")

    def victim(self, what: str) -> int | None:
        """The pid of what is to be killed."""
        job = job_pid(self._folder, "first")
        if what == "job" or job is None:
            return job
        chain = [job]
        while (parent := parent_of(chain[-1])) not in (None, 0, 1):
            chain.append(parent)
        words = [(pid, " ".join(command_of(pid))) for pid in chain]
        if what == "executor":
            return next((pid for pid, line in words if "exec-run" in line), None)
        return next((pid for pid, line in words if "queue-worker" in line), None)

    def state(self, job: str) -> str:
        """Its word for the job."""
        for line in self._in(self._folder / "repository", self._program, "queue", "status").splitlines():
            if job in line.split():
                return line.split()[-1]
        return ""

    def close(self) -> None:
        """End it."""
        self._in(self._folder / "repository", self._program, "queue", "stop", "--kill")
        for pid in pids_with("python"):
            with contextlib.suppress(OSError):
                if str(self._folder) in str(Path(f"/proc/{pid}/cwd").readlink()):
                    os.kill(pid, signal.SIGKILL)

    def _in(self, folder: Path, *command: str) -> str:
        # into a file: a worker that it leaves behind would keep a pipe open
        with tempfile.TemporaryFile("w+") as said:
            subprocess.run(
                command, cwd=folder, stdout=said, stderr=said, env=self._environment, timeout=180, check=False
            )
            said.seek(0)
            return said.read()


def strike(peer: Peer, what: str, folder: Path) -> Row:
    """Queue two jobs, kill `what` while the first works, and watch."""
    (folder / "job.py").write_text(JOB)
    try:
        peer.submit(folder)
        until(lambda: len(lines(folder, "first")) > 4, 120)
        victim, job = peer.victim(what), job_pid(folder, "first")
        if victim is None or job is None:
            return Row(peer.name, what, False, "there is no such process", "", False, 0, 0, "")
        os.kill(victim, signal.SIGKILL)
        at_once, killed = 0, time.monotonic()
        shown = ""
        while time.monotonic() - killed < SHOWN_WITHIN_S:
            at_once = max(at_once, living(folder))
            time.sleep(0.25)
            if not shown and time.monotonic() - killed > 3:
                lived_on = job_pid(folder, "first") == job
                shown = peer.state("first") or "unknown to it"
        deadline = time.monotonic() + END_S
        while time.monotonic() < deadline and not (finished(folder, "first") and finished(folder, "second")):
            at_once = max(at_once, living(folder))
            time.sleep(0.25)
            if not living(folder):
                time.sleep(5)
                if not living(folder):
                    break
        end = peer.state("first") or "unknown to it"
        second = peer.state("second") or "unknown to it"
        starts = sum(line.startswith("start") for line in lines(folder, "first"))
        ran = f"{second}, {'ran' if finished(folder, 'second') else 'never ran to its end'}"
        return Row(peer.name, what, lived_on, shown, end, finished(folder, "first"), starts, at_once, ran)
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            peer.close()
        for name in ("first", "second"):
            if (pid := job_pid(folder, name)) is not None:
                os.kill(pid, signal.SIGKILL)


def lines(folder: Path, job: str) -> list[str]:
    """What the job has written."""
    path = folder / f"{job}.log"
    return path.read_text().splitlines() if path.exists() else []


def finished(folder: Path, job: str) -> bool:
    """Whether the job came to its end."""
    return "done" in lines(folder, job)


def job_pids(folder: Path, job: str) -> list[int]:
    """Living processes of the job."""
    started = [int(line.split()[1]) for line in lines(folder, job) if line.startswith("start")]
    return [pid for pid in started if str(folder / f"{job}.log") in command_of(pid)]


def job_pid(folder: Path, job: str) -> int | None:
    """The newest living process of the job."""
    return next(iter(reversed(job_pids(folder, job))), None)


def living(folder: Path) -> int:
    """How many jobs live now: there is one slot."""
    return sum(len(job_pids(folder, job)) for job in ("first", "second"))


def command_of(pid: int) -> list[str]:
    """Its arguments; empty when it is dead."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


def environment_of(pid: int) -> dict[str, str]:
    """Its environment."""
    with contextlib.suppress(OSError):
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return {}


def parent_of(pid: int) -> int | None:
    """Its parent's pid."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def pids_with(text: str) -> list[int]:
    """Living processes with it in their command line."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if any(text in word for word in command_of(pid))]


def listens(pid: int, socket: Path) -> bool:
    """Whether the process has the listening end of the Unix socket open."""
    table = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[6]}]" for row in table if len(row) > 7 and row[7] == str(socket) and row[3] == "00010000"}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()) in inodes:
                return True
    return False


def until(holds: Callable[[], bool], limit_s: float) -> None:
    """Wait for it."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("the first job did not start")
        time.sleep(0.05)


def main() -> int:
    """Drive the peers that are there; print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_peers")
    parser.add_argument("--dvc", default=shutil.which("dvc"), help="the program of a DVC that is not on PATH")
    parser.add_argument("--only", default="", help="task-spooler or dvc")
    parser.add_argument("--kill", default="", help="only this victim")
    options = parser.parse_args()
    rows: list[Row] = []
    makers: list[tuple[str, tuple[str, ...], Callable[[Path], Peer] | None, str]] = [
        (
            "task-spooler",
            TaskSpooler.victims,
            TaskSpooler if shutil.which("tsp") else None,
            "not installed (Debian: task-spooler)",
        ),
        (
            "dvc queue",
            Dvc.victims,
            (lambda folder: Dvc(folder, options.dvc)) if options.dvc else None,
            "not installed (PyPI: dvc, in a venv of its own; --dvc PATH)",
        ),
        ("pueue", (), None, "not driven: it is on crates.io only (`cargo install pueue`)"),
    ]
    for name, victims, make, missing in makers:
        if options.only and options.only not in name:
            continue
        if make is None:
            print(f"skipped  {name}: {missing}")
            continue
        for what in (victim for victim in victims if options.kill in victim):
            with tempfile.TemporaryDirectory(prefix="kill-peers-", ignore_cleanup_errors=True) as folder:
                rows.append(strike(make(Path(folder)), what, Path(folder)))
                print(rows[-1], flush=True)
    head = "Queue, Killed, Job lives on, Shown within 15 s, Shown at the end, Job finished, Starts, At once, Next job"
    print(f"\n| {head.replace(', ', ' | ')} |\n{'|---' * 9}|")
    for row in rows:
        cells = (row.peer, row.killed, _word(row.lived_on), row.shown, row.at_the_end, _word(row.finished))
        print("| " + " | ".join((*cells, str(row.starts), str(row.at_once), row.second)) + " |")
    return 0 if rows else 1


def _word(value: bool) -> str:
    return "yes" if value else "no"


if __name__ == "__main__":
    sys.exit(main())
