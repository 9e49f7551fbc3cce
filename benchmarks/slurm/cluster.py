"""A real Slurm cluster on this machine, for a while: munged, slurmctld and two nodes, each with a GPU that is made up.

All of it lies in one folder, listens on ports of its own and writes nothing into /etc or /var; whatever Slurm the
machine has besides goes on. It needs the Debian packages munge, slurmctld, slurmd and slurm-client, and root: slurmd
starts jobs as their users. Only processes that were started here are ended.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2")
CONF = """
ClusterName=lora-tui-test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket,cred_expire=5
CryptoType=crypto/munge
SlurmctldPort={ctld}
SlurmctldPidFile={home}/slurmctld.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdPidFile={home}/slurmd-%n.pid
SlurmdLogFile={home}/slurmd-%n.log
SlurmdSpoolDir={home}/spool-%n
StateSaveLocation={home}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge={min_job_age}
KillWait=5
SlurmctldTimeout=30
SlurmdTimeout=15
InactiveLimit=0
SlurmdParameters=config_overrides
RebootProgram=/bin/true
{nodes}
PartitionName=gpu Nodes={names} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=0
PartitionName=first Nodes={names} MaxTime=INFINITE State=UP PriorityTier=10
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=1000 Gres=gpu:1 State=UNKNOWN"
)
GRES = "NodeName={names} Name=gpu File=/dev/null\n"
START_S = 60.0


class ClusterError(Exception):
    """It did not come up, or did not do what it was told."""


def missing() -> str:
    """Why no cluster can be started here, for people; empty: one can."""
    lacking = [name for name in NEEDED if _path(name) is None]
    if lacking:
        return f"{', '.join(lacking)} missing: apt-get install munge slurmctld slurmd slurm-client"
    return "" if os.geteuid() == 0 else "slurmd starts jobs as their users, which takes root"


def _path(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class SlurmTestCluster:
    """Daemons of our own, each a child of this process."""

    def __init__(self, home: Path, *, min_job_age: int = 300) -> None:
        """`home`: a folder that is made. `min_job_age`: seconds for which Slurm remembers a job that ended."""
        self.home = home
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        home.mkdir(parents=True)
        home.chmod(0o755)
        host = platform.node().partition(".")[0]
        ports = _free_ports(1 + len(NODES))
        nodes = [NODE.format(name=name, host=host, port=port) for name, port in zip(NODES, ports[1:], strict=True)]
        known = {"home": home, "host": host, "ctld": ports[0], "min_job_age": min_job_age, "names": ",".join(NODES)}
        self.conf = home / "slurm.conf"
        self.conf.write_text(CONF.format(nodes="\n".join(nodes), **known))
        (home / "gres.conf").write_text(GRES.format(names="n[1-2]"))
        for folder in ("munge", "state", *(f"spool-{name}" for name in NODES)):
            (home / folder).mkdir()
        (home / "munge").chmod(0o755)
        key = home / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)

    @property
    def environment(self) -> Mapping[str, str]:
        """What finds this cluster."""
        return {"SLURM_CONF": str(self.conf)}

    def __enter__(self) -> SlurmTestCluster:
        try:
            self.start_munged()
            self.start_slurmctld()
            for node in NODES:
                self.start_slurmd(node)
            self.wait_idle()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start_munged(self) -> None:
        """With a key of its own."""
        folder = self.home / "munge"
        files = {name: folder / name for name in ("socket", "log", "seed", "pid")}
        options = [f"--{kind}={files[name]}" for kind, name in _MUNGE_FILES]
        self._start("munged", "munged", "--foreground", "--force", f"--key-file={folder / 'key'}", *options)
        _until(files["socket"].exists, "munged did not start")

    def start_slurmctld(self) -> None:
        """Also again, after it was killed: it goes on from what it saved."""
        self._start("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        _until(lambda: " UP" in self.run("scontrol", "ping", check=False).stdout, "slurmctld did not start")

    def start_slurmd(self, node: str) -> None:
        """A node's daemon, also again; jobs that go on there it finds."""
        self._start(f"slurmd-{node}", "slurmd", "-D", "-N", node, "-f", str(self.conf))

    def kill(self, daemon: str) -> None:
        """SIGKILL to one daemon: `slurmctld`, `slurmd-n1`."""
        process = self.daemons.pop(daemon)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """Cancel all jobs, end the daemons, in the order opposite to that of their start."""
        if "slurmctld" in self.daemons:
            with contextlib.suppress(subprocess.SubprocessError):
                jobs = self.run("squeue", "--noheader", "--format=%i", check=False).stdout.split()
                if jobs:
                    self.run("scancel", "--full", "--signal=KILL", *jobs, check=False)
                    self.run("scancel", *jobs, check=False)
        for name, process in reversed(self.daemons.items()):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            del name
        self.daemons.clear()

    def run(self, *command: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command of Slurm on this cluster."""
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=os.environ | self.environment,
            input=stdin,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done

    def wait_idle(self) -> None:
        """Until all nodes can take jobs."""
        _until(
            lambda: (
                self.run("sinfo", "--noheader", "--format=%T", "--Node", check=False).stdout.split() != []
                and set(self.run("sinfo", "--noheader", "--format=%T", "--Node", check=False).stdout.split())
                == {"idle"}
            ),
            f"the nodes did not come up: {self.home}/slurmd-*.log",
        )

    def states(self) -> dict[str, str]:
        """Job → its state, of all that Slurm remembers."""
        lines = self.run("squeue", "--noheader", "--states=all", "--format=%i %T").stdout.splitlines()
        return dict(line.split(maxsplit=1) for line in lines if line.strip())

    def _start(self, name: str, *command: str) -> None:
        program = _path(command[0])
        if program is None:
            raise ClusterError(missing())
        with (self.home / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=os.environ | self.environment,
                start_new_session=True,
            )


_MUNGE_FILES = (("socket", "socket"), ("log-file", "log"), ("seed-file", "seed"), ("pid-file", "pid"))


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + START_S
    while not holds():
        if time.monotonic() > deadline:
            raise ClusterError(otherwise)
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def cluster(home: Path, *, min_job_age: int = 300) -> Iterator[SlurmTestCluster]:
    """A cluster that is there while the block lasts."""
    with SlurmTestCluster(home, min_job_age=min_job_age) as made:
        yield made
