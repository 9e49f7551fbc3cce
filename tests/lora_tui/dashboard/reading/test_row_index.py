"""Figures of ended runs that were kept: they hold as long as files, thresholds and program do, and hide nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder

from core.runs.paths import RunsFolder
from core.runs.row import Row
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.reading.row_index import RowIndex, first_rows
from lora_tui.dashboard.reading.snapshots import Board, Want

Make = Callable[..., Any]


@pytest.fixture
def runs(tmp_path: Path) -> RunsFolder:
    return RunsFolder(tmp_path / "runs", tmp_path / "runs")


def read_all(runs: RunsFolder, want: Want | None = None) -> Board:
    source = FolderSource(runs, None)
    board = source.read(want or Want())
    while source.pending:
        board = source.read(want or Want())
    source.read(want or Want())
    return board


def age(runs: RunsFolder) -> None:
    """Figures of files that are younger than two seconds are not kept: these are an hour old."""
    for path in runs.root.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (time.time() - 3600,) * 2)


def figures(board: Board) -> list[Row]:
    return sorted(board.rows, key=lambda row: row.id)


def test_what_was_kept_is_what_is_read(runs: RunsFolder, make_run: Make) -> None:
    make_run("2.1", "0123456789").train(1000).finish()
    make_run("2.2", "1123456789").train(400).finish()
    age(runs)
    read = read_all(runs)
    assert runs.board_index.exists()
    first = first_rows(runs, RowIndex(runs.board_index))
    assert figures(first) == figures(read)
    assert figures(read_all(runs)) == figures(read)  # by the index, then by the source


def test_a_run_that_goes_on_is_read_anew(runs: RunsFolder, make_run: Make) -> None:
    run = make_run().train(1000).finish()
    age(runs)
    read_all(runs)
    document = json.loads(run.paths.result.read_text())
    run.paths.result.unlink()
    [row] = first_rows(runs, RowIndex(runs.board_index)).rows
    assert row.status == "…" and row.figures.domain.now is None
    [row] = read_all(runs).rows
    assert row.status != "done"
    run.paths.result.write_text(json.dumps(document))
    assert [row.status for row in read_all(runs).rows] == ["done"]


def test_a_run_that_trains_is_never_kept(runs: RunsFolder, make_run: Make) -> None:
    make_run().train(400)
    age(runs)
    [read] = read_all(runs).rows
    assert read.active
    [row] = first_rows(runs, RowIndex(runs.board_index)).rows
    assert row.status == "…"


def test_another_program_and_rubbish_hold_nothing(runs: RunsFolder, make_run: Make) -> None:
    make_run().train(1000).finish()
    age(runs)
    read_all(runs)
    document = json.loads(runs.board_index.read_text())
    for text in (json.dumps(document | {"program": "another"}), "[1]", "{", json.dumps(document | {"runs": 3})):
        runs.board_index.write_text(text)
        assert len(RowIndex(runs.board_index)) == 0
    [name] = document["runs"]
    for entry in (3, {}, document["runs"][name] | {"row": {}}, document["runs"][name] | {"stamps": None}):
        runs.board_index.write_text(json.dumps(document | {"runs": {name: entry}}))
        assert [row.status for row in first_rows(runs, RowIndex(runs.board_index)).rows] == ["…"]
        assert [row.word for row in read_all(runs).rows] == ["accepted"]


def test_other_thresholds_judge_anew(runs: RunsFolder, make_run: Make, folder: PlanFolder) -> None:
    run = make_run().train(1000).finish()
    age(runs)
    read_all(runs)
    config = json.loads(run.paths.config.read_text())
    run.paths.config.write_text(json.dumps(config | {"gate": {"domain_gain": 30.0}}))
    assert [row.word for row in read_all(runs).rows] == ["rejected"]


def test_the_selected_run_is_read_whole(runs: RunsFolder, make_run: Make) -> None:
    run = make_run().train(1000).finish()
    age(runs)
    read_all(runs)
    board = read_all(runs, Want(f"run:{run.paths.name}"))
    assert board.selected is not None and len(board.selected.snapshot.steps) == 1000
    assert board.selected.verdict.decision.value == board.rows[0].word
