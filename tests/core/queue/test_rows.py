"""The word for each row, and its cause. Beside each word stands what the supervisor itself would do."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from plan_folder import PlanFolder
from queue_scene import Scene

from core.manifests.hashing import HashCache
from core.queue.execution import PlanExecution
from core.queue.journal import Journal, Pause, Submitted, SupervisorStopping, Wait
from core.queue.report import report
from core.queue.requests import Target
from core.queue.rows import queue_rows, seen
from core.runs.events import SCHEMA_VERSION, AttemptStarted, Final, Record, encode
from core.runs.paths import RunPaths
from core.runs.row import Row
from core.runs.status import Status
from core.runs.store import read_run, state_and_reason
from core.system.files import append_line
from core.system.locks import KernelLock
from core.system.process import current_process

ENDED = {"crash": "crashed", "stop": "stopped", "error": "failed", "diverge": "diverged"}
CRASHED = "its trainer was killed or died without a word while it was training at step 3"


def told(scene: Scene, status: str, reason: str = "") -> tuple[str, str]:
    """The word for the row of a face that sees its run so."""
    bare = Row("plan:a", "a", Status(status), reason, run=scene.run)
    row = queue_rows(scene.folder.runs).row(bare, str(scene.folder.plan))
    return row.status.value, row.reason


def test_a_row_that_was_never_started(scene: Scene) -> None:
    assert (scene.entry().status, scene.entry().reason) == ("queued", "")
    assert not scene.entry().retriable
    scene.say("wait", reason="the trainer of another run has the CPU", over=False)
    assert (scene.entry().status, scene.entry().reason) == ("waiting", "the trainer of another run has the CPU")
    scene.folder.db.ask("hold", [Target(scene.submission.id, "a")], "held on request")
    assert (scene.entry().status, scene.entry().reason) == ("held", "held on request")
    scene.folder.db.ask("remove", [Target(scene.submission.id, "a")])
    assert (scene.entry().status, scene.entry().reason) == ("removed", "")


@pytest.mark.parametrize("word", ["stop", "kill"])
def test_a_row_whose_submission_is_ended_waits_for_nothing_that_comes(scene: Scene, word: str) -> None:
    scene.wish(word, None)
    entry = scene.entry()
    assert entry.status == "waiting" and entry.reason.startswith("nothing more is started: ")
    assert not scene.would_start()


@pytest.mark.parametrize(
    ("how", "word", "reason"),
    [
        ("crash", "queued", f"crashed before ({CRASHED}), is started again"),
        ("stop", "queued", "stopped before (said stop), is started again"),
        ("disk", "queued", "disk full before (said disk), is started again"),
        ("error", "failed", "said error"),
        ("diverge", "diverged", "said diverge"),
    ],
)
def test_how_an_attempt_ended_and_whether_it_goes_on(scene: Scene, how: str, word: str, reason: str) -> None:
    scene.attempt(how)
    assert (scene.entry().status, scene.entry().reason) == (word, reason)
    assert scene.entry().retriable
    assert scene.would_start() == (word == "queued")


@pytest.mark.parametrize(
    ("how", "word"), [("crash", "queued"), ("stop", "queued"), ("error", "queued"), ("diverge", "diverged")]
)
def test_what_an_earlier_submission_left(scene: Scene, how: str, word: str) -> None:
    for _ in range(2):
        scene.attempt(how)
    scene.again()
    assert scene.entry().status == word
    assert ("before" in scene.entry().reason) == (word == "queued")
    assert scene.would_start() == (word == "queued")
    scene.say("wait", reason="no GPU is free", over=False)
    if word == "queued":
        assert scene.entry().status == "waiting" and scene.entry().reason.startswith("no GPU is free; ")


def test_restarts_are_used_up_until_somebody_asks_to_try_again(scene: Scene) -> None:
    scene.attempt("crash")
    scene.attempt("crash")
    entry = scene.entry()
    assert (entry.status, entry.reason) == (
        "crashed",
        f"{CRASHED}; crashed 2 times: not resumed again (queue.retries = 1)",
    )
    assert not scene.would_start()
    scene.wish("retry")
    assert scene.entry().status == "queued" and scene.would_start()


def test_an_end_that_nobody_has_written_down_counts_too(scene: Scene) -> None:
    scene.attempt("crash")
    scene.start()
    scene.train("crash")
    before = scene.entry().status
    scene.exit("crashed")
    assert before == scene.entry().status == "crashed"


def test_a_reboot_costs_nothing_and_is_told(scene: Scene) -> None:
    scene.process |= {"boot": "another-boot"}
    for _ in range(3):
        scene.start()
        scene.train("crash")
        scene.exit("rebooted")
    entry = scene.entry()
    assert entry.status == "queued"
    assert "crashed before (the machine was restarted while it was training" in entry.reason
    assert scene.would_start()


def test_a_row_that_depends_on_another_says_so_with_and_without_a_folder(unattended: Scene) -> None:
    scene, folder = unattended, unattended.folder
    folder.write('[[experiment]]\nid = "a"\n[[experiment]]\nid = "c"\nafter = ["a"]\ntrain.seed = 2\n')
    scene.say("finish", complete=False, reason="", not_run={})
    with folder.db.closing(scene.submission.id, at_once=True):
        pass
    scene.submission = folder.db.submit(folder.submission())
    scene.say("submitted", plan=str(folder.plan), overrides=[], only=[])
    execution = scene.execution()
    assert {row.key: row.reason for row in queue_rows(folder.runs).rows} == {"a": "", "c": "after a"}
    run = execution.folder(execution.assigned["c"])
    run.root.mkdir()
    run.config.write_text(json.dumps({"experiment": "c", "identity": run.name[2:]}))
    scene.say("run", row="c", run=run.name)
    listed = {row.key: (row.status, row.reason) for row in queue_rows(folder.runs).rows}
    assert listed == {row.key: (row.status, row.reason) for row in report(scene.execution(), {})}
    assert listed["c"] == ("queued", "after a")


def test_a_trainer_that_died_before_its_first_event(scene: Scene) -> None:
    scene.start()
    assert scene.entry().reason == "crashed before (its trainer ended: before its first event), is started again"
    scene.exit("crashed")
    assert scene.entry().status == "queued" and scene.would_start()
    scene.start()
    scene.exit("crashed")
    entry = scene.entry()
    assert entry.status == "crashed" and entry.reason.endswith("not resumed again (queue.retries = 1)")
    assert not scene.would_start()


def test_killed_on_request(scene: Scene) -> None:
    scene.start()
    scene.train("crash")
    scene.wish("kill")
    scene.exit("crashed", asked=True)
    scene.folder.db.ask("hold", [Target(scene.submission.id, "a")], "killed on request")
    assert (scene.entry().status, scene.entry().reason) == ("held", "killed on request")
    scene.folder.db.ask("release", [Target(scene.submission.id, "a")])
    scene.wish("release")
    assert (scene.entry().status, scene.entry().reason) == ("queued", "killed before, is started again")
    assert scene.would_start()
    scene.wish("kill", None)
    entry = scene.entry()
    assert entry.status == "killed" and entry.reason.endswith("nothing more is started: killed on request")
    assert not scene.would_start()


def test_killed_in_a_submission_that_is_closed(scene: Scene) -> None:
    scene.start()
    scene.train("crash")
    scene.wish("kill", None)
    scene.exit("crashed", asked=True)
    scene.again()
    assert (scene.entry().status, scene.entry().reason) == ("queued", "killed before, is started again")
    assert scene.would_start()


def test_ended_for_the_plans_own_sake(scene: Scene) -> None:
    scene.start()
    scene.say("stop", row="a", run=scene.run.name, reason="the budget of 1 hours is used up")
    scene.train("stop")
    scene.exit("stopped", asked=True)
    assert (scene.entry().status, scene.entry().reason) == ("stopped", "said stop; the budget of 1 hours is used up")


def test_nothing_is_resumed_once_another_run_was_accepted(scene: Scene) -> None:
    scene.attempt("crash")
    scene.say("wait", reason="b was accepted; waiting for c to end", over=True)
    entry = scene.entry()
    assert entry.status == "crashed" and entry.reason.endswith(
        "nothing more is started: b was accepted; waiting for c to end"
    )


def test_out_of_memory_goes_on_as_another_run(scene: Scene) -> None:
    scene.start()
    scene.attempts = 1
    append_line(
        scene.run.events, encode(Record(1, 1e9, AttemptStarted(SCHEMA_VERSION, scene.process, None, "cpu", "fp32")))
    )
    append_line(scene.run.events, encode(Record(1, 1e9, Final("out_of_memory", "CUDA", 0))))
    scene.exit("out_of_memory")
    assert scene.entry().status == "out_of_memory"
    scene.say("halve", row="a", run=scene.run.name, accumulation=2)
    entry = scene.entry()
    assert (entry.status, entry.reason) == ("queued", "out of memory before (CUDA), is run again with accumulation 2")


def test_a_queue_that_paused(scene: Scene) -> None:
    scene.attempt("disk")
    scene.log.append(Pause(cause="disk", reason="the disk is full"))
    entry = scene.entry()
    assert entry.status == "waiting" and entry.reason.startswith("paused: the disk is full; disk full before")


def test_closed_by_the_queue(scene: Scene) -> None:
    scene.say("skip", row="a", status="failed", reason="cannot start: no such file", inputs={})
    assert (scene.entry().status, scene.entry().reason) == ("failed", "cannot start: no such file")
    scene.wish("retry")
    assert scene.entry().status == "queued"


def test_without_a_supervisor_nothing_is_started_again(unattended: Scene) -> None:
    scene = unattended
    scene.say("wait", reason="no GPU is free", over=False)
    assert (scene.entry().status, scene.entry().reason) == ("queued", ""), "what it waits for, nobody knows now"
    scene.attempt("crash")
    entry = scene.entry()
    assert (entry.status, entry.reason) == ("crashed", f"{CRASHED}; no supervisor is at work to start it again")


def test_a_submission_that_is_ended_stays_so_without_a_supervisor(unattended: Scene) -> None:
    scene = unattended
    scene.wish("stop", None)
    assert scene.entry().reason == "nothing more is started: stopped on request"
    assert not scene.would_start()


def test_a_living_trainer_says_what_was_asked_of_it(scene: Scene) -> None:
    scene.process = dict(current_process().to_json())
    scene.start()
    assert scene.entry().status == "starting"
    assert told(scene, "crashed", "it crashed") == ("starting", ""), "why it crashed before is no news"
    scene.train("crash")
    assert scene.entry().active
    scene.log.append(SupervisorStopping())
    assert scene.entry().queued.asked == "asked to stop: it finishes its step and saves"
    scene.start()
    assert not scene.entry().queued.asked
    scene.wish("stop")
    assert scene.entry().reason.endswith("asked to stop: it finishes its step and saves")
    assert told(scene, "training", "12/40") == ("training", "12/40, asked to stop: it finishes its step and saves")
    scene.wish("kill", None)
    assert scene.entry().queued.asked == "is being killed"


def test_what_a_face_sees_of_the_folder_goes_first_while_a_trainer_lives_and_at_the_end(scene: Scene) -> None:
    assert told(scene, "training", "3/9") == ("training", "3/9")
    assert told(scene, "done", "") == ("done", "")
    assert told(scene, "failed", "no such file") == ("queued", "failed before (no such file), is started again")
    scene.say("finish", complete=False, reason="", not_run={})
    with scene.folder.db.closing(scene.submission.id, at_once=True):
        pass
    assert told(scene, "crashed", "why") == ("crashed", "why")
    scene.start()
    scene.wish("kill")
    assert told(scene, "crashed", "why")[0] == "killed"
    assert told(scene, "stopped", "why") == ("stopped", "why")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan's audio was hashed long ago, as far as the cache of hashes can tell."""
    monkeypatch.setattr("core.manifests.hashing.FRESH_NS", -1)


@pytest.mark.usefixtures("hashed")
@pytest.mark.parametrize("how", ["crash", "stop", "error", "diverge"])
@pytest.mark.parametrize("again", [False, True])
def test_before_a_supervisor_has_looked_a_run_is_told_as_the_supervisor_will_have_it(
    scene: Scene, how: str, again: bool
) -> None:
    scene.attempt(how)
    own = scene.entry()
    scene.say("finish", complete=False, reason="", not_run={})
    with scene.folder.db.closing(scene.submission.id, at_once=True):
        pass
    scene.submission = scene.folder.db.submit(scene.folder.submission(), retry=["a"] if again else [])
    assert scene.entry().run == scene.run, "though no supervisor has said so"
    word, reason = told(scene, state_and_reason(scene.run)[0].value, "its own reason")
    scene.say("submitted", plan=str(scene.folder.plan), overrides=[], only=[])
    if again:
        assert told(scene, "diverged")[0] == "queued"
        scene.wish("retry")
    scene.say("run", row="a", run=scene.run.name)
    assert word == scene.entry().status and (word == "queued") == scene.would_start()
    if word == own.status == "diverged":
        assert reason == "its own reason; diverged: not retried unchanged"
    else:
        assert reason == f"{ENDED[how]} before (its own reason), is started again"


def test_the_entry_of_a_plans_row_is_the_one_with_its_run(scene: Scene) -> None:
    scene.attempt("crash")
    entry, plan = scene.entry(), scene.submission.plan_path
    assert entry.run is not None and entry.wanted is not None
    other = replace(entry.run, root=entry.run.root.with_name("a-ffffffffff"))

    def has(*, run: RunPaths | None = None, wanted: Any = None, of: str = plan) -> bool:
        status = Status.CRASHED if run is not None else Status.NOT_RUN
        row = queue_rows(scene.folder.runs).row(Row("plan:a", "a", status, run=run, wanted=wanted), of)
        return row.queued.submission == scene.submission.id

    assert has(run=entry.run) and has()
    assert not has(run=other), "an edited plan's row is another run"
    steps = replace(entry.wanted.settings.train, steps=21)
    edited = replace(entry.wanted, settings=replace(entry.wanted.settings, train=steps))
    assert has(wanted=entry.wanted)
    assert not has(wanted=edited), "nor when that run was never started"
    assert not has(of="/other.toml")
    assert set(map(str, Status)) <= set(map(str, Status)), "a run's state is a word for its row"


def test_a_trainer_that_says_its_first_word_during_the_look_is_not_told_as_crashed(scene: Scene) -> None:
    scene.attempt("crash")
    scene.process = dict(current_process().to_json())
    scene.start()
    before = seen(Row("plan:a", "a"), read_run(scene.run))
    scene.train("crash")  # as its folder tells it while the process lives: it trains
    assert before.status == "crashed"
    assert queue_rows(scene.folder.runs).row(before, str(scene.folder.plan)).active


def test_a_trainer_that_nobody_here_can_look_at_is_starting_for_as_long_as_it_may_be_silent(scene: Scene) -> None:
    scene.attempt("crash")
    scene.process |= {"pid_namespace": "another container"}
    scene.start()
    assert (scene.entry().status, scene.entry().active) == ("starting", True)
    lines = scene.folder.runs.decisions.read_text().splitlines()
    long_ago = json.dumps(json.loads(lines[-1]) | {"time": time.time() - 700})
    scene.folder.runs.decisions.write_text("\n".join([*lines[:-1], long_ago]) + "\n")
    assert scene.entry().status == "crashed", "both have ended, and one restart was free"


THREE = """\
[[experiment]]
id = "a"
[[experiment]]
id = "b"
train.seed = 1
[[experiment]]
id = "c"
train.seed = 2
after = ["a"]
when = "accepted"
"""
CPU = "the trainer of another run has the CPU"


def test_each_row_that_waits_names_its_own_first_obstacle(folder: PlanFolder) -> None:
    folder.write(THREE, 'until = "all"')
    folder.runs.root.mkdir()
    submission = folder.db.submit(folder.submission()).id
    log = Journal(folder.runs.decisions)
    log.append(Submitted(submission=submission, plan=str(folder.plan)))

    def told() -> dict[str, tuple[str, str]]:
        return {row.key: (row.status.value, row.reason) for row in queue_rows(folder.runs).rows}

    assert told() == {"a": ("queued", ""), "b": ("queued", ""), "c": ("queued", "after a; if accepted")}, "nobody knows"
    lock = KernelLock.acquire(folder.runs.supervisor_lock)
    assert lock is not None
    assert told() == {"a": ("queued", ""), "b": ("queued", ""), "c": ("waiting", "waits for a")}
    log.append(Wait(submission=submission, reason=CPU, dependent={"c": ("a",)}))
    assert told() == {"a": ("waiting", CPU), "b": ("waiting", f"a comes first: {CPU}"), "c": ("waiting", "waits for a")}
    gpus = "GPU 0 trains 1.1; the process of GPU 1 waits for its driver"
    log.append(Wait(submission=submission, reason=gpus))
    assert told()["a"] == ("waiting", gpus), "whatever words a reason is in, none are dropped"
    log.append(Wait(submission=submission, dependent={"c": ("a",)}, held=("a",)))
    assert told()["b"] == ("queued", ""), "what keeps other rows is none of its business"
    log.append(Wait(submission=submission, reason=CPU))
    folder.db.ask("hold", [Target(submission, "a")], "held on request")
    assert told() == {"a": ("held", "held on request"), "b": ("waiting", CPU), "c": ("waiting", "waits for a")}
    folder.db.ask("remove", [Target(submission, "a")])
    assert told()["c"] == ("waiting", f"b comes first: {CPU}"), "its condition is decided when its turn comes"
    log.append(Pause(cause="disk", reason="the disk is full"))
    assert {why for status, why in told().values() if status == "waiting"} == {"paused: the disk is full"}
    lock.release()


def test_a_folder_in_which_no_trainer_has_worked_is_as_none(folder: PlanFolder) -> None:
    folder.write(THREE, 'until = "all"')
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    wanted = next(row for row in execution.rows if row.key == "c")
    bare = Row("plan:c", "c", wanted=wanted)
    made = replace(bare, run=folder.runs.run("c", "0123456789"), status=Status.QUEUED)

    def told(row: Row) -> tuple[str, str]:
        found = queue_rows(folder.runs).row(row, str(folder.plan))
        return found.status.value, found.reason

    assert told(made) == told(bare) == ("not run", "after a; if accepted")
    folder.runs.root.mkdir()
    folder.db.submit(folder.submission())
    assert told(made) == told(bare) == ("queued", "after a; if accepted")
