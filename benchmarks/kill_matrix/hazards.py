"""What befalls a queue besides kills: torn files, faked identities, a full disk, a clock that is set."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.kill_matrix.kills import Kill
from benchmarks.kill_matrix.world import ACTIVE, Failed, World

STALLED_WITHIN_S = 75.0
NOBODY = "no supervisor is at work"
"""What `queue list` must say of a run whose supervisor is dead too; while one works, such a run is *queued*."""


def _kill_all(world: World, phase: str = "training", after_step: int = 1) -> None:
    """Start a face, and end everything when the run is well on its way."""
    face = world.face()
    world.until(phase, lambda: world.phase()[0] == phase and world.phase()[1] >= after_step, 240, 0.01)
    for pid in (face.pid, world.supervisor(), world.trainer()):
        if pid:
            world.kill(pid)
    face.wait()
    world.until("the end of all", lambda: not world.mine(), 15, 0.02)


def torn_lines(world: World, luck: random.Random) -> list[Kill]:
    """Half a line at the end of both journals, a torn checkpoint, half-written files."""
    _kill_all(world, "training", 4)
    run = world.the_run()
    for path in (run.events, world.runs.decisions):
        line = path.read_bytes().splitlines()[-1]
        with path.open("ab") as file:
            file.write(line[: luck.randrange(1, len(line))])
    torn = run.checkpoint(6)
    if not run.checkpoint_marker(6).exists():
        torn.mkdir(parents=True, exist_ok=True)
        (torn / "state.safetensors").write_bytes(b"half")
    (run.root / ".result.json.x.tmp").write_text("{")
    (run.evals / ".domain.json.y.tmp").write_text("{")
    _expect(world, "crashed", NOBODY)
    world.face()
    return []


def pid_reuse(world: World, luck: random.Random) -> list[Kill]:
    """The trainer's pid belongs to somebody else by now: he is neither taken for the trainer nor killed."""
    del luck
    _kill_all(world)
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        try:
            _forge(world, pid=stranger.pid)
            _expect(world, "crashed", NOBODY)
            world.face().wait()
            if stranger.poll() is not None:
                raise Failed("a stranger that got the trainer's pid was killed")
        finally:
            stranger.kill()
    return []


def another_boot(world: World, luck: random.Random) -> list[Kill]:
    """The trainer belonged to an earlier boot: `queue list` says so, and it costs no retry (there is none)."""
    del luck
    _kill_all(world)
    _forge(world, boot="00000000-0000-0000-0000-000000000000")
    row = world.listed()
    if row["state"] != "crashed" or "restarted" not in row["reason"] or NOBODY not in row["reason"]:
        raise Failed(f"after a restart of the machine `queue list` says {row['state']} ({row['reason']!r})")
    world.face().wait()
    exits = [d.outcome for d in world.decisions if d.kind == "exit"]
    if exits[0] != "rebooted":
        raise Failed(f"a restart of the machine was taken for {exits[0]}")
    return []


def two_supervisors(world: World, luck: random.Random) -> list[Kill]:
    """Four supervisors are started at once, twice: one works, the others refuse."""
    world.face("--detach").wait()
    for _ in range(2):
        old = world.supervisor()
        if old:
            world.kill(old)
        command = [sys.executable, "-P", "-m", "core.queue", str(world.runs.root), "--state", str(world.runs.state)]
        four = [subprocess.Popen(command, env=world.environment, stderr=subprocess.DEVNULL) for _ in range(4)]
        world.until("three refusals", lambda four=four: sum(p.poll() == 4 for p in four) == 3, 60)
        time.sleep(luck.uniform(0, 2))
    world.face()
    return []


def untold_start(world: World, luck: random.Random) -> list[Kill]:
    """The supervisor dies after it started a trainer and before it wrote so down; another comes when it trains.

    There is a second row: it must not be started beside the trainer that nobody told of.
    """
    del luck
    face = world.face()
    world.until("a trainer", world.trainer, 120, 0.002)
    trainer = world.trainer()
    for pid in (face.pid, world.supervisor()):
        if pid:
            world.kill(pid)
    face.wait()
    lines = world.runs.decisions.read_bytes().splitlines(keepends=True)
    world.runs.decisions.write_bytes(b"".join(line for line in lines if b'"decision": "start"' not in line))
    world.until("its training", lambda: world.phase()[0] == "training", 240, 0.05)
    face = world.face()
    world.until("another supervisor", world.supervisor, 60)
    time.sleep(3)
    if trainer is not None and world.most_trainers > 1:
        raise Failed("the only slot was given to a second trainer beside the one that lives")
    return []


@contextmanager
def _tmpfs(folder: Path, size: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def full_disk(world: World, luck: random.Random) -> list[Kill]:
    """The runs folder's disk fills up while the run trains; the queue pauses, and goes on when there is space."""
    del luck
    world.runs.root.mkdir(parents=True, exist_ok=True)
    with _tmpfs(world.runs.root, "400m"):
        world.face()
        world.until("training", lambda: world.phase()[0] == "training", 240, 0.01)
        ballast = world.runs.root / "ballast"
        _fill(ballast)
        world.until("the pause", lambda: _kinds(world).count("pause"), 120)
        row = world.listed()
        if row["state"] not in ("disk_full", "waiting"):
            raise Failed(f"the disk is full, and `queue list` says {row['state']} ({row['reason']})")
        ballast.unlink()
        world.until("going on", lambda: "resume" in _kinds(world), 60)
        world.until("the end", world.done, 240, 0.2)
        world.until("quiet", lambda: not world.mine(), 60, 0.1)
        kept = world.folder / "kept"
        shutil.copytree(world.runs.root, kept, symlinks=True)
    shutil.copytree(kept, world.runs.root, symlinks=True, dirs_exist_ok=True)
    return []


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for block in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"\0" * block):
                    pass
            except OSError:
                continue


def size_limit(world: World, luck: random.Random) -> list[Kill]:
    """The trainer may write no file beyond 30 kB from its training on, its next attempt may: as on a full disk."""
    del luck
    world.face()
    world.until("training", lambda: world.phase()[0] == "training", 240, 0.01)
    pid = world.trainer()
    if pid is not None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (30_000, 30_000))
    world.until("the pause", lambda: _kinds(world).count("pause"), 120)
    return []


def clock_steps(world: World, luck: random.Random) -> list[Kill]:
    """The clock is set two days ahead, then to yesterday, while the run trains: no budget is used up by that."""
    del luck
    offset = world.folder / "clock"
    offset.write_text("0")
    paths = os.pathsep.join((str(Path(__file__).with_name("clock")), world.environment["PYTHONPATH"]))
    world.environment |= {"PYTHONPATH": paths, "KILL_MATRIX_CLOCK": str(offset)}
    world.face()
    for step, seconds in ((1, 2 * 86_400), (5, -86_400)):
        world.until(f"step {step}", lambda step=step: world.phase()[1] >= step, 240, 0.05)
        # a whole new file by rename: the clock is never half set
        offset.with_suffix(".new").write_text(str(seconds))
        offset.with_suffix(".new").replace(offset)
        time.sleep(1)
        _eventually(world, lambda state: state in (*ACTIVE, "done"), "a living run after a step of the clock")
        kill = world.supervisor() if seconds < 0 else world.trainer()
        if kill:
            world.kill(kill)
    return []


def stopped_still(world: World, luck: random.Random) -> list[Kill]:
    """A trainer that is stopped by SIGSTOP is seen as stalled within its time, and as training after SIGCONT."""
    del luck
    world.face()
    world.until("training", lambda: world.phase()[0] == "training", 240, 0.01)
    pid = world.trainer() or 0
    world.kill(pid, signal.SIGSTOP)
    try:
        since = time.monotonic()
        world.until("stalled", lambda: world.listed()["state"] == "stalled", STALLED_WITHIN_S, 2)
        if time.monotonic() - since < 50:
            raise Failed("stalled too soon")
    finally:
        world.kill(pid, signal.SIGCONT)
    _eventually(world, lambda state: state in (*ACTIVE, "done"), "training after SIGCONT")
    return []


def no_tmpfs() -> str:
    """Why there can be no tmpfs; empty: there can."""
    return "" if os.geteuid() == 0 and shutil.which("mount") else "a tmpfs needs root"


def _kinds(world: World) -> list[str]:
    return [decision.kind for decision in world.decisions]


def _expect(world: World, state: str, reason: str) -> None:
    row = world.listed()
    if row["state"] != state or reason not in row["reason"]:
        raise Failed(f"`queue list` says {row['state']} ({row['reason']!r}), not {state}, {reason}")


def _eventually(world: World, right: Callable[[str], bool], what: str) -> None:
    world.until(what, lambda: right(world.listed()["state"]), 15, 0.5)


def _forge(world: World, **fields: Any) -> None:
    """Change the process that the newest attempt and the decisions name."""
    run = world.the_run()
    for path in (run.events, world.runs.decisions):
        lines = []
        for line in path.read_text().splitlines():
            document = json.loads(line)
            if isinstance(document.get("process"), dict) and "supervisor" not in str(document.get("decision")):
                document["process"] |= fields
            lines.append(json.dumps(document) + "\n")
        path.write_text("".join(lines))
