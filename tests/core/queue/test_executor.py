"""Trainer processes: one for each run, found again, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import DEADLINE_S, wait_for

import core
from core.queue import executor as executor_module
from core.queue.executor import LocalExecutor, child_environment
from core.runs.paths import RunPaths, RunsFolder
from core.system.locks import KernelLock, is_held
from core.system.process import identity_of

SLEEPER = """
import os, subprocess, sys, time
kept = [int(f) for f in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{f}")
        and os.readlink(f"/proc/self/fd/{f}").endswith(".lock")]
child = subprocess.Popen(["sleep", "60"], pass_fds=kept)
print(child.pid, os.environ["OMP_NUM_THREADS"], flush=True)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    run = RunPaths(tmp_path / "runs" / "a-0123456789")
    run.root.mkdir(parents=True)
    return run


def executor(run: RunPaths) -> LocalExecutor:
    return LocalExecutor(RunsFolder(run.root.parent, run.root.parent), (sys.executable, "-c", SLEEPER), 0.2)


def lock_of(run: RunPaths) -> Path:
    return RunsFolder(run.root.parent, run.root.parent).run_lock(run.name)


def test_a_run_has_one_trainer_which_leads_its_own_session_and_leaves_nothing(run: RunPaths) -> None:
    trainer = executor(run).start(run, threads=3)
    assert trainer is not None and trainer.identity is not None
    wait_for(lambda: run.log.read_text().count("\n"))
    worker, threads = map(int, run.log.read_text().split())
    assert threads == 3 and os.getsid(trainer.identity.pid) == trainer.identity.pid
    assert executor(run).start(run, threads=1) is None

    trainer.stop()
    wait_for(lambda: not trainer.alive())
    assert trainer.exit_status == -signal.SIGTERM
    assert identity_of(worker) is not None  # holds the lock: the run is not free yet
    assert is_held(lock_of(run))
    trainer.close()
    wait_for(lambda: identity_of(worker) is None)
    assert not is_held(lock_of(run))


def test_a_trainer_that_said_nothing_yet_is_found_by_its_lock(run: RunPaths) -> None:
    trainer = executor(run).start(run, threads=1)
    assert trainer is not None
    found = executor(run).adopt(run, None)
    assert found is not None and found.identity == trainer.identity and found is not trainer
    found.kill()
    wait_for(lambda: not found.alive() and not trainer.alive())
    found.close()
    trainer.close()
    wait_for(lambda: not is_held(lock_of(run)))


def test_what_a_dead_trainer_left_is_no_trainer(run: RunPaths) -> None:
    trainer = executor(run).start(run, threads=1)
    assert trainer is not None and trainer.identity is not None
    wait_for(lambda: run.log.read_text().count("\n"))
    os.kill(trainer.identity.pid, signal.SIGKILL)
    wait_for(lambda: not trainer.alive())
    assert is_held(lock_of(run))
    assert executor(run).adopt(run, trainer.identity) is None
    wait_for(lambda: not is_held(lock_of(run)))
    again = executor(run).start(run, threads=1)
    assert again is not None
    again.kill()
    wait_for(lambda: not again.alive())
    again.close()


def test_a_command_that_does_not_exist_leaves_the_lock_free(run: RunPaths) -> None:
    broken = LocalExecutor(RunsFolder(run.root.parent, run.root.parent), ("/does/not/exist",))
    with pytest.raises(FileNotFoundError):
        broken.start(run, threads=1)
    assert not is_held(lock_of(run))


def test_a_trainer_started_by_hand_is_adopted_by_the_lock_that_it_took(run: RunPaths) -> None:
    with face(run, "holds", leads=True) as by_hand:
        found = executor(run).adopt(run, identity_of(by_hand.pid))
        assert found is not None and found.alive()
        found.stop()
        by_hand.wait(DEADLINE_S)
        wait_for(lambda: not found.alive())
        found.close()


@pytest.mark.parametrize("opens", ["nothing", "the lock", "the lock of another run", "the run's events"])
def test_a_process_that_a_run_folder_names_is_left_alone(run: RunPaths, opens: str) -> None:
    """events.jsonl may come from elsewhere, and name any process of this user."""
    other = RunPaths(run.root.with_name("b-0123456789"))
    files = {"nothing": run.log, "the lock": lock_of(run), "the run's events": run.events}
    opened = files.get(opens, lock_of(other))
    opened.parent.mkdir(exist_ok=True)
    with opened.open("ab") as file:
        victim = subprocess.Popen(["sleep", "60"], start_new_session=True, stdin=file)
    held = KernelLock.acquire(lock_of(other)) if "another" in opens else None
    try:
        assert executor(run).adopt(run, identity_of(victim.pid)) is None
        trainer = executor(run).start(run, threads=1)
        assert trainer is not None
        trainer.kill()
        wait_for(lambda: not trainer.alive())
        trainer.close()
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
        if held is not None:
            held.release()


FACE = """
import fcntl, sys
lock = open(sys.argv[1], "a")
if sys.argv[2] == "holds":
    fcntl.flock(lock, fcntl.LOCK_EX)
print(flush=True)
for asked in sys.stdin:
    print(asked, end="", flush=True)
"""


@contextmanager
def face(run: RunPaths, does: str, *, leads: bool) -> Iterator[subprocess.Popen[str]]:
    """`queue prune`, by the lock that it opens; it leads its session where ssh started it."""
    lock_of(run).parent.mkdir(exist_ok=True)
    command = [sys.executable, "-c", FACE, str(lock_of(run)), does]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, start_new_session=leads) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def answers(process: subprocess.Popen[str]) -> bool:
    """Whether the face lives still. A signal that was sent to it before reaches it before the question does."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("there?\n")
    process.stdin.flush()
    return process.stdout.readline() == "there?\n"


@pytest.mark.parametrize("leads", [True, False])
def test_a_face_that_holds_the_lock_is_no_trainer_and_lives_on(run: RunPaths, leads: bool) -> None:
    with face(run, "holds", leads=leads) as process:
        assert executor(run).adopt(run, None) is None
        assert answers(process)


@pytest.mark.parametrize("leads", [True, False])
def test_a_face_that_waits_for_the_lock_outlives_the_trainer(run: RunPaths, leads: bool) -> None:
    trainer = executor(run).start(run, threads=1)
    assert trainer is not None
    with face(run, "waits", leads=leads) as process:
        trainer.kill()
        wait_for(lambda: not trainer.alive())
        trainer.close()
        assert answers(process)


@pytest.mark.parametrize("its_supervisor", ["lives", "is gone"])
def test_a_worker_that_left_the_session_ends_with_the_trainer(run: RunPaths, its_supervisor: str) -> None:
    command = (sys.executable, "-c", SLEEPER.replace("pass_fds", "start_new_session=True, pass_fds"))
    alone = LocalExecutor(RunsFolder(run.root.parent, run.root.parent), command, 0.2)
    trainer = alone.start(run, threads=1)
    assert trainer is not None and trainer.identity is not None
    wait_for(lambda: run.log.read_text().count("\n"))
    worker = int(run.log.read_text().split()[0])
    found = trainer if its_supervisor == "lives" else alone.adopt(run, trainer.identity)
    assert found is not None
    os.kill(trainer.identity.pid, signal.SIGKILL)
    wait_for(lambda: not trainer.alive())
    assert identity_of(worker) is not None
    found.close()
    wait_for(lambda: identity_of(worker) is None)
    assert not is_held(lock_of(run))


def test_a_worker_with_a_lower_pid_is_not_taken_for_the_leavings_of_a_dead_trainer(
    run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = executor(run).start(run, threads=1)
    assert trainer is not None and trainer.identity is not None
    wait_for(lambda: run.log.read_text().count("\n"))
    worker = int(run.log.read_text().split()[0])
    pids = [worker, trainer.identity.pid]  # pids begin anew at the highest one
    monkeypatch.setattr("core.queue.executor.inheritors", lambda lock: pids)
    found = executor(run).adopt(run, None)
    assert found is not None and found.identity == trainer.identity
    assert identity_of(worker) is not None
    found.kill()
    wait_for(lambda: not trainer.alive())
    found.close()
    trainer.close()


def test_a_trainer_takes_no_module_from_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty or relative entry of PYTHONPATH would be a runs folder there."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", "src", str(tmp_path)]))
    home = str(Path(core.__file__).resolve().parents[1])
    assert child_environment({})["PYTHONPATH"].split(os.pathsep) == [home, str(tmp_path)]


def test_installed_packages_do_not_come_before_pythons_own(monkeypatch: pytest.MonkeyPatch) -> None:
    home = str(Path(core.__file__).resolve().parents[1])
    monkeypatch.setattr(executor_module.sysconfig, "get_path", lambda _: home)
    monkeypatch.setenv("PYTHONPATH", "src")
    assert "PYTHONPATH" not in child_environment({})
