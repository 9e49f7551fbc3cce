"""FakeSlurm: `python fake_slurm.py COMMAND …` answers as sbatch, squeue, scontrol and scancel do.

All it knows lies in the folder that FAKE_SLURM names: `jobs.json`; `down`, while the controller does not answer;
`refuses`, what sbatch says instead of taking a job; `takes`, if it takes the job and says so all the same; `waits`, if
jobs do not start by themselves; `strips`, if jobs lose their comments; `deaf`, while it changes no job; `calls.txt`,
what it was asked. A job that starts is a process of this machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

HOME = os.environ["FAKE_SLURM"]
RUNS = 'bash "$1" & echo $! > "$2.pid"; wait $!; echo $? > "$2.rc"'


def at(name: str) -> str:
    return os.path.join(HOME, name)  # noqa: PTH118 - pathlib takes its time to import


def text(name: str) -> str | None:
    try:
        with open(at(name)) as file:  # noqa: PTH123
            return file.read()
    except FileNotFoundError:
        return None


def fail(said: str) -> int:
    print(said, file=sys.stderr)  # noqa: T201
    return 1


def say(line: str) -> None:
    print(line)  # noqa: T201


def begin(job: dict) -> None:  # type: ignore[type-arg]
    with open(job["output"], "ab") as log:  # noqa: PTH123
        subprocess.Popen(
            ["sh", "-c", RUNS, "sh", at(f"{job['id']}.sh"), at(job["id"])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=job["chdir"],
            start_new_session=True,
        )
    while text(f"{job['id']}.pid") in (None, ""):
        time.sleep(0.01)
    job["state"] = "RUNNING"


def settle(job: dict) -> None:  # type: ignore[type-arg]
    """What became of a job that was started."""
    code = text(f"{job['id']}.rc")
    if job["state"] == "RUNNING" and code:
        status = int(code)
        job["exit"] = f"0:{status - 128}" if status > 128 else f"{status}:0"
        job["state"] = "COMPLETED" if status == 0 else "FAILED"


def main(name: str, arguments: list[str]) -> int:
    with open(at("calls.txt"), "a") as calls:  # noqa: PTH123
        calls.write(" ".join([name, *arguments]) + "\n")
    if text("down") is not None:
        return fail(f"{name}: error: Unable to contact slurm controller (connect failure)")
    with open(at("lock"), "a") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        jobs = json.loads(text("jobs.json") or "{}")
        for job in jobs.values():
            settle(job)
        status = globals()[f"do_{name}"](jobs, arguments)
        with open(at("jobs.new"), "w") as file:  # noqa: PTH123
            json.dump(jobs, file)
        os.replace(at("jobs.new"), at("jobs.json"))  # noqa: PTH105
    return int(status)


def do_sbatch(jobs: dict, arguments: list[str]) -> int:  # type: ignore[type-arg]
    options = dict(argument[2:].partition("=")[::2] for argument in arguments)
    script, refused = sys.stdin.read(), text("refuses")
    if "test-only" in options:
        return fail(refused) if refused else fail("sbatch: Job 1 to start at 2026-01-01T00:00:00") - 1
    if refused and text("takes") is None:
        return fail(refused)
    number = str(len(jobs) + 1)
    with open(at(f"{number}.sh"), "w") as file:  # noqa: PTH123
        file.write(script)
    job = {name: options[name].replace("%%", "%") for name in ("job-name", "comment", "output", "chdir")}
    job["comment"] = job["comment"] if text("strips") is None else "(null)"
    job |= {"id": number, "state": "PENDING", "reason": "Priority", "exit": "0:0", "start": "N/A"}
    jobs[number] = job
    if text("waits") is None:
        begin(job)
    if refused:
        return fail(refused)
    say(number)
    return 0


def do_squeue(jobs: dict, arguments: list[str]) -> int:  # type: ignore[type-arg]
    for job in jobs.values():
        if not job.get("purged"):
            reason = job["reason"] if job["state"] == "PENDING" else "None"
            say("|".join((job["id"], job["state"], job["start"], reason, job.get("job-name", "a"), job["comment"])))
    return 0


def do_scontrol(jobs: dict, arguments: list[str]) -> int:  # type: ignore[type-arg]
    job = jobs.get(next((word for word in reversed(arguments) if word.isdigit()), ""))
    if arguments[0] != "show" and text("deaf") is not None:
        return fail("scontrol: error: Socket timed out on send/recv operation")
    if arguments[0] == "update":
        return 0
    if job is None or job.get("purged"):
        return fail("slurm_load_jobs error: Invalid job id specified")
    if arguments[0] in ("hold", "release"):
        job["reason"] = "JobHeldUser" if arguments[0] == "hold" else "Priority"
    else:
        say(
            f"JobId={job['id']} JobName={job.get('job-name', 'a')} UserId=u(1) "
            f"JobState={job['state']} Reason={job['reason']} Dependency=(null) "
            f"Requeue=1 ExitCode={job['exit']} RunTime=00:04:40 TimeLimit={job.get('limit', 'UNLIMITED')} "
            f"NodeList=n1 BatchHost=n1 Comment={job['comment']} Power="
        )
    return 0


def do_scancel(jobs: dict, arguments: list[str]) -> int:  # type: ignore[type-arg]
    job = jobs.get(arguments[-1])
    pid = text(f"{arguments[-1]}.pid")
    number = next((word.partition("=")[2] for word in arguments if word.startswith("--signal=")), "")
    if job is None or job["state"] not in ("PENDING", "RUNNING"):
        return 0
    if job["state"] == "PENDING":
        job["state"] = job["state"] if number else "CANCELLED"
    elif "--state=PENDING" not in arguments and pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.Signals[f"SIG{number or 'KILL'}"])
        job["state"] = job["state"] if number else "CANCELLED"
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
