"""What is killed, and when. Each case is one run `k` on the test cluster, disturbed and left to come to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.kill_matrix.world import ACTIVE, Failed
from benchmarks.slurm.cluster import NODES
from benchmarks.slurm.world import SlurmWorld, pause, wait_up

WAITING = ("waiting", "queued")
TRUE_STATE_S = 45.0
"""A poll comes at most 30 s after the one before; and a controller that was killed needs some seconds to answer."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One disturbance that happened."""

    what: str
    phase: str
    """In which the trainer was, by its files."""
    state: str
    """What the queue said of the row then: the first of the words that are true after it."""
    seconds: float
    """Until it said so."""


Deed = Callable[[SlurmWorld], Iterator[Kill]]


def _then(world: SlurmWorld, what: str, phase: str, true: tuple[str, ...], *, reason: str = "") -> Kill:
    """Wait until the queue says what is true now. `reason`: a part of what it gives as one."""
    sent = time.monotonic()
    seen = ""

    def says() -> str:
        nonlocal seen
        listed = world.listed()
        seen = f"{listed['state']} ({listed['reason']})"
        return str(listed["state"]) if listed["state"] in true and reason in (listed["reason"] or "") else ""

    try:
        state = world.until("the true state", says, TRUE_STATE_S, 0.2)
    except Failed as failure:
        raise Failed(f"after {what} in {phase} the queue says {seen}, and not {' or '.join(true)}") from failure
    return Kill(what, phase, str(state), round(time.monotonic() - sent, 1))


def slurmctld(world: SlurmWorld) -> Iterator[Kill]:
    """The controller dies; jobs go on without it, and it comes back."""
    for phase in ("starting", "training", "evaluating", "finishing"):
        world.reach(phase, after_step=4 if phase == "evaluating" else 0)
        world.cluster.kill("slurmctld")
        yield _then(world, "slurmctld", phase, (*ACTIVE, "done"))
        time.sleep(2)
        world.cluster.start_slurmctld()


def slurmd(world: SlurmWorld) -> Iterator[Kill]:
    """A node's daemon dies and comes back: the job never hears of it."""
    for phase in ("training", "evaluating"):
        world.reach(phase, after_step=4 if phase == "evaluating" else 0)
        node = world.node()
        world.cluster.kill(f"slurmd-{node}")
        yield _then(world, "slurmd", phase, (*ACTIVE, "done"))
        world.cluster.start_slurmd(node)


def node(world: SlurmWorld) -> Iterator[Kill]:
    """A node loses its power; the run goes on on the other one."""
    for phase in ("training", "evaluating"):
        world.reach(phase, after_step=4 if phase == "evaluating" else 0)
        lost = world.node()
        world.kill_node(lost)
        yield _then(world, "node", phase, WAITING + ACTIVE)
        world.until("the run goes on elsewhere", lambda: world.trainers() or world.done(), 180, 0.5)
        if not world.done() and world.node() == lost:
            raise Failed(f"{lost} is dead, and Slurm runs the job there")
        wait_up(world.cluster)


def job(*phases: str) -> Deed:
    """The trainer is killed on its node."""

    def deed(world: SlurmWorld) -> Iterator[Kill]:
        for phase in phases:
            before = len(world.starts())
            world.reach(phase, after_step=4 if phase == "evaluating" else 0)
            if (pid := world.trainer()) is None:
                raise Failed(f"no trainer in {phase}")
            world.kill(pid)
            world.until("another job", lambda seen=before: len(world.starts()) > seen or world.done(), 90)
            yield _then(world, "job", phase, WAITING + ACTIVE + ("done",))

    return deed


def supervisor(world: SlurmWorld) -> Iterator[Kill]:
    """The face starts another supervisor, which finds the job."""
    for phase in ("starting", "training", "evaluating", "finishing"):
        world.reach(phase, after_step=4 if phase == "evaluating" else 0)
        pid, jobs = world.supervisor(), len(world.jobs())
        if pid is None:
            raise Failed("no supervisor is at work")
        world.kill(pid)
        world.until("another supervisor", lambda old=pid: world.supervisor() not in (None, old) or world.done(), 60)
        yield _then(world, "supervisor", phase, (*ACTIVE, "done"))
        if len(world.jobs()) > jobs:
            raise Failed("it submitted a second job")


def unrecorded(world: SlurmWorld) -> Iterator[Kill]:
    """The supervisor dies between sbatch and its record, at the first start and at two restarts."""
    yield Kill("supervisor", "between sbatch and record", *_after_sbatch(world))
    for phase in ("training", "evaluating"):
        world.reach(phase)
        world.arm_sbatch()
        if (pid := world.trainer()) is None:
            raise Failed(f"no trainer in {phase}")
        world.kill(pid)
        yield Kill("supervisor", "between sbatch and record", *_after_sbatch(world))


def _after_sbatch(world: SlurmWorld) -> tuple[str, float]:
    world.until("sbatch", lambda: not world.armed(), 120, 0.1)
    found = _then(world, "supervisor", "between sbatch and record", WAITING + ACTIVE)
    return found.state, found.seconds


def drained(world: SlurmWorld) -> Iterator[Kill]:
    """Its node is drained while it trains; then both are while its next job waits."""
    world.reach("training")
    update = ("scontrol", "update")
    world.cluster.run(*update, f"NodeName={world.node()}", "State=DRAIN", "Reason=test")
    yield _then(world, "drain", "training", ACTIVE)
    for name in NODES:
        world.cluster.run(*update, f"NodeName={name}", "State=DRAIN", "Reason=test")
    if (pid := world.trainer()) is not None:
        world.kill(pid)
    yield _then(world, "drain", "waiting", WAITING, reason="Slurm job")
    for name in NODES:
        world.cluster.run(*update, f"NodeName={name}", "State=RESUME")


def limit(world: SlurmWorld) -> Iterator[Kill]:
    """The time limit comes near, and the trainer saves; then it comes while the trainer hears nothing."""
    for what in ("time limit, in time", "time limit, too late"):
        world.reach("training")
        before = len(world.starts())
        if (pid := world.trainer()) is None:
            raise Failed("no trainer")
        world.cluster.run("scontrol", "update", f"JobId={world.the_job()}", "TimeLimit=1")
        pause(pid, 20 if what.endswith("in time") else 110)
        world.until("another job", lambda seen=before: len(world.starts()) > seen, 150)
        yield _then(world, what, "training", (*WAITING, *ACTIVE, "done"))


def purged(world: SlurmWorld) -> Iterator[Kill]:
    """Nobody is at work when the job dies, and Slurm has forgotten it when somebody comes."""
    world.reach("training", after_step=0)
    for face in world.faces:
        world.kill(face.pid)
    if (pid := world.supervisor()) is not None:
        world.kill(pid)
    number = world.the_job()
    yield _then(world, "supervisor", "training", ACTIVE)
    if (pid := world.trainer()) is not None:
        world.kill(pid)
    yield _then(world, "job, unseen", "training", ("crashed",))
    world.until("the purge", lambda: number not in world.cluster.states(), 240, 2.0)
    world.begin()
    world.until("another job", lambda: any(job.id != number for job in world.jobs()) or world.done(), 150)
    yield _then(world, "MinJobAge", "between two jobs", WAITING + ACTIVE)


def done_unseen(world: SlurmWorld) -> Iterator[Kill]:
    """Nobody is at work when the run is done, and Slurm has forgotten its job when somebody comes."""
    world.reach("finishing")
    for face in world.faces:
        world.kill(face.pid)
    if (pid := world.supervisor()) is not None:
        world.kill(pid)
    number = world.the_job()
    world.until("its end", world.done, 240)
    world.until("the purge", lambda: number not in world.cluster.states(), 240, 2.0)
    yield _then(world, "MinJobAge", "after its end", ("done",))


def cancelled(world: SlurmWorld) -> Iterator[Kill]:
    """Somebody cancels the job: it stays so until somebody asks to try it again."""
    for phase in ("training", "evaluating"):
        world.reach(phase)
        jobs = len(world.starts())
        world.cluster.run("scancel", world.the_job())
        world.until("the end of the queue", lambda: all(face.poll() is not None for face in world.faces), 120)
        yield _then(world, "scancel", phase, ("stopped", "crashed", "failed"))
        if len(world.starts()) > jobs:
            raise Failed("it was submitted again, and nobody had asked for it")
        world.retry()


def preempted(world: SlurmWorld) -> Iterator[Kill]:
    """Jobs of more weight take both nodes; the run's own job is queued again, and goes on after them."""
    for phase in ("training", "evaluating"):
        world.reach(phase)
        number, starts = world.the_job(), len(world.starts())
        for _ in NODES:
            more = ("--partition=first", "--gres=gpu:1", "--output=/dev/null", "--wrap=sleep 12")
            world.cluster.run("sbatch", *more)
        yield _then(world, "preemption", phase, WAITING, reason=f"Slurm job {number} waits")
        world.until("it goes on", lambda: world.trainers() or world.done(), 180, 0.5)
        if len(world.starts()) > starts:
            raise Failed("it was submitted again beside the job that Slurm had queued again")


def requeued(world: SlurmWorld) -> Iterator[Kill]:
    """An administrator puts the job back into the queue."""
    world.reach("training")
    number = world.the_job()
    world.cluster.run("scontrol", "requeue", number)
    yield _then(world, "requeue", "training", WAITING, reason=f"Slurm job {number} waits")


def both(world: SlurmWorld) -> Iterator[Kill]:
    """The controller and the supervisor die together: nothing is submitted before the controller answers."""
    world.reach("training")
    world.cluster.kill("slurmctld")
    if (pid := world.supervisor()) is not None:
        world.kill(pid)
    yield _then(world, "slurmctld", "training", ACTIVE)
    if (pid := world.trainer()) is not None:
        world.kill(pid)
    yield _then(world, "job and supervisor", "training", ("crashed", *WAITING))
    world.cluster.start_slurmctld()


@dataclass(frozen=True, slots=True)
class Case:
    """One run and what happens to it."""

    name: str
    deed: Deed
    armed: bool = False
    """Whether the first sbatch kills its caller."""
    checkpoints: bool = True
    """Whether it writes the checkpoints of an undisturbed run, and no more: one that saves before its end adds one."""
    trainers: int = 1


CASES = (
    Case("slurmctld", slurmctld),
    Case("slurmd", slurmd),
    Case("node", node),
    Case("job early", job("starting", "training", "evaluating")),
    Case("job late", job("checkpointing", "saving", "finishing")),
    Case("supervisor", supervisor),
    Case("unrecorded", unrecorded, armed=True),
    Case("drained", drained),
    Case("time limit", limit, checkpoints=False),
    Case("purged", purged),
    Case("done unseen", done_unseen),
    Case("cancelled", cancelled, checkpoints=False),
    Case("preempted", preempted, checkpoints=False),
    Case("requeued", requeued, checkpoints=False),
    Case("controller and supervisor", both),
)
