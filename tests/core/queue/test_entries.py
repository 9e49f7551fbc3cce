"""The word for each row, and its cause. Beside each word stands what the supervisor itself would do."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from core.queue import entries
from core.queue.entries import EntryState, Listing, listed, told
from core.queue.journal import Pause, SupervisorStopping
from core.queue.wishes import Target
from core.runs.events import SCHEMA_VERSION, AttemptStarted, Final, Record, encode
from core.runs.store import state_and_reason
from core.system.files import append_line
from core.system.process import current_process

ENDED = {"crash": "crashed", "stop": "stopped", "error": "failed", "diverge": "diverged"}
CRASHED = "its trainer was killed or died without a word while it was training at step 3"


def test_a_row_that_was_never_started(scene: Any) -> None:
    assert (scene.entry().state, scene.entry().reason) == ("queued", "")
    assert not scene.entry().retriable
    scene.say("wait", reason="the trainer of another run has the CPU", over=False)
    assert (scene.entry().state, scene.entry().reason) == ("waiting", "the trainer of another run has the CPU")
    scene.folder.db.hold([Target(scene.submission.id, "a")], "held on request")
    assert (scene.entry().state, scene.entry().reason) == ("held", "held on request")
    scene.folder.db.remove([Target(scene.submission.id, "a")])
    assert (scene.entry().state, scene.entry().reason) == ("removed", "")


@pytest.mark.parametrize("word", ["stop", "kill"])
def test_a_row_whose_submission_is_ended_waits_for_nothing_that_comes(scene: Any, word: str) -> None:
    scene.wish(word, None)
    entry = scene.entry()
    assert entry.state == "waiting" and entry.reason.startswith("nothing more is started: ")
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
def test_how_an_attempt_ended_and_whether_it_goes_on(scene: Any, how: str, word: str, reason: str) -> None:
    scene.attempt(how)
    assert (scene.entry().state, scene.entry().reason) == (word, reason)
    assert scene.entry().retriable
    assert scene.would_start() == (word == "queued")


@pytest.mark.parametrize(
    ("how", "word"), [("crash", "queued"), ("stop", "queued"), ("error", "queued"), ("diverge", "diverged")]
)
def test_what_an_earlier_submission_left(scene: Any, how: str, word: str) -> None:
    for _ in range(2):
        scene.attempt(how)
    scene.again()
    assert scene.entry().state == word
    assert ("before" in scene.entry().reason) == (word == "queued")
    assert scene.would_start() == (word == "queued")
    scene.say("wait", reason="no GPU is free", over=False)
    if word == "queued":
        assert scene.entry().state == "waiting" and scene.entry().reason.startswith("no GPU is free; ")


def test_restarts_are_used_up_until_somebody_asks_to_try_again(scene: Any) -> None:
    scene.attempt("crash")
    scene.attempt("crash")
    entry = scene.entry()
    assert (entry.state, entry.reason) == (
        "crashed",
        f"{CRASHED}; crashed 2 times: not resumed again (queue.retries = 1)",
    )
    assert not scene.would_start()
    scene.wish("retry")
    assert scene.entry().state == "queued" and scene.would_start()


def test_an_end_that_nobody_has_written_down_counts_too(scene: Any) -> None:
    scene.attempt("crash")
    scene.start()
    scene.train("crash")
    before = scene.entry().state
    scene.exit("crashed")
    assert before == scene.entry().state == "crashed"


def test_a_reboot_costs_nothing_and_is_told(scene: Any) -> None:
    scene.process |= {"boot": "another-boot"}
    for _ in range(3):
        scene.start()
        scene.train("crash")
        scene.exit("rebooted")
    entry = scene.entry()
    assert entry.state == "queued" and "crashed before (the machine was restarted while it was training" in entry.reason
    assert scene.would_start()


def test_a_trainer_that_died_before_its_first_event(scene: Any) -> None:
    scene.start()
    assert scene.entry().reason == "crashed before (its trainer ended: before its first event), is started again"
    scene.exit("crashed")
    assert scene.entry().state == "queued" and scene.would_start()
    scene.start()
    scene.exit("crashed")
    entry = scene.entry()
    assert entry.state == "crashed" and entry.reason.endswith("not resumed again (queue.retries = 1)")
    assert not scene.would_start()


def test_killed_on_request(scene: Any) -> None:
    scene.start()
    scene.train("crash")
    scene.wish("kill")
    scene.exit("crashed", asked=True)
    scene.folder.db.hold([Target(scene.submission.id, "a")], "killed on request")
    assert (scene.entry().state, scene.entry().reason) == ("held", "killed on request")
    scene.folder.db.release([Target(scene.submission.id, "a")])
    scene.wish("release")
    assert (scene.entry().state, scene.entry().reason) == ("queued", "killed before, is started again")
    assert scene.would_start()
    scene.wish("kill", None)
    entry = scene.entry()
    assert entry.state == "killed" and entry.reason.endswith("nothing more is started: killed on request")
    assert not scene.would_start()


def test_killed_in_a_submission_that_is_closed(scene: Any) -> None:
    scene.start()
    scene.train("crash")
    scene.wish("kill", None)
    scene.exit("crashed", asked=True)
    scene.again()
    assert (scene.entry().state, scene.entry().reason) == ("queued", "killed before, is started again")
    assert scene.would_start()


def test_ended_for_the_plans_own_sake(scene: Any) -> None:
    scene.start()
    scene.say("stop", row="a", run=scene.run.name, reason="the budget of 1 hours is used up")
    scene.train("stop")
    scene.exit("stopped", asked=True)
    assert (scene.entry().state, scene.entry().reason) == ("stopped", "said stop; the budget of 1 hours is used up")


def test_nothing_is_resumed_once_another_run_was_accepted(scene: Any) -> None:
    scene.attempt("crash")
    scene.say("wait", reason="b was accepted; waiting for c to end", over=True)
    entry = scene.entry()
    assert entry.state == "crashed" and entry.reason.endswith(
        "nothing more is started: b was accepted; waiting for c to end"
    )


def test_out_of_memory_goes_on_as_another_run(scene: Any) -> None:
    scene.start()
    scene.attempts = 1
    append_line(
        scene.run.events, encode(Record(1, 1e9, AttemptStarted(SCHEMA_VERSION, scene.process, None, "cpu", "fp32")))
    )
    append_line(scene.run.events, encode(Record(1, 1e9, Final("out_of_memory", "CUDA", 0))))
    scene.exit("out_of_memory")
    assert scene.entry().state == "out_of_memory"
    scene.say("halve", row="a", run=scene.run.name, accumulation=2)
    entry = scene.entry()
    assert (entry.state, entry.reason) == ("queued", "out of memory before (CUDA), is run again with accumulation 2")


def test_a_queue_that_paused(scene: Any) -> None:
    scene.attempt("disk")
    scene.log.append(Pause(cause="disk", reason="the disk is full"))
    entry = scene.entry()
    assert entry.state == "waiting" and entry.reason.startswith("paused: the disk is full; disk full before")


def test_closed_by_the_queue(scene: Any) -> None:
    scene.say("skip", row="a", status="failed", reason="cannot start: no such file", inputs={})
    assert (scene.entry().state, scene.entry().reason) == ("failed", "cannot start: no such file")
    scene.wish("retry")
    assert scene.entry().state == "queued"


def test_without_a_supervisor_nothing_is_started_again(unattended: Any) -> None:
    scene = unattended
    scene.say("wait", reason="no GPU is free", over=False)
    assert (scene.entry().state, scene.entry().reason) == ("queued", ""), "what it waits for, nobody knows now"
    scene.attempt("crash")
    entry = scene.entry()
    assert (entry.state, entry.reason) == ("crashed", f"{CRASHED}; no supervisor is at work to start it again")


def test_a_submission_that_is_ended_stays_so_without_a_supervisor(unattended: Any) -> None:
    scene = unattended
    scene.wish("stop", None)
    assert scene.entry().reason == "nothing more is started: stopped on request"
    assert not scene.would_start()


def test_a_living_trainer_says_what_was_asked_of_it(scene: Any) -> None:
    scene.process = dict(current_process().to_json())
    scene.start()
    assert scene.entry().state == "starting"
    assert told("crashed", "it crashed", scene.entry()) == ("starting", ""), "why it crashed before is no news"
    scene.train("crash")
    assert scene.entry().active
    scene.log.append(SupervisorStopping())
    assert scene.entry().asked == "asked to stop: it finishes its step and saves"
    scene.start()
    assert not scene.entry().asked
    scene.wish("stop")
    assert scene.entry().reason.endswith("asked to stop: it finishes its step and saves")
    assert told("training", "12/40", scene.entry()) == ("training", "asked to stop: it finishes its step and saves")
    scene.wish("kill", None)
    assert scene.entry().asked == "is being killed"


def test_what_a_face_sees_of_the_folder_goes_first_while_a_trainer_lives_and_at_the_end(scene: Any) -> None:
    entry = scene.entry()
    assert told("not run", "after b", entry) == ("queued", "after b")
    assert told("training", "3/9", entry) == ("training", "3/9")
    assert told("done", "", entry) == ("done", "")
    assert told("failed", "no such file", entry) == ("queued", "failed before")
    assert told("crashed", "why", None) == ("crashed", "why")
    assert told("crashed", "why", None, killed=True)[0] == "killed"
    assert told("stopped", "why", None, killed=True) == ("stopped", "why")


@pytest.mark.parametrize("how", ["crash", "stop", "error", "diverge"])
@pytest.mark.parametrize("again", [False, True])
def test_before_a_supervisor_has_looked_a_run_is_told_as_the_supervisor_will_have_it(
    scene: Any, how: str, again: bool
) -> None:
    scene.attempt(how)
    own = scene.entry()
    scene.say("finish", complete=False, reason="", not_run={})
    scene.folder.db.close_submission(scene.submission.id)
    scene.submission = scene.folder.db.submit(scene.folder.submission(), retry=["a"] if again else [])
    assert scene.entry().run is None, "which run it is nobody has said"
    word, reason = told(state_and_reason(scene.run)[0].value, "its own reason", scene.entry())
    scene.say("submitted", plan=str(scene.folder.plan), overrides=[], only=[])
    if again:
        assert told("diverged", "", scene.entry())[0] == "queued"
        scene.wish("retry")
    scene.say("run", row="a", run=scene.run.name)
    assert word == scene.entry().state and (word == "queued") == scene.would_start()
    assert reason == ("its own reason" if word == own.state == "diverged" else f"{ENDED[how]} before")


def test_the_entry_of_a_plans_row_is_the_one_with_its_run(scene: Any) -> None:
    scene.attempt("crash")
    entry, plan = scene.entry(), scene.submission.plan_path
    found = listed(scene.folder.runs)
    assert found.find(plan, "a", entry.run.name if entry.run else None) == entry
    assert found.find(plan, "a", None) == entry
    assert found.find(plan, "a", "a-ffffffffff") is None, "an edited plan's row is another run"
    edited = replace(entry.row.settings, train=replace(entry.row.settings.train, steps=21))
    assert found.find(plan, "a", None, entry.row.settings) == entry
    assert found.find(plan, "a", None, edited) is None, "nor when that run was never started"
    assert found.find("/other.toml", "a", None) is None
    assert Listing().find(plan, "a", None) is None
    assert entry.state in set(EntryState)


def test_a_trainer_that_says_its_first_word_during_the_look_is_not_told_as_crashed(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.attempt("crash")
    scene.process = dict(current_process().to_json())
    scene.start()
    real = entries.state_and_reason
    looks: list[str] = []

    def look(run: Any) -> Any:
        found = real(run)
        if not looks:
            scene.train("crash")  # as its folder tells it while the process lives: it trains
        looks.append(found[0].value)
        return found

    monkeypatch.setattr(entries, "state_and_reason", look)
    assert scene.entry().active and looks[0] == "crashed"


def test_a_trainer_that_nobody_here_can_look_at_is_starting_for_as_long_as_it_may_be_silent(scene: Any) -> None:
    scene.attempt("crash")
    scene.process |= {"pid_namespace": "another container"}
    scene.start()
    assert (scene.entry().state, scene.entry().active) == ("starting", True)
    lines = scene.folder.runs.decisions.read_text().splitlines()
    long_ago = json.dumps(json.loads(lines[-1]) | {"time": time.time() - 700})
    scene.folder.runs.decisions.write_text("\n".join([*lines[:-1], long_ago]) + "\n")
    assert scene.entry().state == "crashed", "both have ended, and one restart was free"
