"""`lora-tui queue …` while something else happens: what is asked for then is not lost."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from queue_face import Queue
from waiting import wait_for

from core.queue.requests import QueueDb, Target
from core.runs.paths import RunPaths
from core.runs.status import Status

TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'
ALL = 'until = "all"'


def test_stop_says_which_run_goes_on_for_another_submission(queue: Queue) -> None:
    folder = queue.folder
    folder.write()
    folder.script(a=["wait"])
    [first] = queue.json("add", str(folder.plan))["taken"]
    folder.plan.write_text(folder.plan.read_text() + 'title = "edited"\n')
    [second] = queue.json("add", str(folder.plan))["taken"]
    wait_for(lambda: [row["state"] for row in queue.json("list")["rows"]] == ["training", "training"])
    queue.error()
    assert queue("stop", first["submission"]) == 0
    assert (
        queue.error()
        .splitlines()[-1]
        .endswith(f"a: goes on where submission {second['submission']}, which has it too, wants it now")
    )
    wait_for(lambda: len(queue.json("list")["rows"]) == 1)
    assert folder.snapshot("a").state is Status.TRAINING


def test_what_is_asked_for_while_it_still_ends_is_not_lost(queue: Queue) -> None:
    folder = queue.folder
    folder.write()
    folder.script(a=["stubborn", "good"])
    [first] = queue.json("add", str(folder.plan))["taken"]
    wait_for(lambda: queue.states() == {"a": "training"})
    assert queue("stop", first["submission"]) == 0
    wait_for(lambda: folder.decisions("wish"))
    queue.error()
    assert queue("release", "a") == 4 and "a ends as asked; `lora-tui queue add PLAN` goes on with it" in queue.error()
    [second] = queue.json("add", str(folder.plan))["taken"]
    assert first["submission"] != second["submission"]
    wait_for(lambda: folder.snapshot("a").state is Status.DONE)


def test_retry_of_a_row_that_still_ends_submits_it_again(queue: Queue) -> None:
    folder = queue.folder
    folder.write()
    folder.script(a=["stubborn", "good"])
    [first] = queue.json("add", str(folder.plan))["taken"]
    wait_for(lambda: queue.states() == {"a": "training"})
    assert queue("kill", first["submission"], "--yes") == 0
    wait_for(lambda: folder.decisions("wish"))
    [taken] = queue.json("retry", "a")["taken"]
    assert taken["submission"] != first["submission"]
    wait_for(lambda: folder.snapshot("a").state is Status.DONE)


def test_add_asks_again_for_rows_that_were_removed(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO, queue=ALL)
    folder.script(a=["wait", "good"])
    [first] = queue.json("add", str(folder.plan))["taken"]
    wait_for(lambda: queue.states() == {"a": "training", "b": "waiting"})
    assert queue("remove", "b", "--yes") == 0
    wait_for(lambda: folder.decisions("skip"))
    assert queue.json("add", str(folder.plan))["taken"] == [first]
    wait_for(lambda: queue.states()["b"] == "waiting")
    os.kill(folder.births("a")[0], signal.SIGTERM)
    wait_for(lambda: "b" in folder.starts())


def test_add_of_removed_rows_does_not_let_a_paused_queue_go_on(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO, queue=f"{ALL}\nretries = 0\npause_after = 1")
    folder.script(a=["error"])
    queue("add", str(folder.plan))
    wait_for(lambda: folder.decisions("pause"))
    assert queue("remove", "b", "--yes") == 0
    wait_for(lambda: folder.decisions("skip"))
    queue("add", str(folder.plan))
    wait_for(lambda: queue.states().get("b") == "waiting")
    assert not folder.decisions("resume") and "b" not in folder.starts()


def test_retry_that_came_too_late_takes_the_row_of_the_same_plan(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = queue.folder
    folder.write(TWO, queue=f"{ALL}\nretries = 0")
    folder.script(a=["error", "good"], b=["wait", "good"])
    [first] = queue.json("add", str(folder.plan))["taken"]
    wait_for(lambda: queue.states() == {"a": "failed", "b": "training"})
    name = folder.run("a").name
    other = folder.root / "other.toml"
    other.write_text(folder.plan.read_text().replace('id = "a"', 'id = "a"\ntrain.seed = 5'))
    queue("add", str(other))
    ask = QueueDb.ask

    def late(db: QueueDb, kind: str, *rest: Any) -> list[Target]:
        ask(db, "stop", [Target(first["submission"])])  # by somebody else, after this command has looked
        return ask(db, kind, *rest)

    monkeypatch.setattr(QueueDb, "ask", late)
    assert queue("retry", name) == 0
    os.kill(folder.births("b")[0], signal.SIGTERM)  # which goes on for the other plan
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert [d.row for d in folder.decisions("start") if d.run == name] == ["a", "a"]
    assert RunPaths(folder.runs.root / name).result.is_file()


def test_stop_that_came_too_late_says_what_had_ended(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = queue.folder
    folder.write(TWO, queue=ALL)
    folder.script(a=["wait"])
    [first] = queue.json("add", str(folder.plan))["taken"]
    wait_for(lambda: queue.states() == {"a": "training", "b": "waiting"})
    ask = QueueDb.ask

    def late(db: QueueDb, *rest: Any, **more: Any) -> list[Target]:
        with db.closing(first["submission"], at_once=True):  # it ends after this command has looked
            pass
        return ask(db, *rest, **more)

    monkeypatch.setattr(QueueDb, "ask", late)
    queue.error()
    assert queue("stop", "a") == 0
    assert queue.error() == "a: had ended already\n"
