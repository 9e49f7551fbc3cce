"""`lora-tui queue …` over a real supervisor process with FakeTrainers, and without one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from plan_folder import PlanFolder
from queue_face import Queue
from waiting import wait_for

from core.queue import commands
from core.queue.__main__ import supervise
from core.queue.requests import Target
from core.runs.status import Status
from core.system.locks import is_held
from core.system.process import current_process
from lora_tui.__main__ import main

SUPERVISOR = Path(__file__).parents[1] / "core" / "queue" / "fake_supervisor.py"
TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'
ALL = 'until = "all"'


def test_an_empty_queue_says_so(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    assert queue("list") == 0
    assert capsys.readouterr().out == "the queue is empty\n\nno supervisor is at work\n"
    assert queue.json("list") == {"schema": 1, "supervisor": False, "paused": None, "note": None, "rows": []}
    assert not queue.folder.runs.queue_db.exists()
    queue.folder.write()
    queue.folder.db.submit(queue.folder.submission())
    assert queue("list") == 0
    assert capsys.readouterr().out.endswith("\n\nno supervisor is at work; `lora-tui queue add PLAN` starts one\n")


def test_add_works_in_the_background_until_nothing_is_left(queue: Queue) -> None:
    folder = queue.folder
    folder.write()
    [taken] = queue.json("add", str(folder.plan))["taken"]
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.decisions("finish")[0].submission == taken["submission"]
    assert folder.snapshot("a").state is Status.DONE
    assert queue.states() == {}
    [row] = queue.json("list", "--all")["rows"]
    assert row["experiment"] == "a" and row["state"] == "done"


def test_add_refuses_a_plan_that_cannot_run(queue: Queue) -> None:
    queue.folder.write("[[experiment]]\nid = 'a'\ndata.train = 'gone.jsonl'\n")
    assert queue("add", str(queue.folder.plan)) == 4
    assert "gone.jsonl" in queue.error()


def test_what_is_held_before_a_supervisor_lives_is_not_started_until_it_is_released(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO, queue=ALL)
    folder.db.submit(folder.submission())
    assert queue("hold", "a") == 0 and not is_held(folder.runs.supervisor_lock)
    assert queue.states() == {"a": "held", "b": "queued"}
    folder.client.ensure_supervisor()
    wait_for(lambda: queue.states() == {"a": "held", "b": "done"})
    assert folder.decisions("wait")[-1].wait.text == "held until released: a"
    assert queue("release", "a") == 0
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.starts() == ["b", "a"]


def test_stop_ends_a_run_resumable_and_the_others_go_on(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO, queue=ALL)
    folder.script(a=["wait", "good"])
    assert queue("add", str(folder.plan)) == 0
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    assert queue("stop", folder.run("a").name) == 0
    wait_for(lambda: queue.states() == {"a": "held", "b": "done"})
    assert folder.snapshot("a").state is Status.STOPPED
    [row] = [row for row in queue.json("list")["rows"] if row["row"] == "a"]
    assert row["reason"] == commands.STOPPED
    assert queue("release", "a") == 0
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("a").state is Status.DONE
    assert folder.snapshot("a").attempts[-1].resumed_from == 10


def test_kill_asks_first_and_ends_at_once(queue: Queue) -> None:
    folder = queue.folder
    folder.write()
    folder.script(a=["stubborn"])
    assert queue("add", str(folder.plan)) == 0
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    assert queue("kill", "a") == 4
    assert "--yes" in queue.error()
    assert queue("kill", "a", "--yes") == 0
    wait_for(lambda: folder.decisions("exit"))
    [end] = folder.decisions("exit")
    assert end.asked and end.status == -signal.SIGKILL
    assert queue.states() == {"a": "held"}
    # Of a submission that is closed only the run is left.
    assert queue("kill", "--all", "--yes") == 0
    wait_for(lambda: folder.decisions("supervisor_ended"))
    queue.error()
    [row] = queue.json("list", "--all")["rows"]
    assert (row["state"], row["row"]) == ("killed", None)


def test_rows_that_share_a_run_are_ended_and_go_on_together(queue: Queue) -> None:
    folder = queue.folder
    folder.write('[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\n', queue=ALL)
    folder.script(a=["wait", "good"])
    assert queue("add", str(folder.plan)) == 0
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    wait_for(lambda: queue.states() == {"a": "training", "b": "training"})
    assert queue("kill", "b", "--yes") == 0
    assert sorted(line.partition(":")[0] for line in queue.error().splitlines()[-2:]) == ["a", "b"]
    wait_for(lambda: folder.decisions("exit"))
    wait_for(lambda: queue.states() == {"a": "held", "b": "held"})
    # The supervisor had its chance to start it again.
    assert queue("hold", "a") == 0
    wait_for(lambda: [d.request for d in folder.decisions("wish")][-1] == "hold")
    assert len(folder.decisions("start")) == 1
    assert queue("release", "b") == 0
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("a").state is Status.DONE and len(folder.decisions("start")) == 2


def test_rows_that_are_one_run_are_held_and_tried_again_together(queue: Queue) -> None:
    folder = queue.folder
    folder.write('[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\n', queue=ALL)
    folder.db.submit(folder.submission())
    assert queue("hold", "b") == 0
    assert queue.states() == {"a": "held", "b": "held"}
    assert queue("retry", "b") == 0
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("a").state is Status.DONE and folder.starts() == ["a"]


def test_stop_works_when_the_supervisor_is_dead(queue: Queue) -> None:
    folder = queue.folder
    folder.write()
    folder.script(a=["wait"])
    assert queue("add", str(folder.plan)) == 0
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    os.kill(int(folder.runs.supervisor_lock.read_text()), signal.SIGKILL)
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))
    assert queue("stop", "--all") == 0
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("a").state is Status.STOPPED
    [finish] = folder.decisions("finish")
    assert finish.reason == "stopped on request" and queue.states() == {}


def test_remove_takes_a_row_out_and_says_so(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO, queue=ALL)
    folder.db.submit(folder.submission())
    assert queue("remove", "a", "--yes") == 0
    assert queue.states() == {"a": "removed", "b": "queued"}
    assert supervise(folder.runs, folder.executor) == 0
    assert folder.starts() == ["b"]
    [finish] = folder.decisions("finish")
    assert finish.not_run == {"a": "removed from the queue"}


def test_move_changes_the_order_of_rows_and_of_submissions(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO, queue=ALL)
    first, second = folder.db.submit(folder.submission()), folder.db.submit(folder.submission("train.seed=7"))
    assert queue("move", second.id, "--first") == 0
    assert folder.db.open_submissions() == [second, first]
    assert queue("move", "b", "--first") == 4  # of which submission?
    assert queue("remove", "--yes", "b") == 0 and queue("stop", second.id) == 0
    wait_for(lambda: len(folder.decisions("finish")) == 2)


def test_rows_start_in_the_order_that_was_asked_for(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO + '[[experiment]]\nid = "c"\ntrain.seed = 2\n', queue=ALL)
    folder.db.submit(folder.submission())
    assert queue("move", "c", "--before", "b") == 0
    assert list(queue.states()) == ["a", "c", "b"]
    assert queue("move", "a", "--last") == 0
    assert supervise(folder.runs, folder.executor) == 0
    assert folder.starts() == ["c", "b", "a"]


def test_retry_of_a_failed_row_while_the_plan_goes_on(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO, queue=ALL)
    folder.script(a=["diverge", "good"], b=["wait", "good"])
    assert queue("add", str(folder.plan)) == 0
    wait_for(lambda: len(folder.runs.runs()) == 2 and folder.snapshot("b").steps_completed == 10)
    assert queue.states()["a"] == "diverged"
    assert queue("retry", "a") == 0
    os.kill(folder.births("b")[0], signal.SIGTERM)
    wait_for(lambda: folder.decisions("supervisor_ended"))
    assert folder.snapshot("a").state is Status.DONE


def test_retry_of_a_run_whose_plan_is_done_with(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO, queue=ALL)
    folder.script(a=["oom", "good"])
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0
    assert queue("retry", folder.run("a").name) == 0
    wait_for(lambda: len(folder.decisions("finish")) == 2)
    assert folder.snapshot("a").state is Status.DONE and folder.starts() == ["a", "b", "a"]
    assert queue("retry", "nothing") == 4


def test_retry_of_a_run_that_is_done_says_so(queue: Queue) -> None:
    folder = queue.folder
    folder.write()
    folder.work()
    queue.error()
    for name in ("a", folder.run("a").name):
        assert queue("retry", name) == 4
        assert f"{name}: nothing to try again: it is done" in queue.error()
    assert folder.db.open_submissions() == [] and not is_held(folder.runs.supervisor_lock)


def a_trains_and_b_waits(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO, queue=ALL)
    folder.script(a=["wait"])
    assert queue("add", str(folder.plan)) == 0
    wait_for(lambda: queue.states() == {"a": "training", "b": "waiting"})
    queue.error()


@pytest.mark.parametrize(("command", "word"), [(("kill", "b", "--yes"), "killed"), (("stop", "b"), "stopped")])
def test_a_row_that_never_started_has_nothing_to_go_on_from(queue: Queue, command: tuple[str, ...], word: str) -> None:
    a_trains_and_b_waits(queue)
    assert queue(*command) == 0
    assert queue.error() == "b: had not started; held until released\n"
    [row] = [row for row in queue.json("list")["rows"] if row["row"] == "b"]
    assert (row["state"], row["reason"]) == ("held", commands.NOT_STARTED.format(word))


def test_release_of_what_is_not_held_says_so(queue: Queue) -> None:
    a_trains_and_b_waits(queue)
    assert queue("release", "b") == 0
    assert queue.error() == "b: was not held: it is waiting\n"
    assert queue.json("release", "b")["taken"] == []
    assert queue("hold", "b") == 0 and queue("release", "b") == 0
    assert queue.error() == "b: held until released\nb: released\n"


def test_what_only_looks_or_fails_makes_no_folder(tmp_path: Path, folder: PlanFolder) -> None:
    gone = tmp_path / "gone"
    folder.write()
    for words in (["hold", "x"], ["release", "--all"], ["move", "x", "--first"], ["stop", "--all"], ["retry", "x"],
                  ["retry", "--all"], ["kill", "x", "--yes"], ["remove", "x", "--yes"], ["prune", "x", "--yes"],
                  ["list"]):  # fmt: skip
        assert main(["queue", *words, "--runs", str(gone / "x")]) == (0 if words == ["list"] else 4)
    assert main(["--headless", str(folder.plan), "--gate", "--no-train", "--runs", str(gone / "x")]) == 5
    assert main(["status", str(folder.plan), "--runs", str(gone / "x")]) == 0
    assert not gone.exists()


def test_what_is_not_in_the_queue_is_named(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO)
    folder.db.submit(folder.submission())
    assert queue("hold", "9.9") == 4
    assert "9.9: not in the queue, which has a, b" in queue.error()
    assert queue("hold") == 4
    assert "say --all" in queue.error()


def test_prune_frees_what_ended_runs_need_no_more(queue: Queue) -> None:
    folder = queue.folder
    folder.write(TWO, queue=ALL)
    folder.script(b=["diverge"])
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0
    run, broken = folder.run("a"), folder.run("b")
    for checkpoint in (run.checkpoint(20), broken.checkpoint(5)):
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.safetensors").write_bytes(b"x" * 1000)
    freed = queue.json("prune", "--all", "--yes")["freed"]
    assert [(item["run"], item["bytes"]) for item in freed] == [(run.name, 1000), (broken.name, 1000)]
    assert not run.checkpoint(20).exists() and run.adapter(10).exists()
    queue.json("prune", "a", "--adapters", "--yes")
    assert sorted(path.name for path in run.adapters.iterdir()) == ["step-000005", "step-000020"]
    assert run.best.exists() and run.last.exists() and folder.snapshot("a").state is Status.DONE


def test_prune_names_what_it_cannot_delete(queue: Queue) -> None:
    folder = queue.folder
    folder.write()
    folder.script(a=["diverge"])
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0
    stays = folder.run("a").checkpoint(5)
    stays.joinpath(*"d" * 100).mkdir(parents=True)
    assert queue("prune", "--all", "--yes") == 4
    said = queue.error()
    assert "freed 0.0 MB in 0 of 1 run folders" in said and f"error: {stays}: cannot be deleted: folders in it" in said


def test_a_queue_of_an_earlier_version_is_brought_up_to_date(folder: PlanFolder) -> None:
    import sqlite3

    folder.runs.state.mkdir(parents=True)
    with sqlite3.connect(folder.runs.queue_db) as old:
        old.execute(
            "CREATE TABLE submissions (number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, created REAL NOT NULL,"
            " plan_path TEXT NOT NULL, plan_text TEXT NOT NULL, overrides TEXT NOT NULL, only_rows TEXT NOT NULL,"
            " open INTEGER NOT NULL DEFAULT 1)"
        )
        old.execute(
            "CREATE TABLE wishes (number INTEGER PRIMARY KEY, created REAL NOT NULL, kind TEXT NOT NULL,"
            " submission TEXT, run TEXT, open INTEGER NOT NULL DEFAULT 1)"
        )
        old.execute("INSERT INTO submissions VALUES (1, 'abc', 0, '/plan.toml', 'text', '[]', '[]', 1)")
    old.close()
    [submission] = folder.db.open_submissions()
    assert submission.id == "abc"
    folder.db.ask("stop", [Target("abc")])
    assert [wish.row for wish in folder.db.snapshot().requests.values()] == [None]


def test_status_follows_until_the_queue_is_done(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = queue.folder
    folder.write()
    folder.script(a=["wait", "good"])
    assert queue("add", str(folder.plan)) == 0
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    monkeypatch.setattr("lora_tui.status_command.FOLLOW_S", 0.05)
    os.kill(folder.births("a")[0], signal.SIGTERM)
    arguments = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    queue._capsys.readouterr()
    assert main(["status", str(folder.plan), "--follow", "--json", *arguments]) == 0
    states = [json.loads(line)["rows"][0]["state"] for line in queue._capsys.readouterr().out.splitlines()]
    assert states[-1] == "done" and len(states) > 1


@pytest.mark.parametrize(
    ("behaviour", "state"),
    [("diverge", "diverged"), ("oom", "out_of_memory"), ("error", "failed"), ("good", "done")],
)
def test_how_a_run_ended_is_listed_while_its_plan_is_open(
    queue: Queue, folder: PlanFolder, capsys: pytest.CaptureFixture[str], behaviour: str, state: str
) -> None:
    folder.write(TWO, queue=ALL)
    folder.script(a=[behaviour], b=["wait"])
    assert queue("add", str(folder.plan)) == 0
    wait_for(lambda: folder.runs.runs() and "b" in {run.name.rpartition("-")[0] for run in folder.runs.runs()})
    wait_for(lambda: queue.states()["b"] == "training")
    [row] = [row for row in queue.json("list")["rows"] if row["row"] == "a"]
    assert row["state"] == state
    assert ("told to" in row["reason"]) == (behaviour != "good")
    capsys.readouterr()
    assert queue("list") == 0 and f"  {state.replace('_', ' ')}  " in capsys.readouterr().out


def test_a_stopped_and_a_crashed_run_and_one_of_another_machine_are_told_apart(
    queue: Queue, folder: PlanFolder
) -> None:
    folder.write(TWO, queue=ALL + "\nretries = 0")
    folder.script(a=["crash"], b=["wait"])
    assert queue("add", str(folder.plan)) == 0
    wait_for(lambda: len(folder.runs.runs()) == 2 and queue.states()["b"] == "training")
    rows = {row["row"]: row for row in queue.json("list")["rows"]}
    assert rows["a"]["state"] == "crashed"
    assert rows["a"]["reason"].startswith("its trainer was killed or died without a word while it was training at step")
    os.kill(folder.births("b")[0], signal.SIGSTOP)
    os.kill(folder.births("b")[0], signal.SIGCONT)
    assert queue("stop", "b") == 0
    wait_for(lambda: not is_held(folder.runs.supervisor_lock) or queue.states().get("b") in ("held", "stopped"))
    [shown] = [row for row in queue.json("list", "--all")["rows"] if row["experiment"] == "b"]
    assert shown["state"] in ("held", "stopped")
    events = folder.run("a").events
    events.write_text(events.read_text().replace(current_process().boot, "another-boot"))
    [crashed] = [row for row in queue.json("list", "--all")["rows"] if row["experiment"] == "a"]
    assert crashed["state"] == "crashed" and crashed["reason"].startswith("the machine was restarted while it was")
