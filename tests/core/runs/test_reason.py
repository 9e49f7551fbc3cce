"""Why a run is in its state: a restart, another host and another container are told from a crash."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from core.runs.events import Final, Phase
from core.runs.snapshot import reason
from core.runs.store import read_run, state_and_reason
from core.system.process import current_process

MakeRun = Callable[..., Any]
DEAD = {"start_time": 1}


def clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def told(run: Any, silence_s: float = 0.0) -> tuple[str, str]:
    snapshot = read_run(run.paths, now=run.time + silence_s)
    return str(snapshot.state), reason(snapshot).replace(clock(run.time), "THEN")


@pytest.mark.parametrize(
    ("process", "silence_s", "state", "why"),
    [
        ({}, 0, "training", ""),
        ({}, 61, "stalled", "its trainer has been silent since THEN"),
        (DEAD, 0, "crashed", "its trainer was killed or died without a word while it was training at step 1"),
        ({"boot": "b"}, 0, "crashed", "the machine was restarted while it was training at step 1"),
        ({"machine": "m"}, 0, "training", "its trainer is on another machine: only its events tell"),
        ({"machine": "m"}, 90, "stalled", "its trainer, on another machine, has been silent since THEN"),
        (
            {"machine": "m"},
            1200,
            "crashed",
            "its trainer is on another machine, and has given no sign of life since THEN",
        ),
        ({"pid_namespace": "pid:[1]"}, 0, "training", "its trainer is in another container: only its events tell"),
        (
            {"pid_namespace": "pid:[1]"},
            9000,
            "crashed",
            "its trainer is in another container, and has given no sign of life since THEN",
        ),
    ],
)
def test_who_is_meant(fake_run: MakeRun, process: dict[str, Any], silence_s: float, state: str, why: str) -> None:
    run = fake_run()
    run.start(process=current_process().to_json() | process)
    run.event(Phase("training"))
    run.step(1)
    assert told(run, silence_s) == (state, why)


def test_the_last_word_is_the_reason(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start(process=current_process().to_json() | DEAD)
    run.event(Final("diverged", "step 3: loss nan"))
    assert told(run) == ("diverged", "step 3: loss nan")
    assert state_and_reason(run.paths) == ("diverged", "step 3: loss nan")


def test_nothing_has_no_reason(fake_run: MakeRun) -> None:
    assert told(fake_run()) == ("queued", "")
