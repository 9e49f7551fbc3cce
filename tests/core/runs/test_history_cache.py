"""The folded history that is kept beside the runs: the same as reading it all, or not believed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.runs import fold, store
from core.runs.events import AdapterSaved, CheckpointSaved, Notice
from core.runs.store import RunFollower, read_run

MakeRun = Callable[..., Any]


@pytest.fixture(autouse=True)
def short_histories_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_WORTH_KEEPING", 1)


def recorded(run: Any) -> Any:
    run.start()
    run.interval(0, 40, 4, loss=math.nan)
    run.step(*range(1, 50))
    run.event(Notice("info", "a notice"), CheckpointSaved(40), AdapterSaved(40, "ab", True))
    run.start(40)
    run.step(41, 42, loss=math.inf)
    return run


def same(a: Any, b: Any) -> bool:
    columns = [(getattr(a.steps, n), getattr(b.steps, n)) for n in ("step", "loss", "tokens", "seconds")]
    texts = [
        repr((s.attempts, s.intervals, s.checkpoints, s.adapters, s.notices, s.phase, s.last_event_time, s.progress))
        for s in (a, b)
    ]
    return texts[0] == texts[1] and all(x.tobytes() == y.tobytes() for x, y in columns)


def keep(run: Any, cache: Path) -> None:
    follower = RunFollower(run.paths, cache)
    follower.refresh()
    assert follower.keep() and cache.is_file()


def test_what_was_kept_is_what_reading_it_all_gives_and_new_lines_are_read_on(
    fake_run: MakeRun, tmp_path: Path
) -> None:
    run, cache = recorded(fake_run()), tmp_path / "cache" / "x.steps"
    keep(run, cache)
    assert fold.load(cache, run.paths.events) is not None
    assert same(RunFollower(run.paths, cache).refresh(), read_run(run.paths))
    run.step(43)
    run.start(41)
    run.step(42, 43)
    assert same(RunFollower(run.paths, cache).refresh(), read_run(run.paths))


def test_a_kept_history_saves_the_reading(fake_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, cache = recorded(fake_run()), tmp_path / "x.steps"
    keep(run, cache)
    folded: list[int] = []
    monkeypatch.setattr(store.History, "add_block", lambda self, block: folded.append(len(block)))
    assert RunFollower(run.paths, cache).refresh().steps_completed == 42
    assert folded == []


@pytest.mark.parametrize("settled", [False, True])
def test_other_events_of_the_same_length_are_not_confused_with_those_kept(
    fake_run: MakeRun, tmp_path: Path, settled: bool
) -> None:
    run, cache = recorded(fake_run()), tmp_path / "x.steps"
    if settled:
        os.utime(run.paths.events, (time.time() - 60,) * 2)
    keep(run, cache)
    with run.paths.events.open("r+b") as file:
        text = file.read()
        file.seek(text.index(b'"loss": 1.0'))
        file.write(b'"loss": 9.0')
    read = RunFollower(run.paths, cache).refresh()
    assert read.steps.loss[0] == 9.0 and same(read, read_run(run.paths))


@pytest.mark.parametrize("harm", ["cut", "flip", "header", "empty", "foreign", "length", "folder"])
def test_a_cache_that_is_not_whole_is_read_around(fake_run: MakeRun, tmp_path: Path, harm: str) -> None:
    run, cache = recorded(fake_run()), tmp_path / "x.steps"
    keep(run, cache)
    whole = cache.read_bytes()
    broken = {
        "cut": whole[:-9],
        "flip": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
        "header": whole[:40] + b"\xff\xff\xff" + whole[43:],
        "empty": b"",
        "foreign": b"hello" * 100,
        "length": whole[:17] + b"\xff" * 8 + whole[25:],
    }
    cache.unlink()
    if harm == "folder":
        cache.mkdir()
    else:
        cache.write_bytes(broken[harm])
    assert fold.load(cache, run.paths.events) is None
    assert same(RunFollower(run.paths, cache).refresh(), read_run(run.paths))


def test_a_new_file_in_the_place_of_the_old_one_is_read_anew(fake_run: MakeRun, tmp_path: Path) -> None:
    run, cache = recorded(fake_run()), tmp_path / "x.steps"
    keep(run, cache)
    lines = run.paths.events.read_bytes().splitlines(keepends=True)
    other = run.paths.events.with_name("other")
    other.write_bytes(b"".join(lines[:20]))
    other.replace(run.paths.events)
    assert same(RunFollower(run.paths, cache).refresh(), read_run(run.paths))


def test_where_it_cannot_be_written_nothing_happens(fake_run: MakeRun, tmp_path: Path) -> None:
    run = recorded(fake_run())
    (tmp_path / "file").write_text("")
    follower = RunFollower(run.paths, tmp_path / "file" / "x.steps")
    follower.refresh()
    follower.keep()
    assert same(follower.refresh(), read_run(run.paths))


def test_a_long_history_is_read_in_pieces(fake_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = recorded(fake_run())
    monkeypatch.setattr(store, "_CHUNK", 300)
    follower = RunFollower(run.paths)
    rounds = 1
    while not follower.advance(0.0):
        rounds += 1
        assert 0 < follower.share_read < 1
    assert rounds > 10 and same(follower.refresh(), read_run(run.paths))
