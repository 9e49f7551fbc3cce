"""A process is told from every other one: dead, reused pid, rebooted, foreign."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from core.runs.process import (
    current_process,
    holders,
    identity_from_json,
    identity_of,
    is_alive,
    session_members,
    session_of,
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
