"""One runs folder under fire: real faces, the real supervisor, real trainers, and what their files say meanwhile.

Observation only: phases are read from `events.jsonl`, `decisions.jsonl`, folders and /proc, at millisecond intervals.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.queue.executor import child_environment
from core.queue.journal import Adopt, Record, Start, records
from core.runs.paths import RunPaths, RunsFolder
from core.runs.state_folder import STATE_VARIABLE
from core.system.locks import is_held
from core.system.process import identity_from_json, is_alive, session_of

PHASES = ("starting", "training", "evaluating", "checkpointing", "saving", "finishing")
ACTIVE = ("starting", "training", "evaluating", "checkpointing", "saving", "finishing")
POLL_S = 0.0005
STATE_LIMIT_S = 15.0
_OF_PHASE = {"loading": "starting", "baseline": "evaluating"}


class Failed(Exception):
    """The case did not go as it must."""


class World:
    """The runs folder of one case."""

    def __init__(self, folder: Path, plan: Path, environment: dict[str, str] | None = None) -> None:
        """`environment`: what differs from this process's, beside PYTHONPATH: the project need not be installed."""
        self.folder, self.plan = folder, plan
        folder.mkdir(parents=True, exist_ok=True)
        self.runs = RunsFolder(folder / "runs", folder / "state")
        self.environment = child_environment({STATE_VARIABLE: str(self.runs.state), **(environment or {})})
        self.faces: list[subprocess.Popen[bytes]] = []
        self.most_trainers = 0
        self._over = threading.Event()
        self._census = threading.Thread(target=self._count, daemon=True)
        self._census.start()

    # Faces

    def face(self, *options: str) -> subprocess.Popen[bytes]:
        """A headless face on the plan, attached unless `--detach` is given."""
        command = [sys.executable, "-m", "lora_tui", "--headless", str(self.plan), "--runs", str(self.runs.root)]
        with (self.folder / "face.log").open("ab") as log:
            face = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,
            )
        self.faces.append(face)
        return face

    def queue(self, *arguments: str) -> str:
        """`lora-tui queue …` as a person types it."""
        command = [sys.executable, "-m", "lora_tui", "queue", *arguments, "--runs", str(self.runs.root)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, check=False)
        if done.returncode:
            raise Failed(f"queue {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def listed(self, row: str = "k") -> dict[str, Any]:
        """The row as `queue list --all --json` shows it.

        A plan that was submitted again is listed beside its run, without one, until a supervisor has looked at it.
        """
        rows = json.loads(self.queue("list", "--all", "--json"))["rows"]
        every = [item for item in rows if row in (item["row"], item["experiment"])]
        found = [item for item in every if item["run"] is not None] or every
        if len(found) != 1:
            raise Failed(f"queue list shows {len(found)} rows for {row}: {rows}")
        return dict(found[0])

    # What the files say

    @property
    def decisions(self) -> list[Record]:
        """What the supervisors did so far."""
        return list(records(self.runs.decisions))

    def starts(self, row: str = "k") -> list[Start]:
        """The starts of a row's trainers, adoptions not counted."""
        return [d for d in self.decisions if isinstance(d, Start) and not isinstance(d, Adopt) and d.row == row]

    def run(self, row: str = "k") -> RunPaths | None:
        """The run's folder once it is there."""
        return next((run for run in self.runs.runs() if run.name.startswith(f"{row}-")), None)

    def the_run(self) -> RunPaths:
        """The run of `k`. Failed when there is none."""
        run = self.run()
        if run is None:
            raise Failed("no run was ever started")
        return run

    def supervisor(self) -> int | None:
        """The pid of the supervisor that holds the lock."""
        if not is_held(self.runs.supervisor_lock):
            return None
        with contextlib.suppress(OSError, ValueError):
            return int(self.runs.supervisor_lock.read_text())
        return None

    def trainer(self) -> int | None:
        """The pid of the living trainer that was started last."""
        for decision in reversed(self.decisions):
            if isinstance(decision, Start):
                identity = identity_from_json(decision.process)
                return identity.pid if identity is not None and is_alive(identity) else None
        return None

    def worker(self) -> int | None:
        """A child of the living trainer: the audit of the data, or `lora-cli evaluate` at its end."""
        trainer = self.trainer()
        if trainer is None:
            return None
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(Path(f"/proc/{trainer}/task/{trainer}/children").read_text().split()[0])
        return None

    def phase(self) -> tuple[str, int]:
        """(phase, step) by the files at this moment; ("", 0) before anything was started."""
        run = self.run()
        if run is None:
            return "", 0
        starts = self.starts()
        # a trainer that was killed before its first event leaves no attempt
        return phase_of(run, int(starts[-1].attempts_before or 0) if starts else 0)

    def done(self) -> bool:
        """Whether `k` has a result."""
        run = self.run()
        return run is not None and run.result.is_file()

    # Waiting

    def until(self, what: str, holds: Callable[[], Any], limit_s: float = 120.0, poll_s: float = 0.05) -> Any:
        """What `holds` gives once it is true. Failed when that takes longer than `limit_s`."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            found = holds()
            if found:
                return found
            time.sleep(poll_s)
        raise Failed(f"{what}: not within {limit_s:.0f} s; the end of the face's log: {self.tail('face.log')}")

    def tail(self, name: str, size: int = 400) -> str:
        """The end of a file of the case's folder."""
        with contextlib.suppress(OSError):
            return (self.folder / name).read_text(errors="replace")[-size:]
        return ""

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal, if the process is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    # Census

    def _count(self) -> None:
        """How many trainers live at the same time in this folder: there is one slot, so more than one is a fault."""
        needle = str(self.runs.root).encode()
        while not self._over.wait(0.1):
            named = [pid for pid, words in command_lines() if b"core.training" in words and needle in b" ".join(words)]
            # a trainer leads its session; a child that it has forked has its command line until it calls exec
            living = [pid for pid in named if session_of(pid) == pid]
            self.most_trainers = max(self.most_trainers, len(living))

    def mine(self) -> list[int]:
        """Every living process that works in this folder."""
        needle = str(self.runs.root).encode()
        return [pid for pid, words in command_lines() if any(needle in word for word in words) and pid != os.getpid()]

    def close(self) -> None:
        """End the census and whatever still works in the folder (only a failed case leaves any)."""
        self._over.set()
        self._census.join()
        for pid in self.mine():
            self.kill(pid)
        for face in self.faces:
            face.kill()
            face.wait()


def command_lines() -> list[tuple[int, list[bytes]]]:
    """(pid, arguments) of the living processes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0]:
                    found.append((int(entry.name), words))
    return found


def phase_of(run: RunPaths, attempts_before: int) -> tuple[str, int]:
    """Where the newest trainer is; at its start the run had `attempts_before` attempts."""
    try:
        lines = run.events.read_bytes().split(b"\n")[:-1]
    except OSError:
        return "starting", 0
    attempts = sum(line.startswith(b'{"event": "attempt_started"') for line in lines)
    if attempts <= attempts_before:
        return "starting", 0
    for line in reversed(lines):
        event = json.loads(line) if line.startswith(b"{") else {}
        if event.get("event") == "attempt_started":
            return "starting", 0
        if event.get("event") == "final":
            return "ended", 0
        if event.get("event") == "phase":
            step, name = event.get("step") or 0, _OF_PHASE.get(event["phase"], event["phase"])
            if name == "evaluating" and step and not (run.adapter(step) / "reproduce.json").exists():
                name = "saving"  # the adapter is written first, then scored
            return name, step
    return "starting", 0
