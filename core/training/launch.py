"""A run on several devices, seen from the process that the queue started: it holds the run's lock and runs torchrun.

torchrun (`torch.distributed.run`) starts a process for each device and ends them all when one has failed. On one
machine it needs nothing; across machines one such process is started on each, told by torchrun's own variables
(PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR …) or those that `srun` sets (SLURM_NNODES, SLURM_NODEID) with MASTER_ADDR.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from core.console import err
from core.errors import UserError
from core.system.process import PARENT_VARIABLE, catches
from core.training.stopping import StopFlag

_POLL_S = 0.2
_THREADS = "OMP_NUM_THREADS"
_PORT = "29400"


class LaunchError(UserError):
    """The environment does not say how the processes of a run on several machines find each other."""


def node(environment: Mapping[str, str] = os.environ) -> int:
    """Which of the machines of a run this is; 0: the one that writes, and the only one unless it is told otherwise."""
    return _place(environment)[1]


def _place(environment: Mapping[str, str]) -> tuple[int, int]:
    """(machines of the run, which of them this is)."""
    if "PET_NNODES" in environment:
        names = ("PET_NNODES", "PET_NODE_RANK")
    elif int(environment.get("SLURM_STEP_NUM_NODES", "1")) > 1:
        names = ("SLURM_STEP_NUM_NODES", "SLURM_NODEID")
    else:
        return 1, 0
    count, own = (environment.get(name, "0") for name in names)
    if not (count.isdigit() and own.isdigit() and int(own) < int(count)):
        raise LaunchError(f"{names[0]}={count} and {names[1]}={own} name no machine of a run: give numbers")
    return int(count), int(own)


def arguments(devices: int, run: Path, environment: Mapping[str, str] = os.environ) -> list[str]:
    """torchrun's arguments for the processes of this machine. LaunchError."""
    machines, own = _place(environment)
    if devices % machines:
        raise LaunchError(f"train.devices = {devices} cannot be shared out evenly over {machines} machines")
    found = ["--nproc-per-node", str(devices // machines), "--max-restarts", "0"]
    if machines == 1:
        found.append("--standalone")
    else:
        address = environment.get("PET_MASTER_ADDR") or environment.get("MASTER_ADDR")
        if not address:
            raise LaunchError(
                f"this run is on {machines} machines, and MASTER_ADDR does not name the first of them: set it, under "
                "Slurm to `scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1`"
            )
        port = environment.get("PET_MASTER_PORT") or environment.get("MASTER_PORT") or _PORT
        found += ["--nnodes", str(machines), "--node-rank", str(own), "--master-addr", address, "--master-port", port]
    # -P: a file in the working folder never shadows a module
    return [*found, "--no-python", sys.executable, "-P", "-m", "core.training", str(run)]


def launch(devices: int, run: Path, stopping: StopFlag) -> int:
    """Run the processes of this machine to their end: exit status 0 if all ended so. LaunchError.

    What asks this process to stop is passed on to them. They die with it.
    """
    given = arguments(devices, run)
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    os.environ.setdefault(_THREADS, "1")
    if "--standalone" in given:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    outcome: list[int] = []
    # not in this thread: there torchrun would take the signals, and give the processes 30 s to end
    agent = threading.Thread(target=lambda: outcome.append(_torchrun(given)), name="torchrun")
    agent.start()
    told: set[int] = set()
    while agent.is_alive():
        agent.join(_POLL_S)
        if stopping.count:
            told |= _pass_on(told)
    return outcome[0] if outcome else 1


def _torchrun(given: list[str]) -> int:
    import logging

    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # that it takes no signals in this thread is what is wanted
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.ERROR)
    try:
        run.run(run.parse_args(given))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        err(f"process {rank} of the run ended first, with exit status {failure.exitcode}; torchrun ended the others")
        return 1
    return 0


def _pass_on(told: set[int]) -> set[int]:
    """SIGTERM to each process of the run that was not told yet, once it can hear it."""
    import psutil  # only here

    children = {child.pid for child in psutil.Process().children()} - told
    found = {pid for pid in children if catches(pid, signal.SIGTERM)}
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return found
