"""Reading run folders: folding, torn and foreign lines, the derived state, and following a live file."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.runs.events import (
    AdapterSaved,
    AttemptStarted,
    CheckpointSaved,
    Event,
    Final,
    Heartbeat,
    IntervalScored,
    Notice,
    Phase,
    Record,
    Step,
    encode,
)
from core.runs.fold import History
from core.runs.process import current_process
from core.runs.snapshot import STALLED_S, RunState
from core.runs.step_lines import STEP_PREFIX
from core.runs.store import RunFollower, read_run, run_state

MakeRun = Callable[..., Any]


def steps_of(run: Any) -> list[int]:
    return [int(s) for s in read_run(run.paths).steps.step]


def test_a_run_that_was_never_started_is_queued(fake_run: MakeRun) -> None:
    run = fake_run()
    snapshot = read_run(run.paths)
    assert snapshot.state is RunState.QUEUED
    assert (snapshot.experiment, snapshot.title, snapshot.identity) == ("2.1", "DoRA", "0123456789")
    assert (snapshot.steps_planned, snapshot.steps_completed, len(snapshot.steps)) == (1000, 0, 0)
    assert (snapshot.attempts, snapshot.intervals, snapshot.problems) == ((), (), ())


def test_the_history_of_a_run(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    run.event(Notice("warning", "2 clips are silent"), Notice("warning", "2 clips are silent"))
    run.interval(0, 300, 30, loss=2.5)
    run.step(1, 2, loss=math.nan)
    run.step(3, loss=0.5)
    run.interval(3, 200, 31, loss=math.nan)
    run.event(CheckpointSaved(3), AdapterSaved(3, "aa", True), Phase("evaluating", 3, "domain"))
    run.event(Heartbeat("evaluating", 7, 60))
    snapshot = read_run(run.paths)
    assert [int(s) for s in snapshot.steps.step] == [1, 2, 3]
    np.testing.assert_array_equal(snapshot.steps.loss, [math.nan, math.nan, 0.5])
    assert snapshot.steps.seconds_per_step == 0.25
    assert [(i.step, i.domain.counts.errors, i.heldout.counts.errors) for i in snapshot.intervals] == [
        (0, 300, 30),
        (3, 200, 31),
    ]
    assert snapshot.intervals[0].domain.loss == 2.5
    assert math.isnan(snapshot.intervals[1].domain.loss or 0)
    assert (snapshot.checkpoints, snapshot.best_step, snapshot.steps_completed) == ((3,), 3, 3)
    assert (snapshot.phase, snapshot.phase_step, snapshot.phase_detail) == ("evaluating", 3, "domain")
    assert snapshot.progress == (7, 60)
    assert [n.message for n in snapshot.notices] == ["2 clips are silent"]
    assert snapshot.attempts[0].device == "cpu"
    assert snapshot.duration_s == pytest.approx(run.time - snapshot.attempts[0].started)


# --- folding


def interrupted(run: Any, resumed_from: int | None) -> Any:
    """Killed after step 5, with a checkpoint and an adapter at 2 and at 4; then resumed."""
    run.start()
    run.interval(0, 300, 30)
    for step in range(1, 6):
        run.step(step, loss=float(step))
        if step in (2, 4):
            run.interval(step, 300 - step, 30)
            run.event(CheckpointSaved(step), AdapterSaved(step, f"hash{step}", True))
    run.start(resumed_from)
    return run


@pytest.mark.parametrize(
    ("resumed_from", "steps", "evaluated", "best"),
    [
        (4, [1, 2, 3, 4], [0, 2, 4], 4),
        (2, [1, 2], [0, 2], 2),
        (0, [], [0], None),
        (None, [], [], None),
    ],
)
def test_a_new_attempt_supersedes_what_came_after_its_checkpoint(
    fake_run: MakeRun, resumed_from: int | None, steps: list[int], evaluated: list[int], best: int | None
) -> None:
    run = interrupted(fake_run(), resumed_from)
    snapshot = read_run(run.paths)
    assert steps_of(run) == steps
    assert [i.step for i in snapshot.intervals] == evaluated
    assert list(snapshot.checkpoints) == [s for s in evaluated if s > 0]
    assert snapshot.best_step == best
    assert [a.number for a in snapshot.attempts] == [1, 2]
    assert snapshot.attempts[1].resumed_from == resumed_from


def test_three_attempts_fold_to_the_undisturbed_history(fake_run: MakeRun) -> None:
    run = interrupted(fake_run(), 4)
    run.step(5, 6, loss=50.0)
    run.start(2)
    run.step(3, 4, 5, loss=7.0)
    snapshot = read_run(run.paths)
    assert steps_of(run) == [1, 2, 3, 4, 5]
    assert snapshot.steps.loss.tolist() == [1, 2, 7, 7, 7]
    assert [i.step for i in snapshot.intervals] == [0, 2]


def test_lines_that_a_superseded_trainer_writes_late_are_ignored(fake_run: MakeRun) -> None:
    run = interrupted(fake_run(), 4)
    run.event(Step(6, 9.0, 1e-4, 1.0, 1, 1.0, 1.0), Final("error", "late"), attempt=1)
    snapshot = read_run(run.paths)
    assert steps_of(run) == [1, 2, 3, 4]
    assert (snapshot.final, snapshot.foreign_lines) == (None, 2)


def test_a_lost_first_line_of_an_attempt_is_made_up_by_its_steps(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    run.step(1, 2, 3, 4)
    run.attempt = 2
    run.step(3, 4, loss=9.0)
    snapshot = read_run(run.paths)
    assert snapshot.steps.loss.tolist() == [1, 1, 9, 9]
    assert [a.number for a in snapshot.attempts] == [1, 2]


# --- torn and foreign lines


def test_a_torn_last_line_waits_until_it_is_whole(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    run.step(1)
    line = encode(Record(1, run.time, Step(2, 1.0, 1e-4, 1.0, 1, 1.0, 1.0)))
    follower = RunFollower(run.paths)
    with run.paths.events.open("a") as file:
        file.write(line[:40])
        file.flush()
        torn = follower.refresh()
        assert (torn.steps_completed, torn.foreign_lines) == (1, 0)
        file.write(line[40:] + "\n")
        file.flush()
        assert follower.refresh().steps_completed == 2


def test_foreign_lines_are_counted_and_skipped(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    run.step(1, 2)
    with run.paths.events.open("ab") as file:
        file.write(b'\xff\xfe\n{"event": "step", "attempt": 1, "time": 1, "step": 3}\n\n{"event": "later"}\n')
        file.write(b'{"event": "step", "attempt": 1, "time": 1, "step": "4", "loss": 1}\n')
    run.step(3)
    bad = IntervalScored(3, {"domain": run.counts(-1), "heldout": run.counts(1)}, 1.0)
    run.event(bad, replace(bad, sets={"domain": run.counts(1)}), replace(bad, sets={}))
    snapshot = read_run(run.paths)
    assert steps_of(run) == [1, 2, 3]
    assert (snapshot.foreign_lines, snapshot.intervals) == (7, ())


def test_a_foreign_line_between_many_steps_loses_no_step(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    lines = [encode(Record(1, 1.0, Step(n, 1.0, 1e-4, 1.0, 1, 1.0, 1.0))) for n in range(1, 25_001)]
    lines[777] = lines[777][:60]
    lines[20_001] = "{" + lines[20_001]
    with run.paths.events.open("a") as file:
        file.write("\n".join(lines) + "\n")
    snapshot = read_run(run.paths)
    assert (len(snapshot.steps), snapshot.steps_completed, snapshot.foreign_lines) == (24_998, 25_000, 2)


def test_broken_files_are_named_and_read_around(fake_run: MakeRun) -> None:
    run = fake_run()
    run.paths.config.write_text("{")
    run.paths.result.write_text("[]")
    run.start()
    run.step(1)
    snapshot = read_run(run.paths, now=run.time)
    assert snapshot.state is RunState.TRAINING
    assert snapshot.problems == (
        f"{run.paths.config}: not JSON",
        f"{run.paths.result}: not a JSON object",
    )
    assert (snapshot.experiment, snapshot.steps_planned, snapshot.settings) == (run.paths.name, 0, {})
    run.paths.config.unlink()
    assert f"{run.paths.config}: missing" in read_run(run.paths).problems


# --- the state

DEAD = current_process().to_json() | {"start_time": 1}
FOREIGN = current_process().to_json() | {"machine": "another"}


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (None, "starting"),
        ("loading", "starting"),
        ("baseline", "evaluating"),
        ("training", "training"),
        ("evaluating", "evaluating"),
        ("checkpointing", "checkpointing"),
        ("saving", "saving"),
        ("finishing", "finishing"),
        ("a later phase", "starting"),
    ],
)
def test_a_living_run_is_in_its_phase_until_it_falls_silent(fake_run: MakeRun, phase: str | None, state: str) -> None:
    run = fake_run()
    run.start()
    if phase is not None:
        run.event(Phase(phase, 1))
    assert read_run(run.paths, now=run.time + 60).state == state
    assert read_run(run.paths, now=run.time + 61).state == "stalled"
    assert read_run(run.paths, now=run.time - 3600).state == state, "a clock that was set back"


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("stopped", "stopped"),
        ("diverged", "diverged"),
        ("out_of_memory", "out_of_memory"),
        ("disk_full", "disk_full"),
        ("error", "failed"),
        ("of a later version", "failed"),
    ],
)
def test_the_last_word_counts(fake_run: MakeRun, outcome: str, state: str) -> None:
    run = fake_run()
    run.start(process=DEAD)
    run.event(Final(outcome, "why", 7))
    assert read_run(run.paths).state == state
    assert run_state(run.paths) == state
    run.start()
    assert read_run(run.paths, now=run.time).state == "starting", "a new attempt begins afresh"


def test_dead_without_a_last_word_is_crashed(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start(process=DEAD)
    run.step(1)
    assert read_run(run.paths, now=run.time).state == "crashed"
    assert run_state(run.paths) == "crashed"


def test_on_another_machine_only_the_heartbeat_counts(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start(process=FOREIGN)
    run.step(1)
    assert read_run(run.paths).alive is None
    found = [str(read_run(run.paths, now=run.time + silence).state) for silence in (60, 61, 600, 601)]
    assert found == ["training", "stalled", "stalled", "crashed"]


def test_done_means_that_the_result_is_there(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    run.event(Final("done"))
    assert read_run(run.paths, now=run.time).state == "finishing"
    run.start(resumed_from=None, process=DEAD)
    run.event(Final("done"))
    assert read_run(run.paths).state == "crashed"
    run.result()
    assert read_run(run.paths).state == "done"
    assert run_state(run.paths) == "done"


def test_states_know_whether_a_trainer_is_at_work() -> None:
    active = {s for s in RunState if s.active}
    assert active == {"starting", "training", "evaluating", "checkpointing", "saving", "finishing", "stalled"}
    assert {s for s in RunState if s.broken} == {"diverged", "stopped_early", "out_of_memory", "failed"}


# --- following


def test_a_follower_reads_on_and_its_old_snapshots_do_not_change(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    run.step(1, 2, 3)
    follower = RunFollower(run.paths)
    first = follower.refresh()
    run.step(*range(4, 3000))
    second = follower.refresh()
    run.start(resumed_from=2)
    run.step(3, loss=9.0)
    third = follower.refresh()
    assert first.steps.loss.tolist() == [1, 1, 1]
    assert second.steps_completed == 2999
    assert second.steps.loss.tolist() == [1.0] * 2999
    assert third.steps.loss.tolist() == [1, 1, 9]
    with pytest.raises(ValueError, match="read-only"):
        third.steps.loss[0] = 5


def test_a_follower_survives_a_cut_torn_line_and_a_new_file(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    run.step(1)
    whole = run.paths.events.read_bytes()
    run.paths.events.write_bytes(whole + b'{"event": "st')
    follower = RunFollower(run.paths)
    assert follower.refresh().steps_completed == 1
    run.paths.events.write_bytes(whole)
    run.start(resumed_from=1)
    run.step(2)
    snapshot = follower.refresh()
    assert (snapshot.steps_completed, snapshot.foreign_lines, len(snapshot.attempts)) == (2, 0, 2)
    run.paths.events.unlink()
    run.paths.events.write_bytes(whole)
    assert follower.refresh().steps_completed == 1


def test_a_follower_measures_silence_by_its_own_clock(fake_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fake_run()
    run.start()
    run.time = time.time() - 3600
    run.event(Phase("training", 1))
    follower = RunFollower(run.paths)
    assert follower.refresh().state == "stalled"
    # Written just now, by a trainer whose wall clock is an hour slow.
    run.event(Heartbeat("training"))
    assert follower.refresh().state == "training"
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert follower.refresh().state == "stalled"


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(lambda n: AttemptStarted(1, {}, n, "cpu", "fp32"), st.one_of(st.none(), st.integers(0, 8))),
    st.builds(lambda n, loss: Step(n, loss, 1e-4, 1.0, 1, 1.0, 1.0), st.integers(1, 9), st.floats()),
    st.builds(CheckpointSaved, st.integers(0, 9)),
    st.builds(AdapterSaved, st.integers(0, 9), st.just("aa"), st.booleans()),
    st.builds(Phase, st.sampled_from(["training", "evaluating"])),
    st.builds(Final, st.just("stopped")),
)  # fmt: skip


def folded(history: History) -> str:
    series = history.steps.series()
    return json.dumps(
        [series.step.tolist(), series.loss.tolist(), list(history.checkpoints), repr(history.adapters),
         repr(history.attempts), repr(history.phase), history.last_time, history.foreign]
    )  # fmt: skip


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 3), EVENTS), max_size=40), st.integers(0, 40))
def test_reading_at_once_and_in_pieces_give_the_same_history(written: list[tuple[int, Event]], cut: int) -> None:
    records = [Record(attempt, float(i), event) for i, (attempt, event) in enumerate(written)]
    lines = [encode(record).encode() + b"\n" for record in records]
    whole, pieces, single = History(), History(), History()
    whole.add_block(b"".join(lines))
    pieces.add_block(b"".join(lines[:cut]))
    pieces.add_block(b"".join(lines[cut:]))
    for line in lines:
        single.add_block(line)
    assert folded(whole) == folded(pieces) == folded(single)
    steps = whole.steps.series().step
    assert bool(np.all(np.diff(steps) > 0))


def test_steps_are_written_as_the_fast_way_expects_them() -> None:
    assert encode(Record(1, 1.0, Step(1, 1.0, 1e-4, 1.0, 1, 1.0, 1.0))).encode().startswith(STEP_PREFIX)


@pytest.mark.parametrize("jump_s", [2 * 86_400.0, -3 * 86_400.0])
def test_a_clock_that_is_set_uses_up_no_hours(fake_run: MakeRun, jump_s: float) -> None:
    run = fake_run()
    run.start()
    run.step(*range(1, 11))
    run.time += jump_s
    run.step(*range(11, 21))
    [attempt] = read_run(run.paths).attempts
    assert 19 <= attempt.duration_s <= 20 + STALLED_S
    assert attempt.last_event - attempt.started == pytest.approx(20 + jump_s)


def test_a_hundred_thousand_steps_are_read_in_a_moment(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    line = encode(Record(1, 1.0, Step(123456, 1.0, 1e-4, 1.0, 1, 1.0, 1.0)))
    with run.paths.events.open("a") as file:
        file.writelines(line.replace("123456", str(n)) + "\n" for n in range(1, 100_001))
    begun = time.process_time()
    assert read_run(run.paths).steps_completed == 100_000
    assert time.process_time() - begun < 3
