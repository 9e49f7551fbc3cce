"""The cases: what is done to a run. Each gets a fresh runs folder and must end as the undisturbed run did."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.kill_matrix import hazards
from benchmarks.kill_matrix.kills import Kill, strike
from benchmarks.kill_matrix.world import PHASES, World

Deed = Callable[[World, random.Random], list[Kill]]


@dataclass(frozen=True, slots=True)
class Case:
    """One runs folder and what happens to it."""

    name: str
    deed: Deed
    retries: int = 50
    checkpoints: bool = True
    """Whether the checkpoints that were written must agree, too: a stop on request adds one."""
    rows: int = 1
    trainers: int = 1
    """How many may live at once."""
    short: bool = False
    skipped: str = ""
    """Why it cannot be run here."""


def cell(victim: str, phase: str) -> Deed:
    """One kill, nothing else."""

    def deed(world: World, luck: random.Random) -> list[Kill]:
        world.face()
        return strike(world, victim, phase, luck)

    return deed


def storm(*victims: str) -> Deed:
    """Every phase of one run in turn, and each of the victims in it."""

    def deed(world: World, luck: random.Random) -> list[Kill]:
        world.face()
        kills: list[Kill] = []
        for phase in PHASES:
            for victim in luck.sample(victims, len(victims)):
                if victim != "worker" or phase != "starting":
                    kills += strike(world, victim, phase, luck)
        return kills

    return deed


def hail(count: int) -> Deed:
    """`count` kills of random processes at random moments, wherever the run is."""

    def deed(world: World, luck: random.Random) -> list[Kill]:
        world.face()
        kills: list[Kill] = []
        while len(kills) < count and not world.done():
            phase = world.until("a phase", lambda: world.phase()[0] or (world.done() and "done"))
            if phase not in PHASES:
                time.sleep(0.1)
                continue
            time.sleep(luck.uniform(0.0, 3.0))
            if world.phase()[0] in PHASES:
                kills += strike(
                    world, luck.choice(("trainer", "trainer", "supervisor", "face")), world.phase()[0], luck
                )[:1]
        return kills

    return deed


def everything_at_once(world: World, luck: random.Random) -> list[Kill]:
    """Face, supervisor, trainer and its children die in the same moment, three times: as in a loss of power."""
    kills: list[Kill] = []
    for phase in ("training", "saving", "finishing"):
        world.face()
        world.until(phase, lambda phase=phase: world.phase()[0] == phase or world.done(), 240, 0.001)
        time.sleep(luck.uniform(0, 0.5))
        landed, step = world.phase()
        victims = [pid for pid in (world.supervisor(), world.faces[-1].pid, world.trainer(), world.worker()) if pid]
        for pid in victims:
            world.kill(pid)
        world.faces[-1].wait()
        world.until("the end of all", lambda: not world.mine(), 10, 0.01)
        row = world.listed()
        if row["state"] != "done" and (row["state"] != "crashed" or hazards.NOBODY not in row["reason"]):
            raise hazards.Failed(f"all is dead, and `queue list` says {row['state']} ({row['reason']!r})")
        kills += [Kill("everything", phase, landed, step, 0.0)] * len(victims)
    return kills


def stopped_and_resumed(world: World, luck: random.Random) -> list[Kill]:
    """`queue stop` and `release` in three phases: the ladder's first rung, with exact resume."""
    for phase in ("starting", "training", "finishing"):
        world.face("--detach")
        world.until(phase, lambda phase=phase: world.phase()[0] == phase, 240, 0.01)
        time.sleep(luck.uniform(0, 0.5))
        world.queue("stop", "k")
        world.until("the stop", lambda: world.listed()["state"] in ("stopped", "held", "done"), 180, 0.5)
        world.queue("release", "k")
    return []


def terminated(world: World, luck: random.Random) -> list[Kill]:
    """SIGTERM to the trainer itself, from outside, five times."""
    world.face()
    for _ in range(5):
        pid = world.until("a trainer", lambda: world.trainer() or (world.done() and -1), 120, 0.01)
        time.sleep(luck.uniform(1.0, 8.0))
        if pid == -1 or world.done():
            break
        world.kill(pid, signal.SIGTERM)
        world.until("its end", lambda pid=pid: world.trainer() != pid, 120, 0.02)
    return []


def all_cases() -> list[Case]:
    """The full matrix. `short` marks what CI runs."""
    cases = [Case("everything at once", everything_at_once)]
    cases += [Case("stop and release", stopped_and_resumed, checkpoints=False)]
    cases += [Case("SIGTERM from outside", terminated, checkpoints=False)]
    cases += [Case("torn last lines", hazards.torn_lines, short=True)]
    cases += [Case("pid reuse (faked)", hazards.pid_reuse)]
    cases += [Case("another boot (faked)", hazards.another_boot, retries=0)]
    cases += [Case("two supervisors at once", hazards.two_supervisors)]
    cases += [Case("supervisor killed before it told of the start", hazards.untold_start, rows=2)]
    cases += [Case("full disk (tmpfs)", hazards.full_disk, skipped=hazards.no_tmpfs())]
    cases += [Case("file size limit on the trainer", hazards.size_limit)]
    cases += [Case("clock steps (faked)", hazards.clock_steps)]
    cases += [Case("SIGSTOP and SIGCONT", hazards.stopped_still)]
    cases += [Case(f"trainer storm #{n}", storm("trainer"), short=n == 1) for n in range(1, 6)]
    cases += [Case(f"face and supervisor storm #{n}", storm("face", "supervisor"), short=n == 1) for n in range(1, 4)]
    cases += [Case("storm on all", storm("face", "supervisor", "trainer", "worker"))]
    cases += [Case(f"hail #{n}", hail(8)) for n in (1, 2)]
    cases += [Case(f"{v} in {p}", cell(v, p)) for v in ("face", "supervisor", "trainer") for p in PHASES]
    cases += [Case(f"worker in {p}", cell("worker", p)) for p in PHASES[1:]]
    return cases
