"""The commands of Slurm that the queue needs, and what they print. Nothing of Slurm's libraries, nothing of accounting.

Seen with Slurm 22.05. Each command ends by itself: one that hangs, because the controller does, is killed.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

WAIT_S = 30.0
"""Slurm's commands give up on a silent controller after ten seconds or so, and some try again."""
_FIELDS = ("%i", "%T", "%S", "%r", "%j", "%k")
_KEY = re.compile(r"(?:^|\s)([A-Z][A-Za-z/:]*)=", re.ASCII)
_FINAL = ("invalid", "unrecognized", "denied", "more processors", "can not be satisfied")
"""In what sbatch says: words of what another try brings no nearer. *Requested node configuration is not available* is
also said while the nodes of a controller that has just started have not reported yet."""
_ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED")
) | {"REVOKED", "TIMEOUT"}


@dataclass(frozen=True, slots=True)
class Job:
    """A job as squeue lists it."""

    id: str
    state: str
    """PENDING, RUNNING, COMPLETED, …"""
    reason: str = ""
    start: float | None = None
    """Unix seconds at which it started, or is expected to."""
    name: str = ""
    comment: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended, and is not queued again. COMPLETING jobs may be: of a node that failed, say."""
        return self.state in _ENDED

    @property
    def pending(self) -> bool:
        """Whether it has not started, or is to start again."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")


@dataclass(frozen=True, slots=True)
class JobEnd:
    """A job as `scontrol show job`, or `sacct`, tells it."""

    state: str
    exit_code: int = 0
    signal: int = 0
    seconds: float = 0.0
    """That it ran, the last time."""
    limit: float | None = None
    """Seconds of its time limit; None: it has none, or it is not told."""
    node: str = ""
    name: str = ""
    comment: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended, and is not queued again."""
        return self.state in _ENDED


class SlurmMissing(OSError):
    """Slurm's commands are not on this machine."""


def installed() -> bool:
    """Whether this machine has the commands."""
    return all(map(_there, ("sbatch", "squeue", "scontrol", "scancel")))


def _there(name: str) -> bool:
    return any(os.access(f"{folder}/{name}", os.X_OK) for folder in os.get_exec_path())


def slurm_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """For a command of Slurm: times in their plain form, and nothing of a job that this process may be in itself.

    A `SBATCH_…` or `SLURM_…` variable would else be an option of each job. Where Slurm's configuration lies stays.
    """
    given = os.environ if environment is None else environment
    kept = {name: value for name, value in given.items() if name == "SLURM_CONF" or not _of_slurm(name)}
    return kept | {"SLURM_TIME_FORMAT": "standard"}


def _of_slurm(name: str) -> bool:
    return name.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_"))


def squeue_command() -> list[str]:
    """All jobs of this user, those that ended a moment ago too."""
    return ["squeue", "--noheader", "--states=all", f"--user={os.getuid()}", f"--format={'|'.join(_FIELDS)}"]


def parse_squeue(text: str) -> dict[str, Job]:
    """By number. Lines of another form are none of ours."""
    jobs = {}
    for line in text.splitlines():
        parts = line.split("|", len(_FIELDS) - 1)
        if len(parts) == len(_FIELDS):
            number, state, start, reason, name, comment = (part.strip() for part in parts)
            jobs[number] = Job(number, state, "" if reason == "None" else reason, _time(start), name, comment)
    return jobs


def squeue() -> dict[str, Job]:
    """OSError (which may pass): the controller does not answer."""
    return parse_squeue(_ran(squeue_command()))


def is_number(job: str) -> bool:
    """Whether that can be a job's number: what stands in a file may else be an option of a command."""
    return job.isascii() and job.isdecimal()


def job_end(job: str) -> JobEnd | None:
    """What the controller still knows of the job, else how it ended by the accounts, where there are some.

    None: nobody knows it. Accounts in which it has not ended never heard of its end: the controller would know it.
    OSError (which may pass): the controller does not answer.
    """
    if not is_number(job):
        return None
    try:
        text = _ran(["scontrol", "show", "job", "--oneliner", job])
    except OSError as error:
        if "invalid job id" not in str(error).lower():
            raise
        end = _accounted(job)
        return end if end is not None and end.over else None
    return parse_job(text)


def parse_job(text: str) -> JobEnd | None:
    """A line of `scontrol show job --oneliner`."""
    parts = _KEY.split(text)
    values = dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=False))
    if "JobState" not in values:
        return None
    code, _, signal = values.get("ExitCode", "").partition(":")
    limit = values.get("TimeLimit", "")
    return JobEnd(
        values["JobState"],
        int(code) if code.isdigit() else 0,
        int(signal) if signal.isdigit() else 0,
        _seconds(values.get("RunTime", "")) or 0.0,
        _seconds(limit),
        values.get("BatchHost", ""),
        values.get("JobName", ""),
        values.get("Comment", ""),
    )


def _accounted(job: str) -> JobEnd | None:
    if not _there("sacct"):
        return None
    fields = "State,ExitCode,ElapsedRaw,NodeList,JobName"
    try:
        text = _ran(["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", f"--format={fields}"])
    except OSError:
        return None  # no accounts are kept
    line = next((line.split("|", 4) for line in text.splitlines() if line.count("|") >= 4), None)
    if line is None:
        return None
    code, _, signal = line[1].partition(":")
    seconds = float(line[2]) if line[2].isdigit() else 0.0
    state = line[0].split(" ")[0]  # CANCELLED by 1000
    exit_code, number = (int(word) if word.isdigit() else 0 for word in (code, signal))
    return JobEnd(state, exit_code, number, seconds, None, line[3], line[4])


def sbatch(options: Sequence[str], script: str, environment: Mapping[str, str]) -> str:
    """Submit; the job's number.

    OSError: not taken. One that may pass was not refused: the controller does not answer, or takes no more jobs; it
    may even have taken this one, and whoever tries again looks for it first.
    """
    text = _ran(["sbatch", "--parsable", *options], script, environment)
    number = text.strip().splitlines()[-1].partition(";")[0] if text.strip() else ""
    if not number.isdigit():
        raise OSError(errno.EAGAIN, f"sbatch said {text.strip()[:200]!r} and no job number")
    return number


def try_sbatch(options: Sequence[str], script: str) -> str:
    """What Slurm says of a job like this without taking it (`--test-only`). OSError: it would refuse it."""
    return _ran(["sbatch", "--test-only", *options], script)


def scancel(job: str, *options: str) -> None:
    """OSError: the controller does not answer. A job that has ended is none."""
    _ran(["scancel", "--quiet", *options, _checked(job)], tolerant=True)


def hold(job: str, *, held: bool) -> None:
    """Let it wait, or wait no longer. OSError: it was refused, or the controller does not answer."""
    _ran(["scontrol", "hold" if held else "release", _checked(job)])


def set_nice(job: str, nice: int) -> None:
    """OSError: it was refused, or the controller does not answer."""
    _ran(["scontrol", "update", f"JobId={_checked(job)}", f"Nice={nice}"])


def _checked(job: str) -> str:
    if not is_number(job):
        raise OSError(errno.EINVAL, f"{job!r} is not the number of a job")
    return job


def passing(said: str) -> bool:
    """Whether what a command of Slurm said may be over by itself; what nobody knows may be."""
    words = said.lower()
    return "temporar" in words or not any(word in words for word in _FINAL)


def _ran(
    command: Sequence[str], stdin: str = "", environment: Mapping[str, str] | None = None, *, tolerant: bool = False
) -> str:
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=WAIT_S,
            env=slurm_environment(environment),
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise SlurmMissing(
            errno.ENOENT,
            f"{command[0]} is not on this machine: start the queue on a login node of the cluster, "
            'or set queue.executor = "local"',
        ) from error
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"{command[0]} has not answered for {WAIT_S:.0f} s") from error
    if done.returncode == 0:
        return done.stdout or done.stderr
    said = said_by(done.stderr) or f"{command[0]} ended with exit code {done.returncode}"
    if tolerant and "invalid job id" in said.lower():
        return ""
    final = command[0] in ("sbatch", "scontrol") and not passing(said)
    raise OSError(errno.EINVAL if final else errno.EAGAIN, f"{command[0]}: {said}")


def said_by(stderr: str) -> str:
    """The last lines that a command of Slurm wrote, without their names before them."""
    lines = [line.partition(": ")[2].removeprefix("error: ") for line in stderr.splitlines() if ": " in line]
    return "; ".join(dict.fromkeys(line.strip() for line in lines[-2:] if line.strip()))[:500]


def _time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OSError, OverflowError):
        return None  # N/A


def _seconds(text: str) -> float | None:
    """`1-02:03:04`; None: UNLIMITED, or what is no time."""
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()):
        return None
    total = 0
    for part in parts:
        total = total * 60 + int(part)
    return float(total + 86_400 * int(days or 0))
