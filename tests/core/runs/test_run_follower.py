"""Following a live run, and reading its lines at once or in pieces."""

import json
import time
from collections.abc import Callable
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
    Phase,
    Record,
    Step,
    encode,
)
from core.runs.fold import History
from core.runs.snapshot import STALLED_S
from core.runs.steps import STEP_PREFIX
from core.runs.store import RunFollower, read_run

MakeRun = Callable[..., Any]


def steps_of(run: Any) -> list[int]:
    return [int(s) for s in read_run(run.paths).steps.step]


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
    later = time.monotonic() + 61  # noqa: TID251 - moves the clock
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
