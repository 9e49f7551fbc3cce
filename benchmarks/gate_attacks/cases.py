"""One attack: a copy of the material, changed, and what the commands then say and do."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import select
import shutil
import signal
import stat
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.gate_attacks.material import SETS, Layout, Material, environment

LIMIT_S = 10.0
"""Of computing time, which other work on the machine does not change."""
_WAITING_S = 120.0
"""Of a command that computes nothing: it waits for something that will never come."""
_MOST_OUTPUT = 1 << 20
MEMORY_BYTES = 4 << 30
_KILLED = -9


@dataclass
class Case(Layout):
    """A copy that an attack may change: plan, manifests, runs, state. `outside` holds what nobody may touch."""

    material: Material
    folder: Path
    random: Random
    target: str = "a"
    """The run that is to be judged."""

    @property
    def outside(self) -> Path:
        """Files that no command may touch."""
        return self.folder / "outside"

    @property
    def run(self) -> Path:
        """The folder of the targeted run."""
        return self.runs / self.material.run(self.target).name

    @property
    def other(self) -> Path:
        """The folder of the other run."""
        return self.runs / self.material.run("r" if self.target == "a" else "a").name


def fresh(material: Material, folder: Path, seed: int) -> Case:
    """A copy of the material in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    case = Case(material, folder, Random(seed))
    for name in ("plan.toml", *(f"{name}.jsonl" for name in SETS)):
        shutil.copy2(material.folder / name, folder / name)
    skipped = shutil.ignore_patterns("cache", "run_matrix*", "checkpoints")
    shutil.copytree(material.runs, case.runs, symlinks=True, ignore=skipped)
    shutil.copytree(material.state, case.state, symlinks=True, ignore=shutil.ignore_patterns("audio"))
    shutil.copytree(material.home, case.home, symlinks=True, ignore=shutil.ignore_patterns("audio"))
    (case.outside / "folder" / "checkpoints" / "step-000015").mkdir(parents=True)
    for number, name in enumerate(("notes.txt", "folder/README.md", "folder/checkpoints/step-000015/complete")):
        (case.outside / name).write_text(f"a user's file {number}\n")
    return case


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Mode and content hash of everything below `folder`, links not followed."""
    found: dict[str, tuple[int, str]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = ""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        found[str(path.relative_to(folder))] = (status.st_mode, content)
    return found


@dataclass(frozen=True)
class Done:
    """How a command ended. `code` is negative when it was stopped at one of its limits. `seconds` are of computing."""

    command: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float

    @property
    def faults(self) -> list[str]:
        """What no command may do, whatever is in its files."""
        found = []
        if self.code == _KILLED:
            found.append(f"hung: it waited for {_WAITING_S:g} s")
        elif self.code == -signal.SIGXCPU:
            found.append(f"hung: over {LIMIT_S:g} s of computing")
        elif self.code not in (0, 1, 4, 5, 6):
            found.append(f"exit {self.code}: {self.err.strip().splitlines()[-1:] or ''}")
        if "Traceback" in self.err or "Traceback" in self.out:
            found.append("a traceback")
        if len(self.out) + len(self.err) > _MOST_OUTPUT:
            found.append(f"an output of {len(self.out) + len(self.err)} characters")
        return found


def command(case: Case, arguments: Sequence[str], state: bool = True) -> Done:
    """`lora-tui ARGUMENTS` in a forked process of its own, which has all modules loaded already."""
    options = ["--runs", str(case.runs)] + (["--state", str(case.state)] if state else [])
    taken = [*arguments, *(options if arguments[0] not in ("verify", "export") else [])]
    out, err = case.folder / "stdout", case.folder / "stderr"
    pid = os.fork()
    if pid == 0:
        _child(case, taken, out, err)
    code, seconds = _wait(pid)
    return Done(tuple(taken), code, _text(out), _text(err), seconds)


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


def _child(case: Case, arguments: Sequence[str], out: Path, err: Path) -> None:
    """Never returns."""
    code = 99
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (int(LIMIT_S), int(LIMIT_S) + 1))
        for number, path in ((0, Path(os.devnull)), (1, out), (2, err)):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(path, flags, 0o600), number)
        os.environ.clear()
        os.environ.update(environment(case.home))
        os.chdir(case.folder)
        from lora_tui.__main__ import main

        code = main(list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # the parent reads it in stderr
        with contextlib.suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(pid: int) -> tuple[int, float]:
    """(exit code, seconds of computing)"""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(_WAITING_S * 1000):
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(descriptor)
    _, status, used = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def replace_in_plan(case: Case, old: str, new: str) -> None:
    """Put `new` in place of what the plan says first; ValueError where it does not say so."""
    text = case.plan.read_text()
    if old not in text:
        raise ValueError(f"the plan has no {old}")
    case.plan.write_text(text.replace(old, new, 1))


def figures(document: dict[str, Any], experiment: str) -> dict[str, Any] | None:
    """What the gate's JSON says of the row: its criteria with their numbers, and its WERs. None without the row.

    Reasons are left out: they name the guardrail by which a candidate was chosen, which is the run's own.
    """
    for row in document.get("rows", ()):
        if row.get("experiment") == experiment:
            names = ("domain_wer", "heldout_wer", "base_domain_wer", "base_heldout_wer", "adapter", "best_step")
            criteria = [{key: value for key, value in one.items() if key != "reason"} for one in row["criteria"]]
            return {name: row.get(name) for name in names if name in row} | {
                "criteria": json.loads(json.dumps(criteria), parse_float=lambda text: round(float(text), 9))
            }
    return None
