"""A recorded run, played: it looks as it did while it trained, and the recording stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import RunFolderError
from lora_tui.dashboard.reading.replay import ReplaySource
from lora_tui.dashboard.reading.snapshots import Want

Make = Callable[..., Any]


def test_a_run_is_played_from_its_first_step_to_its_verdict(make_run: Make, tmp_path: Path) -> None:
    run = make_run().train(1000).finish()
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    now = [100.0]
    replay = ReplaySource(run.paths.root, 10, lambda: now[0])
    want = Want(f"run:{run.paths.name}")
    try:
        assert replay.read(want).rows[0].figures.steps == 0
        now[0] += replay.length_s / 20
        half = replay.read(want)
        [row] = half.rows
        assert row.figures.steps is not None and 400 < row.figures.steps < 600 and row.status == "training"
        assert half.selected is not None and half.selected.so_far and "50 %" in half.replay
        assert "have no times" in half.selected.log_line
        now[0] += replay.length_s / 20 + 1
        whole = replay.read(want)
        assert whole.rows[0].status == "done" and whole.rows[0].word == "accepted"
        assert whole.selected is not None and whole.selected.log_line == "all is well"
        assert replay.read(want).selected is whole.selected
    finally:
        replay.close()
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_long_pauses_are_cut(make_run: Make) -> None:
    run = make_run().train(10)
    run.clock += 3600
    run.train(20)
    replay = ReplaySource(run.paths.root, 1)
    assert replay.length_s < 100
    replay.close()


def test_what_is_no_run_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="name a run folder"):
        ReplaySource(tmp_path, 1)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunFolderError, match="no event"):
        ReplaySource(tmp_path, 1)
