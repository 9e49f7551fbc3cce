"""A finished run is folded once, however often it is asked for, and anew when anything about it changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from waiting import clock_tick

from core.runs import store
from core.runs.events import Final
from core.runs.paths import RunPaths
from core.runs.store import read_run
from core.system.files import write_json

MakeRun = Callable[..., Any]


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[RunPaths]:
    """The runs whose events were read."""
    paths: list[RunPaths] = []

    class Counting(store.RunFollower):
        def __init__(self, run: RunPaths) -> None:
            paths.append(run)
            super().__init__(run)

    monkeypatch.setattr(store, "RunFollower", Counting)
    return paths


def test_a_finished_run_is_folded_once(fake_run: MakeRun, folded: list[RunPaths]) -> None:
    run = fake_run().good()
    first, second = read_run(run.paths), read_run(run.paths)
    assert first.state == second.state == "done" and len(folded) == 1
    assert second.intervals == first.intervals and second.alive is True


def test_whether_its_process_lives_is_looked_at_each_time(fake_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fake_run().good()
    assert read_run(run.paths).alive is True
    monkeypatch.setattr(store, "is_alive", lambda process: False)
    assert read_run(run.paths).alive is False


@pytest.mark.parametrize("what", ["events", "config", "result"])
def test_a_change_is_seen(fake_run: MakeRun, what: str) -> None:
    run = fake_run().good()
    read_run(run.paths)
    clock_tick()
    if what == "events":
        run.event(Final("done", message="once more"))
        final = read_run(run.paths).final
        assert final is not None and final.message == "once more"
    elif what == "config":
        write_json(run.paths.config, {"title": "another"})
        assert read_run(run.paths).title == "another"
    else:
        run.paths.result.unlink()
        assert read_run(run.paths).state != "done"


def test_a_result_that_cannot_be_read_is_no_end(fake_run: MakeRun, folded: list[RunPaths]) -> None:
    run = fake_run().good()
    run.paths.result.write_text("{")
    snapshot = read_run(run.paths, now=run.time)
    assert snapshot.state != "done" and any("not JSON" in problem for problem in snapshot.problems)
