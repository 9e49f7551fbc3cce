"""Reading run folders: folding, torn and foreign lines, superseded attempts."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.runs.events import (
    AdapterSaved,
    CheckpointSaved,
    Final,
    Heartbeat,
    IntervalScored,
    Notice,
    Phase,
    Record,
    Step,
    encode,
)
from core.runs.status import Status
from core.runs.store import RunFollower, read_run

MakeRun = Callable[..., Any]


def steps_of(run: Any) -> list[int]:
    return [int(s) for s in read_run(run.paths).steps.step]


def test_a_run_that_was_never_started_is_queued(fake_run: MakeRun) -> None:
    run = fake_run()
    snapshot = read_run(run.paths)
    assert snapshot.state is Status.QUEUED
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
    assert snapshot.state is Status.TRAINING
    assert snapshot.problems == (
        f"{run.paths.config}: not JSON",
        f"{run.paths.result}: not a JSON object",
    )
    assert (snapshot.experiment, snapshot.steps_planned, snapshot.settings) == (run.paths.name, 0, {})
    run.paths.config.unlink()
    assert f"{run.paths.config}: missing" in read_run(run.paths).problems
