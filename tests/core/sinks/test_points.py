"""Points of a run for a sink: each once, in order, whatever was resumed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from event_file import records, scalars

from core.runs.store import RunFollower, read_run
from core.sinks.sink import Cursor, facts, news, opener, send_once

MakeRun = Callable[..., Any]


def test_points_come_once_and_in_order(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    run.interval(0, 300, 30)
    run.step(1, 2)
    follower = RunFollower(run.paths)
    points, cursor = news(follower.refresh(), Cursor())
    assert [point.step for point in points] == [0, 1, 2] and points[0].values["domain/wer"] == 50.0
    assert points[1].values["train/loss"] == 1.0 and points[2].time > points[1].time
    assert news(follower.refresh(), cursor) == ([], cursor)
    run.step(3, loss=math.nan)
    run.interval(3, 200, 30)
    [point], cursor = news(follower.refresh(), cursor)
    assert point.step == 3 and math.isnan(point.values["train/loss"]) and point.values["heldout/wer"] == 5.0
    run.start(resumed_from=1)
    run.step(2, 3)
    assert news(follower.refresh(), cursor)[0] == [], "what was sent stays sent"
    run.step(4)
    assert [point.step for point in news(follower.refresh(), cursor)[0]] == [4]


def test_a_run_without_events_has_no_points(fake_run: MakeRun) -> None:
    assert news(read_run(fake_run().paths), Cursor())[0] == []


def test_settings_are_flat(fake_run: MakeRun) -> None:
    found = facts(read_run(fake_run().paths))
    assert found["train.learning_rate"] == 1e-4 and found["adapter.method"] == "dora" and found["identity"]


def test_tensorboard_files_hold_every_value(fake_run: MakeRun, tmp_path: Path) -> None:
    from tensorboardX.proto import event_pb2

    run = fake_run().good()
    assert send_once(run.paths, opener("tensorboard"), tmp_path / "tb") == 5
    [file] = (tmp_path / "tb").glob("events.out.tfevents.*")
    events = [event_pb2.Event.FromString(record) for record in records(file)]
    scalars = {(value.tag, event.step): value for event in events for value in event.summary.value}
    assert scalars["domain/wer", 1000].simple_value == pytest.approx(30.0)
    assert scalars["train/loss", 400].simple_value == pytest.approx(1.5)
    assert b"accepted" in scalars["verdict/text_summary", 0].tensor.string_val[0]


def test_a_reader_of_its_own_finds_every_point_and_good_checksums(fake_run: MakeRun, tmp_path: Path) -> None:
    """`tensorboard` itself is no dependency, for it brings a server: the files are read as their format is defined."""
    run = fake_run().good()
    send_once(run.paths, opener("tensorboard"), tmp_path / "tb")
    [file] = (tmp_path / "tb").glob("events.out.tfevents.*")
    found = scalars(file)
    assert [step for tag, step in found if tag == "domain/wer"] == [0, 400, 800, 900, 1000]
    assert found["heldout/wer", 1000] == pytest.approx(5.0)
    assert found["train/loss", 400] == pytest.approx(1.5)
    damaged = bytearray(file.read_bytes())
    damaged[-6] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(AssertionError):
        scalars(file)
