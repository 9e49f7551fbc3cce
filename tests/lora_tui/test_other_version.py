"""A supervisor of another version beside the commands of this one is named by all of them."""

from __future__ import annotations

import fcntl
import os
import signal

import pytest
from plan_folder import PlanFolder
from queue_face import Queue
from waiting import wait_for

from core.queue.client import code_id, supervisor_note
from core.system.locks import is_held
from lora_tui.__main__ import main

Capture = pytest.CaptureFixture[str]


def said_by(folder: PlanFolder, capsys: Capture, *command: str) -> str:
    where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    capsys.readouterr()
    main([*command, *where])
    return "".join(capsys.readouterr())


def commands(folder: PlanFolder) -> list[tuple[str, ...]]:
    plan = str(folder.plan)
    gate = ("--headless", plan, "--gate", "--no-train")
    return [("queue", "list"), ("queue", "list", "--json"), ("status", plan), ("status", plan, "--json"), gate]


def test_a_supervisor_of_another_version(queue: Queue, capsys: Capture) -> None:
    folder = queue.folder
    folder.write()
    folder.script(a=["wait"])
    queue("add", str(folder.plan))
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    pid = int(folder.runs.supervisor_lock.read_text())
    assert folder.runs.supervisor_code.read_text() == f"{pid} {code_id()}\n"
    assert all("another version" not in said_by(folder, capsys, *command) for command in commands(folder))

    folder.runs.supervisor_code.write_text(f"{pid} 0123456789abcdef\n")
    for command in commands(folder):
        assert f"(pid {pid}) was started by another version of lora-tui" in said_by(folder, capsys, *command), command
    folder.runs.supervisor_code.write_text("4711 0123456789abcdef\n")
    assert supervisor_note(folder.runs) == "", "of an earlier supervisor"
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))
    folder.runs.supervisor_code.write_text(f"{pid} 0123456789abcdef\n")
    assert supervisor_note(folder.runs) == "", "it has ended"


def test_a_supervisor_that_kept_its_state_in_the_runs_folder(queue: Queue, capsys: Capture) -> None:
    folder = queue.folder
    folder.write()
    folder.runs.root.mkdir()
    with folder.runs.older_supervisor_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in commands(folder):
            assert "older version of lora-tui is at work there" in said_by(folder, capsys, *command), command
        assert queue("add", str(folder.plan)) == 4
        assert "older version of lora-tui" in queue.error()
