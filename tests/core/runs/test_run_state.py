"""The state of a run, derived from its files and its process."""

from collections.abc import Callable
from typing import Any

import pytest

from core.runs.events import (
    Final,
    Phase,
)
from core.runs.status import Status
from core.runs.store import read_run, run_state
from core.system.process import current_process

MakeRun = Callable[..., Any]
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
    assert read_run(run.paths).state == "damaged"
    run.result()
    assert read_run(run.paths).state == "done"
    assert run_state(run.paths) == "done"


def test_states_know_whether_a_trainer_is_at_work() -> None:
    active = {s for s in Status if s.active}
    assert active == {"starting", "training", "evaluating", "checkpointing", "saving", "finishing", "stalled"}
    assert {s for s in Status if s.broken} == {"diverged", "stopped_early", "out_of_memory", "failed"}
