"""FakeSlurm from the outside: its commands in a folder of PATH, and what a test does to its jobs."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel")


class FakeSlurm:
    """`fake_slurm.py` says what it does."""

    def __init__(self, home: Path) -> None:
        self.home, self.commands = home, home / "bin"
        self.commands.mkdir(parents=True)
        fake = Path(__file__).with_name("fake_slurm.py")
        for name in COMMANDS:
            command = self.commands / name
            command.write_text(f'#!/bin/sh\nFAKE_SLURM={home} exec {sys.executable} -I -S {fake} {name} "$@"\n')
            command.chmod(0o755)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", f"{self.commands}{os.pathsep}{os.environ['PATH']}")

    def say(self, name: str, text: str = "") -> None:
        (self.home / name).write_text(text)

    def unsay(self, name: str) -> None:
        (self.home / name).unlink(missing_ok=True)

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """By number, as they were when somebody asked last."""
        path = self.home / "jobs.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def change(self, job: str, **values: Any) -> None:
        """What Slurm does to a job: its `state`, its `reason`, whether it is `purged` from memory …"""
        with (self.home / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            jobs = self.jobs
            jobs[job] |= values
            (self.home / "jobs.json").write_text(json.dumps(jobs))

    def add(self, comment: str, state: str = "RUNNING", **values: Any) -> str:
        """A job that is there, whoever submitted it."""
        jobs = self.jobs
        number = str(len(jobs) + 1)
        known = {"id": number, "state": state, "comment": comment, "reason": "None", "exit": "0:0", "start": "N/A"}
        self.say("jobs.json", json.dumps(jobs | {number: known | values}))
        return number

    def calls(self, command: str) -> list[str]:
        """What one of the commands was asked."""
        path = self.home / "calls.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{command} ")]

    def pid(self, job: str) -> int:
        """Of the process that is the job."""
        return int((self.home / f"{job}.pid").read_text())
