"""Killing one process in one phase, and what must be true of the queue within fifteen seconds after it."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from benchmarks.kill_matrix.world import ACTIVE, POLL_S, STATE_LIMIT_S, Failed, World

VICTIMS = ("face", "supervisor", "trainer", "worker")
_DELAYS_S = {
    "starting": 3.0,
    "training": 0.3,
    "evaluating": 0.3,
    "checkpointing": 0.004,
    "saving": 0.004,
    "finishing": 4.0,
}
"""The kill comes at a random moment within so long after the phase began, so that all of it is hit."""
_SHORT = ("checkpointing", "saving")
_WAIT_S = 240.0
_TRIES = 6
NO_CHILD = (
    "worker: trainers load data in their own process; what they start is the audit of the data, beside the training, "
    "and `lora-cli evaluate`, in finishing; while they start they have no child"
)


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill that was sent."""

    victim: str
    wanted: str
    landed: str
    """The phase in which the trainer was, by its files, when the victim died."""
    step: int
    seconds_to_right_state: float


def strike(world: World, victim: str, phase: str, luck: random.Random, after_step: int = 0) -> list[Kill]:
    """Kill `victim` while the trainer is in `phase`; a kill that landed beside it is repeated at the next chance.

    Failed when the queue does not come to a true state in time. Returns all kills, the last of them in `phase`
    unless the run came to its end before.
    """
    kills: list[Kill] = []
    for _ in range(_TRIES):
        kill = _strike_once(world, victim, phase, luck, after_step)
        if kill is None:
            return kills
        kills.append(kill)
        if kill.landed == phase:
            return kills
        after_step = kill.step
    return kills


def _strike_once(world: World, victim: str, phase: str, luck: random.Random, after_step: int) -> Kill | None:
    delay = luck.uniform(0, _DELAYS_S[phase])
    pid = _victim(world, victim) if phase in _SHORT else None
    deadline = time.monotonic() + _WAIT_S
    while not _reached(world, phase, after_step):
        if world.done() or time.monotonic() > deadline:
            return None
        time.sleep(POLL_S if phase in _SHORT else 0.01)
    time.sleep(delay)
    pid = pid or _victim(world, victim)
    if pid is None:
        return None
    starts, before = len(world.starts()), world.phase()
    events = world.the_run().events
    written = events.read_bytes() if events.exists() else b""
    world.kill(pid)
    sent = time.monotonic()
    if victim == "trainer":
        world.until("the trainer's death", lambda: world.trainer() != pid, 10, 0.005)
    landed, step = before
    if victim == "trainer":
        landed, step = world.phase() if len(world.starts()) == starts else before
    took = _comes_right(world, victim, pid, starts, sent)
    now = events.read_bytes() if events.exists() else b""
    if not now.startswith(written[: written.rfind(b"\n") + 1]):
        raise Failed(f"{victim} killed in {landed}: lines that were in events.jsonl are gone")
    return Kill(victim, phase, landed, step, took)


def _reached(world: World, phase: str, after_step: int) -> bool:
    now, step = world.phase()
    if phase == "starting":
        return now == "starting"
    return now == phase and (
        step > after_step or phase in ("training", "finishing") or (phase == "evaluating" and not after_step)
    )


def _victim(world: World, victim: str) -> int | None:
    if victim == "face":
        return world.faces[-1].pid if world.faces and world.faces[-1].poll() is None else None
    find = {"supervisor": world.supervisor, "trainer": world.trainer, "worker": world.worker}[victim]
    deadline = time.monotonic() + (5 if victim == "worker" else 30)
    while (pid := find()) is None and time.monotonic() < deadline and not world.done():
        time.sleep(0.005)
    return pid


def _comes_right(world: World, victim: str, pid: int, starts: int, sent: float) -> float:
    """Seconds until the queue's files tell the truth again. Failed after fifteen."""
    if victim == "face":
        world.faces[-1].wait()
        trainer, supervisor = world.trainer(), world.supervisor()
        if supervisor is None and not world.done():
            raise Failed("the supervisor died with its face")
        if trainer is None and not world.done() and world.phase()[0] != "ended":
            world.until("a living trainer", lambda: world.trainer() or world.done(), STATE_LIMIT_S)
        world.face()
    elif victim == "supervisor":
        world.until("another supervisor", lambda: _another_supervisor(world, pid), STATE_LIMIT_S)
        held = time.monotonic()
        world.until("the trainer is adopted", lambda: _taken_over(world, starts), STATE_LIMIT_S - min(10, held - sent))
    elif victim == "trainer":
        world.until("the trainer is started again", lambda: len(world.starts()) > starts or world.done(), STATE_LIMIT_S)
    took = time.monotonic() - sent
    supervisor = world.supervisor()
    row = world.listed()
    again = row["state"] == "crashed" and world.listed()["state"] == "crashed"
    if again and supervisor is not None and world.supervisor() == supervisor:
        raise Failed(
            f"{victim} killed: `queue list` says crashed ({row['reason']}), and a supervisor takes it up again"
        )
    living = world.trainer() is not None
    if row["state"] not in (*ACTIVE, "done") and living:
        raise Failed(f"{victim} killed: `queue list` says {row['state']} ({row['reason']}) of a living trainer")
    if row["state"] in ACTIVE and not living and world.listed()["state"] in ACTIVE and world.trainer() is None:
        raise Failed(f"{victim} killed: `queue list` says {row['state']}, and no trainer lives")
    return took


def _another_supervisor(world: World, old: int) -> bool:
    """Whether one works. A face that has replaced too many gives up, as it should; a person starts another face."""
    if all(face.poll() is not None for face in world.faces) and not world.done():
        world.face()
    return world.supervisor() not in (None, old) or world.done()


def _taken_over(world: World, starts: int) -> bool:
    """Whether the new supervisor has said what became of the trainer that it found."""
    told = [d.kind for d in world.decisions if d.kind in ("supervisor_started", "adopt", "start", "exit", "finish")]
    last = len(told) - 1 - told[::-1].index("supervisor_started")
    return bool(told[last + 1 :]) or world.done()
