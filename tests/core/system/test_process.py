"""A process is told from every other one: dead, reused pid, rebooted, foreign."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from waiting import wait_for

from core.system.process import (
    PARENT_VARIABLE,
    current_process,
    end,
    holders,
    identity_from_json,
    identity_of,
    is_alive,
    session_members,
    session_of,
    wait_without_spinning,
)


def test_this_process_is_alive() -> None:
    me = current_process()
    assert me.pid == os.getpid()
    assert identity_of(me.pid) == me
    assert is_alive(me) is True


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identity_of(child.pid)
    assert identity is not None and is_alive(identity) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet reaped
    assert is_alive(identity) is False
    assert identity_of(child.pid) is None
    child.communicate()
    assert is_alive(identity) is False


def test_a_reused_pid_is_not_the_process() -> None:
    assert is_alive(replace(current_process(), start_time=1)) is False


def test_another_boot_means_dead() -> None:
    assert is_alive(replace(current_process(), boot="another")) is False


def test_another_machine_or_container_cannot_be_told() -> None:
    assert is_alive(replace(current_process(), machine="another")) is None
    assert is_alive(replace(current_process(), pid_namespace="pid:[1]")) is None


def test_json_round_trip_and_torn_values() -> None:
    me = current_process()
    assert identity_from_json(me.to_json()) == me
    assert identity_from_json({"pid": 1}) is None
    assert identity_from_json(None) is None
    assert identity_from_json(me.to_json() | {"start_time": "x"}) is None


def test_holders_finds_who_has_a_file_open(tmp_path: Path) -> None:
    path = tmp_path / "some.lock"
    assert holders(path) == []
    with path.open("w"):
        assert os.getpid() in holders(path)


def test_session_members_finds_what_a_dead_leader_left_behind() -> None:
    script = "import subprocess, sys; print(subprocess.Popen(['sleep', '30']).pid, flush=True); input()"
    leader = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert leader.stdout is not None
    orphan = int(leader.stdout.readline())
    identity = identity_of(leader.pid)
    assert identity is not None
    try:
        assert set(session_members(identity)) == {leader.pid, orphan}
        leader.kill()
        leader.wait()
        assert session_members(identity) == [orphan]
        assert session_of(orphan) == leader.pid
    finally:
        os.kill(orphan, 9)
        leader.communicate()


def test_a_reused_leader_has_no_members() -> None:
    assert session_members(replace(current_process(), start_time=1)) == []


def test_a_command_ends_with_the_parent_that_it_names() -> None:
    code = "from core.system.process import end_with_parent; end_with_parent(); print('ready', flush=True); input()"
    start = (
        "import os, subprocess, sys, time; me = os.environ | {sys.argv[1]: str(os.getpid())};"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[2]], env=me, stdin=subprocess.PIPE,"
        "stdout=subprocess.PIPE); child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", start, PARENT_VARIABLE, code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = identity_of(int(parent.stdout.readline()))
    assert child is not None
    parent.kill()
    parent.communicate()
    wait_for(lambda: not is_alive(child))


def test_a_command_whose_parent_is_dead_already_ends_at_once() -> None:
    code = "from core.system.process import end_with_parent; end_with_parent()"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {PARENT_VARIABLE: "1"})
    assert done.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize(("handler", "status"), [("SIG_DFL", -signal.SIGTERM), ("SIG_IGN", -signal.SIGKILL)])
def test_a_child_is_asked_to_end_and_killed_when_it_does_not(handler: str, status: int) -> None:
    code = f"import signal; signal.signal(signal.SIGTERM, signal.{handler}); print('ready', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    end(child, 60 if handler == "SIG_DFL" else 0.1)
    assert child.returncode == status
    child.communicate()


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_threads_wait_asleep_unless_the_user_has_it_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == (given or "PASSIVE")
